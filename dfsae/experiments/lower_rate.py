"""One rate more for the families that did best at the lowest of :mod:`dfsae.experiments.rates`."""

from dfsae.experiments import comparison, rates
from dfsae.experiments.contestants import evaluate_on_part as evaluate
from dfsae.experiments.contestants import fit_on_part as fit
from dfsae.experiments.protocol import with_seeds

RATE = 1e-4

FAMILIES = {family: settings for family, settings in rates.FAMILIES.items() if comparison.RATES[family] == min(rates.RATES)}
"""A configuration of each family whose chosen rate is the lowest that was tried."""


def specs(profile: str) -> list[dict]:
    """One rate a family, with two seeds, for half the epochs of the profile, as in the choice of rates."""
    return with_seeds({f"{family}, lr {RATE:g}": {**settings, "lr": RATE} for family, settings in FAMILIES.items()},
                      profile, seeds=2, part=2)
