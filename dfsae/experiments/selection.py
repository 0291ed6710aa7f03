"""Every contestant of the fair comparison, trained on a part of the training set to choose among them by the rest."""

from dfsae.experiments.comparison import CONFIGURATIONS
from dfsae.experiments.contestants import evaluate_on_part as evaluate
from dfsae.experiments.contestants import fit_on_part as fit
from dfsae.experiments.protocol import with_seeds


def specs(profile: str) -> list[dict]:
    """All contestants, each with two seeds, for half the epochs of the profile."""
    return with_seeds(CONFIGURATIONS, profile, seeds=2, part=2)
