"""Processes that begin with the libraries loaded: forked from a server that has loaded nothing of this project.

A new interpreter needs seconds to import torch and the like; a fork of the server does not, and then
imports the package from wherever the path of the calling test says, such as a mutated copy.
"""

import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

FORK = get_context("forkserver")
FORK.set_forkserver_preload(["torch", "torch.distributed", "numpy", "safetensors.torch", "scipy.stats", "sklearn.linear_model", "sympy",
                             "matplotlib.pyplot", "IPython", "myst_nb", "pytest"])


def run_forked(function: Callable, calls: list[tuple], *, log: Path, timeout: float = 120.0) -> list[int]:
    """Run ``function(*call)`` for each call at the same time, what they print in ``log``; their exit codes.

    The function is one of a module's top level. Raises ``TimeoutError`` if one does not end in time.
    """
    started = [FORK.Process(target=_quietly, args=(function, call, log)) for call in calls]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout)
    late = [process for process in started if process.exitcode is None]
    for process in late:
        process.kill()
    if late:
        raise TimeoutError(f"{len(late)} process(es) did not end within {timeout:g} s: {log.read_text()[-2000:]}")
    return [process.exitcode for process in started]


def _quietly(function: Callable, call: tuple, log: Path) -> None:
    with open(log, "a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    function(*call)
