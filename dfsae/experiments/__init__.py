"""The experiments of the book, a module each.

``specs(profile)`` says what runs, ``fit(specs, data)`` trains the models of a group and
returns them with their histories, ``evaluate(model, data)`` measures one.
"""

from functools import partial

from dfsae import records
from dfsae.experiments import ablation, benchmark, reconstruction, variants, yardsticks
from dfsae.experiments.protocol import groups, run_group, select_device

EXPERIMENTS = {"ablation": ablation, "benchmark": benchmark, "reconstruction": reconstruction, "variants": variants,
               "yardsticks": yardsticks}


def run_experiments(profile: str, names: list[str] = list(EXPERIMENTS), *, workers: int | None = None) -> dict[str, dict]:
    """Make ``results/<profile>/<name>.json`` for each name, and return the contents.

    Finished runs are not repeated; see :func:`dfsae.records.run_all`. By default one
    process a core, or one for all if there is a GPU.
    """
    if select_device().type != "cpu":
        workers = 1
    plan = {name: EXPERIMENTS[name].specs(profile) for name in names}
    return records.run_all(plan, profile, partial(_run_group, profile=profile), groups=groups, workers=workers)


def _run_group(experiment: str, specs: list[dict], *, profile: str) -> list[dict]:
    """:func:`run_group` by name, in whichever process this is."""
    return run_group(EXPERIMENTS[experiment], specs, profile=profile)
