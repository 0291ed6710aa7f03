"""Sources, stored smoke runs, table of contents and the runner belong together."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

import execute
from dfsae.data import ROOT

SMOKE = ROOT / "tests" / "smoke"
SOURCES = execute.sources()


def test_every_source_has_a_stored_run_and_a_place_in_the_book():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    in_toc = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    names = [source.stem for source in SOURCES]
    assert [Path(file).stem for file in in_toc if file.startswith("notebooks/")] == names
    assert sorted(path.stem for path in SMOKE.glob("*.ipynb")) == names
    for file in in_toc:
        assert (ROOT / f"{file}.md").is_file(), f"{file} is in _toc.yml and not in the repository"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_stored_run_is_fresh_and_complete(source):
    stored = nbformat.read(SMOKE / f"{source.stem}.ipynb", as_version=4)
    wanted = execute.read(source, "smoke")
    assert [cell.source for cell in stored.cells] == [cell.source for cell in wanted.cells], \
        "the stored run is older than its source; renew it with: make smoke"
    for cell in stored.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None, f"{cell.id} was never executed"
            assert not any(out.output_type == "error" for out in cell.outputs)
    assert execute.outcomes(SMOKE / f"{source.stem}.ipynb"), "a chapter without a single check"


def test_every_figure_has_alt_text_and_a_caption():
    for source in SOURCES:
        blocks = source.read_text().split("```{glue:figure}")[1:]
        for block in blocks:
            body = block.split("```")[0]
            assert ":alt:" in body and ":name:" in body, f"{source.stem}: {body[:40]}"
            caption = [line for line in body.splitlines()[1:] if line and not line.startswith(":")]
            assert caption, f"{source.stem}: figure {body.splitlines()[0]} has no caption"


def write_notebook(folder: Path, code: str, tag: str = "parameters") -> Path:
    path = folder / "99_trial.md"
    header = SOURCES[0].read_text().split("---\n")[1]
    path.write_text(f"---\n{header}---\n\n```{{code-cell}} ipython3\n:tags: [{tag}]\n\n"
                    f'profile = "quick"\n```\n\n```{{code-cell}} ipython3\n{code}\n```\n')
    return path


def test_runner_passes_the_profile_and_leaves_one_whole_file(tmp_path):
    code = "import sys; from IPython.display import SVG, display\nprint('bar', file=sys.stderr)\n" \
           "print(profile)\ndisplay(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))"
    source = write_notebook(tmp_path, code)
    execute.execute(source, "smoke", tmp_path / "99_trial.ipynb")
    done = nbformat.read(tmp_path / "99_trial.ipynb", as_version=4)
    printed, shown = done.cells[1].outputs
    assert printed.text == "smoke\n" and shown.data.keys() == {"text/plain"}
    assert [cell.source for cell in done.cells] == ['profile = "smoke"', code]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["99_trial.ipynb", "99_trial.md"]
    assert execute.is_current(tmp_path / "99_trial.ipynb", execute.fingerprint(source, "smoke"))
    assert not execute.is_current(tmp_path / "99_trial.ipynb", execute.fingerprint(source, "quick"))


def test_a_changed_criterion_executes_the_notebooks_again(tmp_path, monkeypatch):
    source = write_notebook(tmp_path, "pass")

    def inputs(**entry):
        known = {"claims": [{"id": "5.2 B", **entry}], "findings": [{"id": "thm-x"}]}
        monkeypatch.setattr(execute.claims, "ledger", lambda: known)
        return execute.fingerprint(source, "smoke")

    before = inputs(criteria={"x": {"equals": 0}}, quote="words")
    assert before == inputs(criteria={"x": {"equals": 0}}, quote="other words") != inputs(criteria={"x": {"equals": 1}})


@pytest.mark.parametrize("path, smoke, paper", [
    ("dfsae/metrics.py", True, True), ("dfsae/experiments/drift.py", True, True), ("book/published.json", True, True),
    ("results/benchmarks.json", True, True), ("results/scaling.json", True, True), ("dfsae/book.mplstyle", True, True),
    ("results/full/drift.json", True, True),
    ("results/paper/ablation.json", True, False), ("results/paper/times.json", True, False),  # which the profile itself makes
    ("results/paper/checks.json", False, False), ("results/smoke/ablation.json", False, False), ("README.md", False, False)])
def test_a_notebook_is_executed_again_after_a_change_of_what_it_reads(path, smoke, paper, tmp_path, monkeypatch):
    source = write_notebook(tmp_path, "pass")
    for name in ("dfsae/metrics.py", "dfsae/experiments/drift.py", "book/published.json", "results/benchmarks.json",
                 "results/scaling.json", "dfsae/book.mplstyle", "results/full/drift.json", "results/paper/ablation.json", path):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "RESULTS", tmp_path / "results")
    before = [execute.fingerprint(source, profile) for profile in ("smoke", "paper")]
    (tmp_path / path).write_text("2")
    after = [execute.fingerprint(source, profile) for profile in ("smoke", "paper")]
    assert [old != new for old, new in zip(before, after, strict=True)] == [smoke, paper]


def test_a_ledger_with_a_mistake_ends_the_run_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(execute.claims, "ledger", lambda: {"sentences": {}, "claims": []})
    monkeypatch.setattr(execute, "run_experiments", lambda _: pytest.fail("started"))
    monkeypatch.setattr(sys, "argv", ["execute.py", "--output", str(tmp_path)])
    with pytest.raises(ValueError, match="'findings' is a required property"):
        execute.main()


@pytest.mark.parametrize("code, error", [("assert 1 == 2", "AssertionError"), ("while True: pass", "timed out")])
def test_a_cell_that_fails_or_hangs_fails_the_run(code, error, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "CELL_SECONDS", 2)
    source = write_notebook(tmp_path, code)
    with pytest.raises(Exception, match=error):
        execute.execute(source, "smoke", tmp_path / "99_trial.ipynb")
    assert list(tmp_path.iterdir()) == [source]


def test_notebook_without_parameters_cell_is_refused(tmp_path):
    with pytest.raises(ValueError, match="exactly one cell tagged 'parameters'"):
        execute.read(write_notebook(tmp_path, "pass", tag="other"), "smoke")


def test_a_glued_figure_is_written_for_pages_that_are_no_notebooks(tmp_path, monkeypatch):
    def glued(name, kind, content):
        return nbformat.v4.new_output("display_data", {kind: content}, metadata={"scrapbook": {"name": name}})

    svg = "application/papermill.record/image/svg+xml"
    cells = [nbformat.v4.new_markdown_cell("text"), nbformat.v4.new_code_cell("", outputs=[
        glued("other", svg, "<svg>other</svg>"), glued("number", "application/papermill.record/text/plain", "7"),
        glued("fig_landing", svg, "<svg>this</svg>"), nbformat.v4.new_output("stream", text="printed")])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "99_trial.ipynb")
    monkeypatch.setattr(execute.ledger, "GENERATED", tmp_path / "generated")
    execute.write_figure(tmp_path / "99_trial.ipynb", "fig_landing")
    assert (tmp_path / "generated" / "fig_landing.svg").read_text() == "<svg>this</svg>"
    with pytest.raises(KeyError, match="number"):
        execute.write_figure(tmp_path / "99_trial.ipynb", "number")


def test_peak_memory_is_that_of_all_processes_together():
    with execute.PeakMemory() as alone:
        pass
    with execute.PeakMemory() as peak:
        subprocess.run([sys.executable, "-c", "import time; block = b'x' * (300 << 20); time.sleep(3)"], check=True)
    assert alone.mib > 0 and 250 < peak.mib - alone.mib < 600


def test_times_are_summed_over_the_runs(tmp_path, monkeypatch):
    def result(name, _):
        runs = [{"seconds": 30.0, "train_seconds": 20.0}, {"seconds": 12.0, "train_seconds": 10.0}]
        return {"runs": runs, "provenance": {"seconds": 42.0, "call": {"wall_seconds": 33.3, "runs": 5, "processes": 2}}}

    monkeypatch.setattr(execute, "load", result)
    monkeypatch.setattr(execute, "RESULTS", tmp_path)
    monkeypatch.setattr(execute.ledger, "GENERATED", tmp_path / "generated")
    execute.write_times("quick", [["experiments", 60.5], ["notebooks", 90.0]], 2345)
    page, written = (tmp_path / "generated" / "times.md").read_text(), json.loads((tmp_path / "quick" / "times.json").read_text())
    assert "| together | 150.5 |" in page and "was 2345 MiB" in page and ": 5 in 33 seconds of wall time by 2 processes." in page
    for name in execute.EXPERIMENTS:
        assert f"| {name} | 2 | 30.0 | 12.0 |" in page
        assert written["experiments"][name] == {"runs": 2, "training": 30.0, "evaluation": 12.0}
    assert written["stages"] == {"experiments": 60.5, "notebooks": 90.0} and written["peak_mib"] == 2345
    # The results were there: the page is of the new execution, the file of the one that made them.
    execute.write_times("quick", [["experiments", 0.4], ["notebooks", 80.0]], 1234)
    assert "| together | 80.4 |" in (tmp_path / "generated" / "times.md").read_text()
    assert json.loads((tmp_path / "quick" / "times.json").read_text()) == written


def test_unknown_profile_is_refused():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "execute.py", "--profile", "papper"],
                          capture_output=True, text=True)
    assert done.returncode != 0 and "invalid choice: 'papper'" in done.stderr
