"""Energies with a normaliser: a mixture of Gaussians, trained by EM.

With s fixed each step is a gradient step on Eq. 1, with a size for each centre.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dfsae import metrics
from dfsae.data import Dataset
from dfsae.experiments.protocol import with_seeds
from dfsae.mixture import em_step, gaussian_energies
from dfsae.objective import log_sum_exp, responsibilities

CONFIGURATIONS = {"s fitted": {"s": None}, "s = 0.5": {"s": 0.5}, "s = 1": {"s": 1.0}, "s = 2": {"s": 2.0}}
"""The standard deviation of a component: fitted by EM, or fixed."""


class Mixture(NamedTuple):
    """A trained mixture."""

    mu: Tensor
    """Centres, ``(K, D)``."""
    s: float

    def energies(self, x: Tensor) -> Tensor:
        """``(B, D) -> (B, K)``."""
        return gaussian_energies(x, self.mu, self.s)


def specs(profile: str) -> list[dict]:
    """Four scales, each with three seeds; an epoch is one step of EM on all training samples."""
    return with_seeds({name: {"model": "Mixture", **settings} for name, settings in CONFIGURATIONS.items()},
                      profile, seeds=3, part=3)


def fit(specs: list[dict], data: Dataset) -> tuple[list[Mixture], list[dict]]:
    """EM from K of the training samples; the history is the mean of Eq. 1 before every step, and s after it."""
    models, histories = [], []
    for spec in specs:
        generator = torch.Generator().manual_seed(spec["seed"])
        mu = data.x_train[torch.randperm(len(data.x_train), generator=generator)[:spec["K"]].to(data.x_train.device)]
        s, history = spec["s"] or 1.0, {"lse": [], "s": []}
        for _ in range(spec["epochs"]):
            lse, mu, best = em_step(data.x_train, mu, s)
            s = spec["s"] or best
            history["lse"].append(lse)
            history["s"].append(s)
        models.append(Mixture(mu, s))
        histories.append(history)
    return models, histories


def evaluate(model: Mixture, data: Dataset) -> dict:
    """Metrics of two codes on the test set: responsibilities r, and energies above the lowest, E - min E.

    Reconstruction is by the posterior mean sum_j r_j mu_j, and by the best affine decoder
    of each code. Usage and near-copies are those of the responsibilities on the training set.
    """
    E_train, E = model.energies(data.x_train), model.energies(data.x_test)
    r_train, r = responsibilities(E_train), responsibilities(E)
    above_train, above = E_train - E_train.amin(dim=1, keepdim=True), E - E.amin(dim=1, keepdim=True)
    found = {
        "lse_test": float(log_sum_exp(E).double().mean()),
        "s": model.s,
        "responsibility_entropy": metrics.responsibility_entropy(r),
        "mean_max_responsibility": metrics.mean_max_responsibility(r),
        "least_usage": float(metrics.feature_usage(r_train).min()),
        "near_copies": metrics.near_copies(r_train),
        "l0": metrics.l0(r),
        "parameters": model.mu.numel() + 1,
        "fvu_posterior_mean": metrics.fvu(data.x_test, r @ model.mu),
    }
    for name, code_train, code in (("r", r_train, r), ("energies", above_train, above)):
        V, c = metrics.least_squares_decoder(code_train, data.x_train)
        found[f"fvu_least_squares_{name}"] = metrics.fvu(data.x_test, code @ V + c)
        found[f"probe_{name}"] = metrics.linear_probe(code_train, data.y_train, code, data.y_test)
    return found
