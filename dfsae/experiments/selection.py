"""Every contestant of the fair comparison, trained on a part of the training set to choose among them by the rest."""

import torch

from dfsae.data import Dataset
from dfsae.experiments import comparison
from dfsae.experiments.contestants import evaluate_on_part as evaluate
from dfsae.experiments.contestants import split
from dfsae.experiments.protocol import with_seeds


def specs(profile: str) -> list[dict]:
    """All contestants, each with two seeds, for a third of the epochs of the profile."""
    return with_seeds(comparison.CONFIGURATIONS, profile, seeds=2, part=3)


def fit(specs: list[dict], data: Dataset) -> tuple[list[torch.nn.Module], list[dict]]:
    """Train the models of a group on the first part of the training set; the test set is not read."""
    return comparison.fit(specs, split(data))
