"""Contestants of the fair comparison on Fashion-MNIST, with the settings that were chosen on MNIST."""

from torch import nn

from dfsae.data import Dataset
from dfsae.experiments import contestants
from dfsae.experiments.comparison import CONFIGURATIONS
from dfsae.experiments.protocol import with_seeds
from dfsae.fashion import find_fashion as find_data  # noqa: F401  what the experiment needs beside MNIST
from dfsae.fashion import load_fashion

NAMES = ("decoder-free", "log-det", "norm 4, tc 0.5, LSE 1", "L1 0.5", "tied, L1 0.5", "TopK 8", "published SAE")


def specs(profile: str) -> list[dict]:
    """One contestant a family, each with five seeds, for a fifth of the epochs of the profile."""
    return with_seeds({name: CONFIGURATIONS[name] for name in NAMES}, profile, seeds=5, part=5)


def images(data: Dataset) -> Dataset:
    """Fashion-MNIST, in the precision and on the device of ``data``."""
    like = data.x_train
    return Dataset(*(part.to(like.device) for part in load_fashion(dtype=like.dtype)))


def fit(specs: list[dict], data: Dataset) -> tuple[list[nn.Module], list[dict]]:
    """Train the models of a group."""
    return contestants.fit(specs, images(data))


def evaluate(model: nn.Module, data: Dataset) -> dict:
    """What is measured of every contestant."""
    return contestants.evaluate(model, images(data))
