"""Records: whole or absent, resumed after an interruption, renewed after a change."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from math import inf, isnan, nan

import numpy as np
import pytest
import torch
from scipy import stats

from dfsae import records
from dfsae.experiments import EXPERIMENTS


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "criteria_hashes", lambda experiment: {})
    return tmp_path / "results"


@pytest.fixture
def package_copy(tmp_path, monkeypatch):
    """A copy of the package, which a test may change."""
    folder = tmp_path / "root" / "dfsae"
    shutil.copytree(records.ROOT / "dfsae", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(records, "ROOT", tmp_path / "root")
    return folder


class Runner:
    """Stands in for training: keeps what it ran, and fails at a chosen seed."""

    def __init__(self, fail_at=None, error=RuntimeError):
        self.fail_at, self.error, self.groups = fail_at, error, []

    def __call__(self, experiment, specs):
        seeds = [spec["seed"] for spec in specs]
        if self.fail_at in seeds:
            raise self.error("interrupted")
        self.groups.append(seeds)
        return [{"metrics": {"score": 10.0 * seed}, "history": {"total": [1.0]}, "seconds": 0.5} for seed in seeds]

    @property
    def seeds(self):
        return sum(self.groups, [])


def specs(*seeds, **settings):
    return [{"name": "A", "seed": seed, **settings} for seed in seeds]


def pairs(specs):
    """Groups of at most two."""
    return [specs[start:start + 2] for start in range(0, len(specs), 2)]


def run_all(plan, runner, profile="smoke", workers=1, data=None):
    return records.run_all(plan, profile, runner, groups=pairs, data=data or {}, workers=workers)


def go(runner, *args, **settings):
    return run_all({"trial": specs(*args, **settings)}, runner)["trial"]


# Writing

def test_write_is_readable_and_leaves_one_file(tmp_path):
    path = tmp_path / "new" / "folder" / "record.json"
    for content in ({"a": 1}, {"b": [None, 2.5]}):
        records.write_json(path, content)
        assert json.loads(path.read_text()) == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content, line", [
    ({"a": [1, -2.5, 3e-07, None]}, ' "a": [ 1, -2.5, 3e-07, null ]'),
    ({"a": [[0.5, 1.0], [2.0, 3.0]]}, "  [ 0.5, 1.0 ],"),
    ({"a": ["1", "2"]}, '  "1",'), ({"a": [{"b": 1}]}, '   "b": 1'),
])
def test_a_list_of_numbers_is_on_one_line(content, line, tmp_path):
    records.write_json(tmp_path / "record.json", content)
    text = (tmp_path / "record.json").read_text()
    assert line in text.splitlines() and json.loads(text) == content


@pytest.mark.parametrize("text", ["a list: [1, 2]", "[1,  2] [ null ]", "[\n 1,\n 2\n]"])
def test_strings_are_left_alone(text, tmp_path):
    records.write_json(tmp_path / "record.json", {text: [text]})
    assert json.loads((tmp_path / "record.json").read_text()) == {text: [text]}


@pytest.mark.parametrize("content", [{"a": nan}, {"a": inf}, {"a": {1, 2}}])
def test_what_json_cannot_hold_leaves_the_old_file(content, tmp_path):
    path = tmp_path / "record.json"
    records.write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        records.write_json(path, content)
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    records.write_json(path, {"old": 1})

    def write_half(self, text):
        with self.open("w") as file:
            file.write(text[:len(text) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(records.Path, "write_text", write_half)
    with pytest.raises(OSError, match="no space left"):
        records.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert not list(tmp_path.glob("[!.]*.json.*")), "a part must not look like a record"


# Running

def test_result_holds_every_run_with_its_provenance(results):
    result = go(Runner(), 1, 2)
    assert result == records.load("trial", "smoke") == json.loads((results / "smoke" / "trial.json").read_text())
    assert [run["seed"] for run in result["runs"]] == [1, 2]
    assert result["runs"][0] == {"experiment": "trial", "spec": {"name": "A", "seed": 1}, "seed": 1,
                                 "metrics": {"score": 10.0}, "history": {"total": [1.0]}, "seconds": 0.5}
    about = result["provenance"]
    assert about["profile"] == "smoke" and about["code"] == records.code_fingerprint("trial")
    assert about["seconds"] == 1.0 and about["threads"] >= 1 and about["cpu"]
    assert about["call"].keys() == {"wall_seconds", "runs", "processes"} and about["call"]["wall_seconds"] >= 0
    assert about["call"]["runs"] == 2 and about["call"]["processes"] == 1
    assert about["versions"].keys() == {"torch", "torchvision", "numpy", "scipy", "scikit-learn"}
    assert about["commit"] == "unknown" or len(about["commit"]) == 40


def test_the_provenance_holds_the_criteria_as_they_were_when_the_runs_were_made(results, monkeypatch):
    def go_with(hashes, *seeds):
        monkeypatch.setattr(records, "criteria_hashes", {"trial": hashes}.get)
        return go(Runner(), *seeds)

    first = go_with({"5.2 A": "a", "5.2 B": "b", "5.2 C": "c"}, 1, 2)
    assert first["provenance"]["criteria"] == {"5.2 A": "a", "5.2 B": "b", "5.2 C": "c"}
    assert not any("criteria" in run for run in first["runs"])
    # Nothing runs anew, so a criterion changed or written afterwards shows.
    changed = {"5.2 A": "a", "5.2 B": "another", "5.2 D": "d"}
    assert go_with(changed, 1, 2)["provenance"] == first["provenance"]
    last = go_with(changed, 1, 2, 3)
    assert last["provenance"]["criteria"] == \
        {"5.2 A": "a", "5.2 B": "changed between runs", "5.2 C": "changed between runs"}
    assert last == records.load("trial", "smoke") and not any("criteria" in run for run in last["runs"])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_experiment_goes_on_where_it_stopped(error, results):
    first = Runner(fail_at=3, error=error)
    with pytest.raises(error):
        go(first, 1, 2, 3, 4, 5)
    assert first.groups == [[1, 2]] and not (results / "smoke" / "trial.json").exists()
    second = Runner()
    assert [run["seed"] for run in go(second, 1, 2, 3, 4, 5)["runs"]] == [1, 2, 3, 4, 5]
    assert second.groups == [[3, 4], [5]], "groups of what is missing"
    third = Runner()
    go(third, 1, 2, 3, 4, 5)
    assert third.groups == []


def test_an_interruption_leaves_the_old_result(results):
    old = go(Runner(), 1)
    with pytest.raises(RuntimeError):
        go(Runner(fail_at=2), 1, 2)
    assert records.load("trial", "smoke") == old


def test_what_determines_a_run_makes_it_run_again(results, monkeypatch):
    go(Runner(), 1, 2, lr=0.1)

    def seeds_run(*args, **settings):
        runner = Runner()
        go(runner, *args, **settings)
        return runner.seeds

    assert seeds_run(1, 2, lr=0.2) == [1, 2], "another spec"
    assert seeds_run(1, 2, 3, lr=0.1) == [3], "a further seed only"
    monkeypatch.setattr(records, "version", lambda name: "0")
    assert seeds_run(1, lr=0.1) == [1], "other libraries"
    monkeypatch.setattr(records, "code_fingerprint", lambda experiment: "other code")
    assert seeds_run(1, lr=0.1) == [1], "other code"
    assert seeds_run(1, lr=0.1) == []


def test_other_data_make_a_run_run_again_and_are_in_the_provenance(results):
    plan = {"trial": specs(1, 2), "other": specs(3)}
    first = run_all(plan, Runner())
    assert first["trial"]["provenance"]["data"] is None
    runner = Runner()
    found = run_all(plan, runner, data={"trial": {"ids": "a"}})
    assert runner.seeds == [1, 2]
    assert (found["trial"]["provenance"]["data"], found["other"]["provenance"]["data"]) == ({"ids": "a"}, None)
    again = Runner()
    run_all(plan, again, data={"trial": {"ids": "b"}})
    run_all(plan, again, data={"trial": {"ids": "a"}})
    assert again.seeds == [1, 2], "each once"


def test_groups_of_every_experiment_run_the_longest_first(results):
    runner = Runner()
    found = run_all({"long": specs(1, 2, epochs=3) + specs(3, epochs=5), "no epochs": specs(4), "none": specs(5, epochs=0),
                     "longer": specs(6, epochs=10)}, runner)
    assert runner.groups == [[4], [6], [1, 2], [3], [5]]
    assert {name: [run["seed"] for run in result["runs"]] for name, result in found.items()} == \
        {"long": [1, 2, 3], "no epochs": [4], "none": [5], "longer": [6]}
    assert all(run["experiment"] == name for name, result in found.items() for run in result["runs"])
    assert [result["provenance"]["call"]["runs"] for result in found.values()] == [6] * 4, "of the whole call"
    assert [result["provenance"]["seconds"] for result in found.values()] == [1.5, 0.5, 0.5, 0.5], "of the runs"


def test_a_group_without_a_record_for_each_spec_is_an_error(results):
    with pytest.raises(ValueError, match="zip"):
        go(lambda experiment, specs: Runner()(experiment, specs[1:]), 1, 2)


def test_results_whose_runs_are_the_same_are_left_as_they_are(results, monkeypatch):
    first = go(Runner(), 1, 2)
    written = (results / "smoke" / "trial.json").stat().st_mtime_ns
    monkeypatch.setattr(records, "provenance", lambda profile, real=records.provenance: real(profile) | {"commit": "later"})
    again = run_all({"trial": specs(1, 2), "other": specs(3)}, Runner())
    assert again["trial"] == first and (results / "smoke" / "trial.json").stat().st_mtime_ns == written
    assert again["other"]["provenance"]["commit"] == "later" and again["other"]["provenance"]["call"]["runs"] == 1
    last = go(Runner(), 1, 2, 3)["provenance"]
    assert last["commit"] == "later" and last["call"]["runs"] == 1 and last["seconds"] == 1.5
    monkeypatch.setattr(records, "code_fingerprint", lambda experiment: "other code")
    assert go(Runner(), 1, 2, 3)["provenance"]["code"] == "other code", "made anew, though with the same outcome"


def test_results_that_lack_or_hold_other_runs_are_written_again(results):
    first, path = go(Runner(), 1, 2), results / "smoke" / "trial.json"
    assert [run["seed"] for run in go(Runner(), 1)["runs"]] == [1], "nothing ran, but there are fewer runs"
    assert records.load("trial", "smoke")["provenance"]["call"]["runs"] == 0
    path.unlink()
    runner = Runner()
    assert go(runner, 1, 2)["runs"] == first["runs"] and path.exists() and runner.groups == []


def one_thread(experiment, specs):
    return [{"metrics": {"threads": torch.get_num_threads(), "process": os.getpid()}, "history": {}, "seconds": 1}
            for _ in specs]


def test_workers_share_the_groups_with_one_thread_each(results):
    result = run_all({"trial": specs(1, 2, 3)}, one_thread, workers=2)["trial"]
    assert [run["seed"] for run in result["runs"]] == [1, 2, 3]
    assert records.values(result, "A", "threads") == [1, 1, 1]
    assert os.getpid() not in records.values(result, "A", "process")
    assert result["provenance"]["call"]["processes"] == 2


@pytest.fixture
def threads(monkeypatch):
    """Threads in place of processes, which take seconds to start."""
    def pool(workers, context, initializer, arguments):
        assert (context.get_start_method(), initializer, arguments) == ("spawn", torch.set_num_threads, (1,))
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(records, "ProcessPoolExecutor", pool)


@pytest.mark.parametrize("workers, seeds, processes", [
    (None, 9, 4), (None, 5, 3), (2, 5, 2), (8, 5, 3), (None, 2, 1), (None, 0, 1)])
def test_there_are_no_more_processes_than_groups_or_cores(workers, seeds, processes, results, threads, monkeypatch):
    monkeypatch.setattr(records, "cpu_count", lambda: 4)
    runner = Runner()
    result = run_all({"trial": specs(*range(seeds))}, runner, workers=workers)["trial"]
    assert sorted(runner.seeds) == list(range(seeds)) and result["provenance"]["call"]["processes"] == processes


def test_a_failure_in_another_process_is_raised_and_leaves_the_old_result(results, threads):
    old = go(Runner(), 1)
    with pytest.raises(RuntimeError, match="interrupted"):
        run_all({"trial": specs(1, 2, 3, 4, 5)}, Runner(fail_at=4), workers=2)
    assert records.load("trial", "smoke") == old


def test_after_a_failure_no_further_group_starts(results, threads):
    class Slow(Runner):
        def __call__(self, experiment, specs):
            records.time.sleep(0.02)
            return super().__call__(experiment, specs)

    runner = Slow(fail_at=0)
    with pytest.raises(RuntimeError, match="interrupted"):
        run_all({"trial": specs(*range(40))}, runner, workers=2)
    assert len(runner.groups) < 10


def test_profiles_and_experiments_do_not_share_runs(results):
    go(Runner(), 1)
    for experiment, profile in (("trial", "quick"), ("other", "smoke")):
        runner = Runner()
        run_all({experiment: specs(1)}, runner, profile)
        assert runner.seeds == [1]


# Reading

def test_a_missing_result_names_the_command(results):
    with pytest.raises(FileNotFoundError, match="trial.json is missing; make it with: make book PROFILE=paper"):
        records.load("trial", "paper")


def test_profiles_are_never_mixed(results):
    go(Runner(), 1)
    (results / "smoke").rename(results / "paper")
    with pytest.raises(ValueError, match="holds results of profile 'smoke'; profiles are never mixed"):
        records.load("trial", "paper")


def test_values_by_name_and_metric():
    runs = [{"spec": {"name": name}, "metrics": {"score": score}}
            for name, score in [("A", 1.0), ("B", 5.0), ("A", None), ("A", 3)]]
    result = {"experiment": "trial", "runs": runs}
    first, second, third = records.values(result, "A", "score")
    assert (first, third) == (1.0, 3) and isnan(second)
    assert records.values(result, "B", "score") == [5.0]
    with pytest.raises(KeyError, match="no run named 'C' in experiment 'trial'"):
        records.values(result, "C", "score")
    with pytest.raises(KeyError, match="loss"):
        records.values(result, "A", "loss")


@pytest.mark.parametrize("sample", [[1.0, 2.0], [93.4, 93.1, 93.9, 93.3, 93.45], [5.0, 5.0, 5.0]])
def test_interval_beside_scipy(sample):
    mean, half = records.interval(sample)
    spread = stats.sem(sample)
    low, high = stats.t.interval(0.95, len(sample) - 1, np.mean(sample), spread) if spread else (mean, mean)
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-12)  # a few roundings


def test_interval_of_one_value_and_of_an_undefined_one():
    mean, half = records.interval([4.0])
    assert mean == 4 and isnan(half)
    assert all(isnan(number) for number in records.interval([4.0, nan]))


def test_published_numbers_are_those_of_the_paper():
    identity = records.published()["identity"]
    assert identity["correlation"] == 1 and identity["max_abs_error"] == 4.47e-8


# Fingerprint

def test_fingerprint_ignores_comments_docstrings_and_layout(package_copy):
    before, path = records.code_fingerprint("ablation"), package_copy / "objective.py"
    text = path.read_text()
    assert '"""Eq. 1: ' in text
    path.write_text(text.replace('"""Eq. 1: ', '"""Other words: ').replace("\n\n\n", "\n\n# A comment.\n\n\n"))
    assert path.read_text() != text and records.code_fingerprint("ablation") == before


@pytest.mark.parametrize("name, old, new", [
    ("objective", "EPS = 1e-6", "EPS = 1e-5"), ("training", "batch_size: int = 128", "batch_size: int = 64"),
    ("metrics", "> threshold", ">= threshold"), ("data", "div_(255)", "div_(256)"),
    ("experiments/protocol", '"K": 64', '"K": 32'), ("encoder", "fan_in ** -0.5", "fan_in ** -1"),
    ("baselines", "l1: float = 0.01", "l1: float = 0.1"), ("experiments/codes", "0.1, 1.0)", "0.1, 10.0)"),
    ("experiments/ablation", "seeds=3", "seeds=4"),
])
def test_fingerprint_changes_with_the_code(name, old, new, package_copy):
    before, path = records.code_fingerprint("ablation"), package_copy / f"{name}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert records.code_fingerprint("ablation") != before


@pytest.mark.parametrize("name", ["checks", "claims", "plots", "records", "experiments/__init__", "experiments/benchmark"])
def test_fingerprint_is_of_what_the_experiment_imports(name, package_copy):
    before, path = {name: records.code_fingerprint(name) for name in EXPERIMENTS}, package_copy / f"{name}.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert [other for other in EXPERIMENTS if records.code_fingerprint(other) != before[other]] == \
        [other for other in EXPERIMENTS if name == f"experiments/{other}"]


def test_experiments_have_fingerprints_of_their_own_which_the_copy_has_too(request):
    before = [records.code_fingerprint(name) for name in EXPERIMENTS]
    assert len(set(before)) == len(EXPERIMENTS)
    request.getfixturevalue("package_copy")
    assert [records.code_fingerprint(name) for name in EXPERIMENTS] == before
