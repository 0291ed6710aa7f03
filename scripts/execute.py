"""Run the experiments, then execute the notebooks with papermill: text sources in, executed .ipynb out.

The experiments of all notebooks share one pool of processes; a notebook executed on its
own runs what it needs itself. Each notebook has one parameter, the profile. A notebook whose source, code, stored
results, criteria, library versions and profile have not changed is not executed again.
The outcomes of all checks go to ``results/<profile>/checks.json``, the verdicts that
follow from them to ``results/<profile>/claims.json``; a verdict that is not the expected
one, or a gap in the ledger, ends the run with an error.
"""

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
import papermill
import psutil
from joblib import cpu_count
from traitlets.config import Config

import ledger
from dfsae import claims
from dfsae.checks import MIME
from dfsae.data import ROOT
from dfsae.experiments import EXPERIMENTS, run_experiments
from dfsae.experiments.protocol import PROFILES
from dfsae.plots import markdown_table
from dfsae.records import RESULTS, load, provenance, write_json

SOURCES = ROOT / "notebooks"
# No cell takes a minute here; a kernel that hangs ends the run with an error.
CELL_SECONDS = 900
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib", "sympy", "papermill", "ipykernel")


def sources() -> list[Path]:
    """The text notebooks, in the order of the book."""
    return sorted(SOURCES.glob("[0-9]*.md"))


def read(source: Path, profile: str) -> nbformat.NotebookNode:
    """The notebook of a text source with its profile set and with stable cell ids.

    Raises ``ValueError`` unless exactly one cell is tagged "parameters" and it sets
    nothing but ``profile``.
    """
    notebook = jupytext.read(source, fmt="md:myst")
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{source} needs exactly one cell tagged 'parameters', has {len(tagged)}")
    if not tagged[0].source.strip().startswith('profile = "') or "\n" in tagged[0].source.strip():
        raise ValueError(f"{source}: the parameters cell must set profile, and nothing else")
    tagged[0].source = f'profile = "{profile}"'
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
    return notebook


def fingerprint(source: Path, profile: str) -> str:
    """Hash of everything that a notebook's outputs depend on."""
    digest = hashlib.sha256(profile.encode())
    inputs = [source, *sorted((ROOT / "dfsae").rglob("*.py")), ROOT / "book" / "published.json", ROOT / "dfsae" / "book.mplstyle",
              RESULTS / "benchmarks.json", RESULTS / "scaling.json", *sorted((RESULTS / "full").glob("*.json"))]
    if profile != "paper":
        inputs += sorted(path for path in (RESULTS / "paper").glob("*.json")
                         if path.stem not in ("checks", "claims"))
    for path in inputs:
        digest.update(path.read_bytes())
    entries = claims.ledger()["claims"] + claims.ledger()["findings"]
    digest.update(repr([(entry["id"], entry.get("criteria")) for entry in entries]).encode())
    digest.update(repr([(name, version(name)) for name in LIBRARIES]).encode())
    return digest.hexdigest()


def execute(source: Path, profile: str, output: Path) -> None:
    """Execute one notebook and put the result at ``output``, whole or not at all."""
    start = time.perf_counter()
    notebook = read(source, profile)
    with tempfile.TemporaryDirectory() as folder:
        # Sockets in this folder instead of ports, which others on the machine could open.
        channel = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        papermill.execute_notebook(notebook, f"{folder}/done.ipynb", parameters={"profile": profile},
                                   cwd=str(SOURCES), kernel_name="python3", log_output=False,
                                   progress_bar=False, stderr_file=sys.stderr, request_save_on_cell_execute=False,
                                   execution_timeout=CELL_SECONDS, config=channel)
        done = nbformat.read(f"{folder}/done.ipynb", as_version=4)
    done.cells = [cell for cell in done.cells
                  if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell, original in zip(done.cells, notebook.cells, strict=True):
        cell.id = original.id
        cell.metadata = original.metadata
    done.metadata.pop("papermill", None)
    done.metadata["dfsae"] = {"profile": profile, "inputs": fingerprint(source, profile)}
    if output.parent == SOURCES:
        done.metadata["dfsae"]["seconds"] = round(time.perf_counter() - start, 1)
    else:
        keep_what_is_compared(done)
    partial = output.with_name(f".{output.name}")
    nbformat.write(done, partial)
    partial.replace(output)


def keep_what_is_compared(notebook: nbformat.NotebookNode) -> None:
    """Drop images and progress bars, which nbval does not compare and which differ from run to run."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for out in cell.outputs:
                for kind in [kind for kind in out.get("data", {}) if "image/" in kind]:
                    del out.data[kind]


def is_current(output: Path, inputs: str) -> bool:
    """Whether an executed notebook exists and came from these inputs."""
    if not output.exists():
        return False
    return nbformat.read(output, as_version=4).metadata.get("dfsae", {}).get("inputs") == inputs


def outcomes(executed: Path) -> list[dict]:
    """All outcomes of checks and assessments that an executed notebook displays."""
    found = []
    for cell in nbformat.read(executed, as_version=4).cells:
        for out in cell.get("outputs", []):
            if MIME in out.get("data", {}):
                found.append({"notebook": executed.stem, "cell": cell.id, **out["data"][MIME]})
    return found


class PeakMemory:
    """Largest memory of this process and its children while the context is open, in MiB, looked at every second.

    Pages that several processes share count once (the proportional set size), where the
    system tells; else once for each.
    """

    def __enter__(self) -> "PeakMemory":
        self.mib, self._done = 0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_) -> None:
        self._done.set()
        self._watch.join()

    def _look(self) -> None:
        looking = True
        while looking:
            total = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_full_info()
                    total += getattr(memory, "pss", memory.rss)
            self.mib = max(self.mib, total // 2 ** 20)
            looking = not self._done.wait(1)


def write_times(profile: str, stages: list[list], mib: int) -> None:
    """Say where the time went: in a table, and in results/<profile>/times.json."""
    experiments, calls, longest = [], {}, 0.0
    for name in EXPERIMENTS:
        result = load(name, profile)
        call = result["provenance"]["call"]
        longest = max(longest, call["wall_seconds"])
        calls[f"{call['runs']} in {call['wall_seconds']:.0f} seconds of wall time by {call['processes']} processes"] = None
        trained = sum(run.get("train_seconds", 0) for run in result["runs"])
        experiments.append([name, len(result["runs"]), round(trained, 1),
                            round(result["provenance"]["seconds"] - trained, 1)])
    # An execution that found its results stored says nothing of what they took; the file of the one that made them stays.
    if dict(stages)["experiments"] >= longest:
        write_json(RESULTS / profile / "times.json", {
            "provenance": provenance(profile), "stages": dict(stages), "peak_mib": mib,
            "experiments": {name: {"runs": runs, "training": training, "evaluation": evaluation}
                            for name, runs, training, evaluation in experiments}})
    write_page("times", "\n\n".join([
        markdown_table(["this execution", "wall time, seconds"], [*stages, ["together", sum(time for _, time in stages)]]),
        f"Up to {cpu_count()} notebooks run at a time, each in a process of its own. Experiments whose results are stored, and "
        "notebooks with nothing new, are not run again, so wall times differ between executions and from sums over processes.",
        f"The largest memory of all processes together was {mib} MiB.",
        f"The runs of the experiments as they were made: {', and '.join(calls)}. "
        "Seconds of one thread, summed over the runs:",
        markdown_table(["experiment", "runs", "training", "evaluation"], experiments)]))


def write_summary(profile: str, executed: list[Path], checks: list[dict]) -> None:
    """Write checks.json, and what the pages say of the execution of this copy of the book."""
    about = provenance(profile)
    write_json(RESULTS / profile / "checks.json", {"provenance": about, "outcomes": checks})
    rows = []
    for path in executed:
        seconds = nbformat.read(path, as_version=4).metadata["dfsae"]["seconds"]
        kinds = [outcome["kind"] for outcome in checks if outcome["notebook"] == path.stem]
        rows.append([f"[](/notebooks/{path.name})", *map(kinds.count, ("check", "rejects", "refutes", "assess")), seconds])
    rows.append(["all", *(round(sum(column), 1) for column in list(zip(*rows))[1:])])
    changed = " with uncommitted changes" if about["uncommitted_changes"] else ""
    libraries = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    write_page("profile", f"This copy was executed with the profile **{profile}** at commit "
                          f"`{about['commit'][:12]}`{changed}.")
    header = ["notebook", "checks passed", "wrong variants rejected", "statements refuted", "assessments", "seconds of its process"]
    write_page("execution", f"CPU: {about['cpu']}, one thread a process. Python {about['python']}; {libraries}.\n\n"
               + markdown_table(header, rows))
    write_page("profiles", markdown_table(
        ["profile", "epochs", "seeds at most", "training images", "test images", "numbers"],
        [[f"`{name}`", size.epochs, size.most_seeds or "all", size.n_train or "all 60,000",
          size.n_test or "all 10,000", size.dtype] for name, size in PROFILES.items()]))


def write_verdicts(profile: str, checks: list[dict], *, with_pages: bool) -> list[str]:
    """Write claims.json, the pages or else the README's score; return what is wrong with the ledger."""
    rows, problems = ledger.judge(claims.ledger(), checks)
    write_json(RESULTS / profile / "claims.json", {"provenance": provenance(profile), "claims": rows})
    if with_pages:
        for name, text in ledger.pages(claims.ledger(), rows, checks).items():
            write_page(name, text)
    else:
        (ROOT / "README.md").write_text(ledger.readme_with(ledger.score(rows)))
    return problems


def write_figure(path: Path, key: str) -> None:
    """Write a figure that an executed notebook glued, for the pages that are no notebooks. Raises ``KeyError`` if it did not."""
    kind = "application/papermill.record/image/svg+xml"
    glued = {out.metadata.get("scrapbook", {}).get("name"): out.data[kind] for cell in nbformat.read(path, as_version=4).cells
             for out in cell.get("outputs", []) if kind in out.get("data", {})}
    ledger.GENERATED.mkdir(exist_ok=True)
    (ledger.GENERATED / f"{key}.svg").write_text(glued[key])


def write_page(name: str, text: str) -> None:
    """Write a generated part of a page."""
    ledger.GENERATED.mkdir(exist_ok=True)
    (ledger.GENERATED / f"{name}.md").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="quick", choices=sorted(PROFILES))
    parser.add_argument("--output", type=Path, default=SOURCES, help="folder of the executed notebooks")
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    executed = [options.output / f"{source.stem}.ipynb" for source in sources()]
    claims.validated(claims.ledger())

    def bring_up_to_date(source: Path, output: Path) -> None:
        if is_current(output, fingerprint(source, options.profile)):
            print(f"{source.stem}: unchanged", flush=True)
        else:
            print(f"{source.stem}: executing ({options.profile})", flush=True)
            execute(source, options.profile, output)

    with PeakMemory() as peak:
        start = time.perf_counter()
        run_experiments(options.profile)
        ready = time.perf_counter()
        # A notebook has a process of its own; the threads here only wait for it.
        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(bring_up_to_date, sources(), executed))
        done = time.perf_counter()
    stages = [["experiments", round(ready - start, 1)], ["notebooks", round(done - ready, 1)]]
    checks = [outcome for path in executed for outcome in outcomes(path)]
    if options.output == SOURCES:
        write_summary(options.profile, executed, checks)
        write_times(options.profile, stages, peak.mib)
        write_figure(options.output / "12_comparison.ipynb", "fig_landing")
    # A notebook whose source is gone must not linger in the book.
    for stale in set(options.output.glob("*.ipynb")) - set(executed):
        stale.unlink()
    problems = write_verdicts(options.profile, checks, with_pages=options.output == SOURCES)
    if problems:
        sys.exit("The ledger book/claims.yml and the checks disagree:\n  " + "\n  ".join(problems))


if __name__ == "__main__":
    main()
