"""Time training steps and their memory, against bare matrix products and against other libraries.

Every contestant is a process of its own, with one thread, in ``benchmarks/.venv``. They take
turns: each repeat runs every contestant once, in an order of its own, so that a change in the
machine's speed meets all of them. At the published shape the bare products are timed in the
process of the contestant, before and after it; over widths contestants are compared with one
another. Only ratios within a repeat are results; times depend on the machine.

Writes ``results/benchmarks.json``, whole or not at all. Needs Linux and 12 GiB of memory.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path
from statistics import quantiles

from contestants import TOP_K

from dfsae.data import ROOT
from dfsae.records import RESULTS, provenance, write_json

HERE = Path(__file__).resolve().parent
PYTHON = HERE / ".venv" / "bin" / "python"
STEPS = {"batch_size": 128, "D": 784, "K": 64}
"""The published shape; an epoch has the 468 full batches of MNIST."""
STEP_CONTESTANTS = [("dfsae", 1), ("dfsae", 4), ("dfsae", 8), ("dfsae, seeds", 8), ("autograd", 1),
                    ("autograd, DataLoader", 1), ("dfsae L1", 1), ("dfsae L1", 4),
                    ("sae-lens L1", 1), ("sae-lens TopK", 1),
                    ("dictionary-learning L1", 1), ("dictionary-learning TopK", 1)]
PARTS = [(part, models) for models in (1, 4, 8) for part in ("batches", "objective", "optimizers")]
"""Parts of a step of "dfsae", each alone; the bare products are another."""
WIDTH = {"batch_size": 512, "D": 768}
WIDTHS = (64, 256, 1024, 4096, 16384, 65536)
WIDTH_CONTESTANTS = ["dfsae", "autograd", "dfsae L1", "sae-lens L1", "dictionary-learning L1"]
WIDTH_BATCHES = 2
K_X_K_LIMIT = 16384
"""The largest width of "autograd", which holds several K x K matrices at a time, 1 GiB each at this width."""
REPEATS, WIDTH_REPEATS = 9, 3


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, contestant: str, models: int, **shape: int):
        self.name = contestant
        self.printed = tempfile.TemporaryFile("w+")
        description = {"contestant": contestant, "models": models, **shape}
        self.process = subprocess.Popen(
            [PYTHON, HERE / "contestants.py", json.dumps(description)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.printed,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})

    def answer(self) -> dict:
        """The next answer; ends the program with the contestant's last words if it has died."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.printed.seek(0)
        raise SystemExit(f"{self.printed.read()}\nThe contestant {self.name!r} failed with exit code "
                         f"{self.process.wait()}; nothing was written.\nIf a package is missing or does not import, "
                         "remove benchmarks/.venv and call make bench again. Exit code -9 means that memory ran out.")

    def run(self, epochs: int) -> dict:
        """Seconds of so many epochs, and the memory since the start."""
        with contextlib.suppress(BrokenPipeError):
            print(epochs, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> None:
        """End the process; nothing happens if it has ended."""
        self.process.kill()
        self.process.communicate()
        self.printed.close()


def orders(contestants: int, repeats: int) -> list[list[int]]:
    """In which order each repeat runs the contestants."""
    shuffle = random.Random(0)
    return [shuffle.sample(range(contestants), contestants) for _ in range(repeats)]


def measure(descriptions: list[dict], epochs: int, repeats: int) -> tuple[list[list[dict]], list[dict]]:
    """For each contestant the answers of all repeats, of so many epochs, and what it says of itself beforehand."""
    with contextlib.ExitStack() as stack:
        workers = []
        for description in descriptions:
            workers.append(Worker(**description))
            stack.callback(workers[-1].close)
        about = [worker.answer() for worker in workers]
        answers: list[list[dict]] = [[] for _ in workers]
        for order in orders(len(workers), repeats):
            for index in order:
                answers[index].append(workers[index].run(epochs))
    return answers, about


def measure_steps(repeats: int, batches: int) -> tuple[list[dict], list[dict], dict]:
    """At the published shape seconds a step, and of the bare products of one ("floor"), for every repeat.

    A step's own products are counted in "multiply_adds". The second list holds the same of
    parts of a step. Also returns threads, versions and BLAS.
    """
    plan = STEP_CONTESTANTS + PARTS
    answers, about = measure([{"contestant": name, "models": models, "batches": batches, "floor": True, **STEPS}
                              for name, models in plan], 1, repeats)
    rows = [{"contestant": name, "models": models, "steps": batches, "multiply_adds": own["multiply_adds"] / batches,
             **{field: [answer[field] / batches for answer in found] for field in ("seconds", "floor")}}
            for (name, models), found, own in zip(plan, answers, about, strict=True)]
    return rows[:len(STEP_CONTESTANTS)], rows[len(STEP_CONTESTANTS):], about[0]


def measure_width(repeats: int, K: int) -> list[dict]:
    """Seconds a step and peak memory at width K, of processes that have run nothing else."""
    names = [name for name in WIDTH_CONTESTANTS if name != "autograd" or K <= K_X_K_LIMIT]
    epochs = max(1, 2 ** 13 // K)
    steps = epochs * WIDTH_BATCHES
    answers, _ = measure([{"contestant": name, "models": 1, "batches": WIDTH_BATCHES, "K": K,
                           "floor": False, **WIDTH} for name in names], epochs, repeats)
    rows = [{"contestant": name, "K": K, "steps": steps, "seconds": [answer["seconds"] / steps for answer in found],
             "peak_mib": round(found[-1]["peak_mib"]), "model_mib": round(found[-1]["model_mib"])}
            for name, found in zip(names, answers, strict=True)]
    return rows + [{"contestant": name, "K": K, "steps": None, "seconds": None, "peak_mib": None, "model_mib": None,
                    "skipped": "K x K matrix"} for name in WIDTH_CONTESTANTS if name not in names]


def described() -> dict:
    """Provenance as other results have it; uncommitted changes are here those of ``benchmarks/``, too."""
    about = provenance("bench")
    changed = subprocess.run(["git", "status", "--porcelain", "--", "benchmarks"], cwd=ROOT, text=True,
                             capture_output=True)
    about["uncommitted_changes"] |= bool(changed.stdout)
    return about


def ratio(seconds: list[float], to: list[float]) -> str:
    """Median of the ratios within a repeat, and their quartiles."""
    ratios = [one / other for one, other in zip(seconds, to, strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return f"{middle:6.2f} [{low:.2f}, {high:.2f}]"


def table(result: dict) -> str:
    """The ratios of ``result`` as text."""
    floor_of_one = result["steps"][0]["floor"]
    lines = ["A step of a group of models: median ratio [quartiles]",
             f"{'contestant':26}{'models':>6}  {'to the products of the group':30}to those of one model, per model"]
    for row in result["steps"]:
        each = [seconds / row["models"] for seconds in row["seconds"]]
        lines.append(f"{row['contestant']:26}{row['models']:6}  {ratio(row['seconds'], row['floor']):30}"
                     f"{ratio(each, floor_of_one)}")
    lines += ["", "Parts of a step of dfsae, each alone: median ratio to the products of the group [quartiles]"]
    lines += [f"{row['contestant']:26}{row['models']:6}  {ratio(row['seconds'], row['floor'])}" for row in result["parts"]]
    lines += ["", "A step of one model of width K: median ratio to dfsae [quartiles], and memory"]
    for row in result["width"]:
        if row["seconds"]:
            own = next(other["seconds"] for other in result["width"]
                       if other["contestant"] == "dfsae" and other["K"] == row["K"])
            lines.append(f"{row['contestant']:26}{row['K']:6}  {ratio(row['seconds'], own):30}"
                         f"{row['model_mib']:6} MiB, with libraries and data {row['peak_mib']} MiB")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, write the result and print its ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--output", type=Path, default=RESULTS / "benchmarks.json")
    parser.add_argument("--small", action="store_true", help="few steps, and widths up to 1024")
    options = parser.parse_args(arguments)
    widths = [K for K in WIDTHS if K <= 1024 or not options.small]
    width_repeats = min(options.repeats, WIDTH_REPEATS)
    about = described()
    steps, parts, environment = measure_steps(options.repeats, 20 if options.small else 468)
    width = [row for K in widths for row in measure_width(width_repeats, K)]
    about["versions"] |= environment["versions"]
    about |= {"threads": environment["threads"], "blas": environment["blas"],
              "steps": {**STEPS, "top_k": TOP_K, "repeats": options.repeats},
              "width": {**WIDTH, "repeats": width_repeats}}
    result = {"provenance": about, "steps": steps, "parts": parts, "width": width}
    write_json(options.output, result)
    print(table(result))


if __name__ == "__main__":
    main()
