"""``results/``: records of runs, written whole or not at all, with their provenance.

One trained model is one record: experiment, configuration (all that determines it),
seed, metrics by name, history, seconds. Tables and figures are functions of records.
"""

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from importlib.metadata import version
from math import inf
from multiprocessing import get_context
from pathlib import Path

import torch
from joblib import cpu_count
from scipy import stats
from tqdm import tqdm

from dfsae.claims import criteria_hashes
from dfsae.data import ROOT

RESULTS = ROOT / "results"


def write_json(path: Path, content: dict) -> None:
    """Write ``content`` atomically: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(content, indent=1, allow_nan=False)
    # A list of numbers stays on one line.
    text = re.sub(r"\[\n[-+.\dena\s,ul]+\]", lambda numbers: " ".join(numbers[0].split()), text)
    partial.write_text(text + "\n")
    partial.replace(path)


def code_of(experiment: str) -> dict[str, ast.Module]:
    """The module of an experiment and every module of ``dfsae`` that it imports, directly or not, by name."""
    found: dict[str, ast.Module] = {}
    waiting = [f"dfsae.experiments.{experiment}"]
    while waiting:
        name = waiting.pop()
        path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if name not in found and path.exists():
            found[name] = ast.parse(path.read_text())
            for node in ast.walk(found[name]):
                if isinstance(node, ast.ImportFrom):
                    waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def code_fingerprint(experiment: str) -> str:
    """Hash of the code that determines the runs of an experiment; comments and docstrings do not count."""
    digest = hashlib.sha256()
    for _, tree in sorted(code_of(experiment).items()):
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [item for item in body if not _is_string(item)]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def _is_string(node: ast.AST) -> bool:
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str))


def provenance(profile: str) -> dict:
    """Profile, commit, versions, CPU and threads."""
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    names = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")
    return {
        "profile": profile,
        "commit": git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(git("status", "--porcelain", "--", "dfsae", "notebooks")),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def run_all(plan: dict[str, list[dict]], profile: str, run: Callable[[str, list[dict]], list[dict]], *,
            groups: Callable[[list[dict]], list[list[dict]]], data: dict[str, dict], workers: int | None = None) -> dict[str, dict]:
    """Run every spec that has no finished run yet, then write ``results/<profile>/<experiment>.json``.

    The runs of a finished group are kept at once in ``results/.runs``, each under a hash
    of spec, code, library versions and data. An interrupted experiment therefore goes on where
    it stopped, and an experiment whose code changed trains anew. The provenance is that of the call
    that made the last run. It holds, for every claim that these results decide, the hash
    of its criterion when the runs were made; "seconds", the sum over the runs; and "call",
    the wall time of that call, with the number of runs and of processes in it.

    Parameters
    ----------
    plan : for each experiment its configurations, JSON-able, each with a "seed".
    run : from an experiment and a group of specs to their records, each with "metrics",
        "history" and "seconds".
    groups : splits specs into groups that run together.
    data : what identifies the data of an experiment, JSON-able, where machines may have others;
        kept in the provenance.
    workers : processes that share the groups, one thread each; by default one a core.
    """
    about = provenance(profile)
    code = {experiment: code_fingerprint(experiment) for experiment in plan}
    start = time.perf_counter()

    def path(experiment: str, spec: dict) -> Path:
        identity = json.dumps([spec, code[experiment], about["versions"], data.get(experiment)], sort_keys=True)
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return RESULTS / ".runs" / profile / experiment / f"{key}.json"

    jobs = [(experiment, group) for experiment, specs in plan.items()
            for group in groups([spec for spec in specs if not path(experiment, spec).exists()])]
    # The longest first, so that no worker is left alone with one at the end.
    jobs.sort(key=lambda job: -sum(spec.get("epochs", inf) for spec in job[1]))
    workers = min(workers or cpu_count(), max(len(jobs), 1))
    calls = [([path(experiment, spec) for spec in group], experiment, group, run) for experiment, group in jobs]
    progress = partial(tqdm, desc=f"{', '.join(plan)} ({profile})", total=len(jobs), unit="group")
    if workers == 1:
        for call in progress(calls):
            _run_and_keep(*call)
    else:
        with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            try:
                for done in progress(as_completed([pool.submit(_run_and_keep, *call) for call in calls])):
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    about["call"] = {"wall_seconds": round(time.perf_counter() - start, 1),
                     "runs": sum(len(group) for _, group in jobs), "processes": workers}
    return {experiment: _collected(experiment, profile, about | {"code": code[experiment], "data": data.get(experiment)},
                                   [path(experiment, spec) for spec in specs], anew=any(name == experiment for name, _ in jobs))
            for experiment, specs in plan.items()}


def _run_and_keep(paths: list[Path], experiment: str, specs: list[dict], run: Callable) -> None:
    """Run one group of specs and write their records, in whichever process this is."""
    criteria = criteria_hashes(experiment)
    for path, spec, record in zip(paths, specs, run(experiment, specs), strict=True):
        write_json(path, {"experiment": experiment, "spec": spec, "seed": spec["seed"], "criteria": criteria,
                          **record})


def _collected(experiment: str, profile: str, about: dict, paths: list[Path], *, anew: bool) -> dict:
    """Write the results file of an experiment from its finished runs, unless it is there and nothing ran."""
    runs = [json.loads(path.read_text()) for path in paths]
    hashes = [run.pop("criteria", {}) for run in runs]
    if not anew and (RESULTS / profile / f"{experiment}.json").exists():
        result = load(experiment, profile)
        if result["runs"] == runs:
            return result
    criteria = {name: found if all(other.get(name) == found for other in hashes) else "changed between runs"
                for name, found in next(iter(hashes), {}).items()}
    seconds = round(sum(run["seconds"] for run in runs), 1)
    result = {"experiment": experiment, "provenance": about | {"criteria": criteria, "seconds": seconds}, "runs": runs}
    write_json(RESULTS / profile / f"{experiment}.json", result)
    return result


def load(experiment: str, profile: str) -> dict:
    """Read ``results/<profile>/<experiment>.json``.

    Raises ``FileNotFoundError`` with the command that makes it, and ``ValueError``
    if the file says that it belongs to another profile.
    """
    path = RESULTS / profile / f"{experiment}.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; make it with: "
                                f"{'make full' if profile == 'full' else f'make book PROFILE={profile}'}")
    result = json.loads(path.read_text())
    if result["provenance"]["profile"] != profile:
        raise ValueError(f"{path} holds results of profile {result['provenance']['profile']!r}; "
                         "profiles are never mixed")
    return result


def published() -> dict:
    """The numbers of arXiv 2601.06478, from ``book/published.json``."""
    return json.loads((ROOT / "book" / "published.json").read_text())


def values(result: dict, name: str, metric: str) -> list[float]:
    """``metric`` of every run whose spec has this ``name``, by seed; NaN where not defined."""
    found = [run["metrics"][metric] for run in result["runs"] if run["spec"]["name"] == name]
    if not found:
        raise KeyError(f"no run named {name!r} in experiment {result['experiment']!r}")
    return [float("nan") if value is None else value for value in found]


def interval(sample: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % t-interval; NaN half-width for a single value."""
    data = torch.tensor(sample, dtype=torch.float64)
    n = len(data)
    if n < 2:
        return float(data.mean()), float("nan")
    return float(data.mean()), float(stats.t.ppf(0.975, n - 1) * data.std(correction=1) / n ** 0.5)
