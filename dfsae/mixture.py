"""Energies that are distances with their normaliser: Eq. 1 is then a likelihood, and a gradient step is EM."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dfsae.objective import check_tensor, log_sum_exp, responsibilities


def linear_form(mu: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """Weights -mu_j / s^2 and biases s^2 ||w_j||^2 / 2: what distinguishes the energies of :func:`gaussian_energies`.

    ``(K, D) -> (K, D), (K,)``. The rest, ||x||^2 / (2 s^2) and a constant, is the same for
    all components. Raises ``ValueError`` unless s is finite and > 0.
    """
    check_tensor("mu", mu)
    if not 0 < s < math.inf:
        raise ValueError(f"s must be finite and > 0, got {s}")
    W = -mu / s ** 2
    return W, s ** 2 * W.square().sum(dim=-1) / 2


def gaussian_energies(x: Tensor, mu: Tensor, s: float) -> Tensor:
    """E_j = ||x - mu_j||^2 / (2 s^2) + (D / 2) log(2 pi s^2) + log K: ``(B, D), (K, D) -> (B, K)``.

    Minus the log density of x and component j together, in a mixture of K Gaussians with
    equal weights and covariance s^2 I. Raises ``ValueError`` for bad data or a bad s.
    """
    check_tensor("x", x, width=mu.shape[-1])
    W, b = linear_form(mu, s)
    K, D = mu.shape
    common = x.square().sum(dim=-1, keepdim=True) / (2 * s ** 2)
    return torch.addmm(b, x, W.mT) + common + D / 2 * math.log(2 * math.pi * s ** 2) + math.log(K)


class EMStep(NamedTuple):
    """What a step of EM starts from, and where it ends."""

    lse: float
    """Mean of Eq. 1 over the samples before the step: minus the mean log likelihood, in nats."""
    mu: Tensor
    """Centres after the step, ``(K, D)``: means of x weighted by their responsibilities."""
    s: float
    """Standard deviation that maximises the expected log likelihood with these centres."""


def em_step(x: Tensor, mu: Tensor, s: float) -> EMStep:
    """One step of EM on all of x ``(N, D)``.

    A component keeps its centre if its responsibilities add to no more than the least
    normal number of their dtype: too few digits are left for a mean.
    """
    E = gaussian_energies(x, mu, s)
    r = responsibilities(E)
    weight = r.sum(dim=0)
    moved = torch.where(weight[:, None] > torch.finfo(weight.dtype).tiny, r.mT @ x / weight[:, None], mu)
    # Sum of r_j ||x - mu_j||^2, since the new centres are the weighted means.
    distance = x.double().square().sum() - (weight * moved.square().sum(dim=1)).double().sum()
    # Rounding can take a distance of zero below it.
    return EMStep(float(log_sum_exp(E).double().mean()), moved, math.sqrt(max(float(distance), 0.0) / x.numel()))
