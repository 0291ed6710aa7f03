"""The reader's own activations: checked, split and scaled for training, and what a trained model made of them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dfsae import metrics
from dfsae.objective import check_tensor


class Activations(NamedTuple):
    """Samples in random order, some of them held out, on the scale that the objective expects."""

    train: Tensor
    """``(N, D)``."""
    test: Tensor
    """``(M, D)``."""
    scale: float
    """What the samples were divided by."""


class Findings(NamedTuple):
    """What a model made of activations."""

    V: Tensor
    """``(K, D)``: the features, rows of the least-squares decoder, in the units of the activations as given."""
    constant: Tensor
    """``(D,)``, so that a V + constant approximates an activation with code a."""
    density: Tensor
    """``(K,)``: share of held-out samples on which each unit is active, its code above 0.01."""
    l0: float
    """Mean number of active units, held out."""
    fvu: float
    """Fraction of variance unexplained by a V + constant, held out."""
    never_active: int
    """Units that are zero on all training samples."""
    mean_squared_correlation: float
    """Of pairs of units that vary, held out."""


def prepare(activations: np.ndarray | Tensor, *, seed: int, held_out: float = 0.1,
            dtype: torch.dtype = torch.float32) -> Activations:
    """Shuffle, hold out a part, and divide by the root of the mean squared norm of the rest.

    With the norms of the rows of W fixed, the scale of the data is the temperature of
    Eq. 1, so it is set to one. The mean is not taken off; the biases learn it.

    Parameters
    ----------
    activations : ``(samples, D)``, of any float type.
    held_out : share of the samples for measurement, between 0 and 1.

    Raises
    ------
    ValueError
        For NaN or infinity, a wrong shape or type, samples too few to split, or samples all zero.
    """
    x = torch.as_tensor(activations)
    check_tensor("activations", x.unsqueeze(0) if x.ndim == 1 else x, rows=4)
    if x.ndim != 2:
        raise ValueError(f"activations must be (samples, D), got shape {tuple(x.shape)}; join the leading dimensions first")
    n = round(held_out * len(x))
    if not 2 <= n <= len(x) - 2:
        raise ValueError(f"held_out = {held_out} of {len(x)} samples leaves {len(x) - n} to train on and {n} to measure; "
                         "both need two or more")
    x = x.to(dtype)[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]
    scale = float(x[n:].square().sum(dim=1).mean().sqrt())
    if scale == 0:
        raise ValueError("activations are all zero")
    return Activations(x[n:] / scale, x[:n] / scale, scale)


@torch.no_grad()
def describe(model: nn.Module, data: Activations) -> Findings:
    """Features and metrics of a model that was trained on ``data.train``; its ``encode`` gives the codes."""
    a_train, a = model.encode(data.train), model.encode(data.test)
    V, c = metrics.least_squares_decoder(a_train, data.train)
    return Findings(V=V * data.scale, constant=c * data.scale, density=(a > 0.01).to(a).mean(dim=0), l0=metrics.l0(a),
                    fvu=metrics.fvu(data.test, a @ V + c), never_active=int((a_train <= 0).all(dim=0).sum()),
                    mean_squared_correlation=metrics.mean_squared_correlation(a))
