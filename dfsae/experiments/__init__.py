"""The experiments of the book, a module each.

``specs(profile)`` says what runs, ``fit(specs, data)`` trains the models of a group and
returns them with their histories, ``evaluate(model, data)`` measures one.
"""

import warnings
from functools import partial
from types import ModuleType

from dfsae import records
from dfsae.experiments import (
    ablation, anomaly, benchmark, classical, comparison, drift, dynamics, fashion, fixed_scale, language, lower_rate, massive, mixture,
    rates, reconstruction, selection, superposition, sweeps, variants, wide, wide_selection, yardsticks,
)
from dfsae.experiments.protocol import groups, run_group, select_device

EXPERIMENTS = {"ablation": ablation, "benchmark": benchmark, "reconstruction": reconstruction, "variants": variants,
               "yardsticks": yardsticks, "dynamics": dynamics}
"""What ``make book`` runs, in each of its profiles."""

FULL = {"drift": drift, "fixed_scale": fixed_scale, "mixture": mixture, "sweeps": sweeps, "anomaly": anomaly, "rates": rates,
        "lower_rate": lower_rate, "selection": selection, "comparison": comparison, "classical": classical, "fashion": fashion,
        "superposition": superposition, "wide_selection": wide_selection, "wide": wide,
        "language": language, "massive": massive}
"""What ``make full`` runs, at the size of the profile "paper"; the book shows the committed results."""


def run_experiments(profile: str, names: list[str] | None = None, *, workers: int | None = None) -> dict[str, dict]:
    """Make ``results/<profile>/<name>.json`` for each name, by default all, and return the contents.

    Finished runs are not repeated; see :func:`dfsae.records.run_all`. By default one
    process a core, or one for all if there is a GPU. An experiment that needs data
    which are not there is left out, with a warning that says how to get them.
    """
    if select_device().type != "cpu":
        workers = 1
    found, size = (FULL, "paper") if profile == "full" else (EXPERIMENTS, profile)
    plan = {name: found[name].specs(size) for name in names or found if _has_data(name, found[name])}
    data = {name: found[name].identify_data() for name in plan if hasattr(found[name], "identify_data")}
    return records.run_all(plan, profile, partial(_run_group, size=size), groups=groups, data=data, workers=workers)


def _has_data(name: str, experiment: ModuleType) -> bool:
    """Whether the data that an experiment needs beside MNIST are there."""
    try:
        getattr(experiment, "find_data", lambda: None)()
    except FileNotFoundError as missing:
        warnings.warn(f"{name} is left out. {missing}", stacklevel=3)
        return False
    return True


def _run_group(experiment: str, specs: list[dict], *, size: str) -> list[dict]:
    """:func:`run_group` by name, in whichever process this is."""
    return run_group((EXPERIMENTS | FULL)[experiment], specs, profile=size)
