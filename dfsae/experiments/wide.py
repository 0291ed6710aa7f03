"""The fair comparison with more units than the data have dimensions: the choice of every family, on the test set."""

from dfsae.experiments.contestants import evaluate, fit
from dfsae.experiments.protocol import with_seeds
from dfsae.experiments.wide_selection import CONFIGURATIONS

CHOSEN = ("decoder-free, tc 1/1", "decoder-free, tc 1/16", "norm 16, tc 1/32", "L1 0.25", "tied, L1 0.25", "TopK 32")
"""The configurations with the best probe of :mod:`dfsae.experiments.wide_selection`, and the published weights."""


def specs(profile: str) -> list[dict]:
    """The chosen configurations, each with three seeds, for a tenth of the epochs of the profile."""
    return with_seeds({name: CONFIGURATIONS[name] for name in CHOSEN}, profile, seeds=3, part=10)
