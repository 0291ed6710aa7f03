"""The reader's own activations: checked, split and scaled for training, and what a trained model made of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dfsae import metrics
from dfsae.objective import check_tensor
from dfsae.shards import Rows, open_rows
from dfsae.units import describe_unit

FIT_ON = 65_536
"""Training samples that decoders are fitted on, at most."""


class Activations(NamedTuple):
    """Samples in random order, some of them held out, on the scale that the objective expects."""

    train: Tensor | Rows
    """``(N, D)``; of a file, rows that are read when asked for."""
    test: Tensor
    """``(M, D)``."""
    scale: float
    """What the samples were divided by."""
    dropped: int
    """Number of samples left out because of their norm."""
    rows: Tensor
    """``(M,)``. Which of the given samples those of ``test`` are."""


class Findings(NamedTuple):
    """What a model made of activations."""

    V: Tensor
    """``(K, D)``. The features, rows of the least-squares decoder, in the units of the activations as given."""
    constant: Tensor
    """``(D,)``, so that a V + constant approximates an activation with code a."""
    density: Tensor
    """``(K,)``. Share of held-out samples on which each unit is active, its code above 0.01."""
    l0: float
    """Mean number of active units, held out."""
    fvu: float
    """Fraction of variance unexplained by a V + constant, held out."""
    never_active: int
    """Units that are zero on all training samples that the decoder is fitted on."""
    mean_squared_correlation: float
    """Of pairs of units that vary, held out."""


def prepare(activations: np.ndarray | Tensor | Path | str, *, seed: int, held_out: float = 0.1,
            largest_norm: float = float("inf"), dtype: torch.dtype = torch.float32) -> Activations:
    """Shuffle, hold out a part, and divide by the root of the mean squared norm of the rest.

    With the norms of the rows of W fixed, the scale of the data is the temperature of
    Eq. 1, so it is set to one. The mean is not taken off; the biases learn it.

    Parameters
    ----------
    activations : samples of any float type, or the path of a file or folder
        Of shape ``(samples, D)``. A file or folder is one that :func:`dfsae.shards.open_rows` knows, and may be
        larger than memory. Then only the held-out part is read into it, and the rest is for
        :func:`dfsae.distributed.train`.
    held_out : share of the samples for measurement, between 0 and 1
    largest_norm : multiple of the median norm
        Samples whose norm is more than that are left out; 10 takes out the massive activations
        of language models.

    Raises
    ------
    ValueError
        For NaN or infinity, a wrong shape or type, samples too few to split, or samples all zero.
    FileNotFoundError
        For a file that is not there.
    """
    if isinstance(activations, (str, Path)):
        given = open_rows(activations)
        norms = given.norms()
    else:
        given = torch.as_tensor(activations)
        check_tensor("activations", given.unsqueeze(0) if given.ndim == 1 else given, rows=4)
        if given.ndim != 2:
            raise ValueError(f"activations must be (samples, D), got shape {tuple(given.shape)}; join the leading dimensions first")
        given = given.to(dtype)
        norms = torch.linalg.vector_norm(given, dim=1)
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(seed))
    kept = order[~(norms[order] > largest_norm * norms.median())]
    n = round(held_out * len(kept))
    if not 2 <= n <= len(kept) - 2:
        raise ValueError(f"held_out = {held_out} of {len(kept)} samples leaves {len(kept) - n} to train on and {n} to measure; "
                         "both need two or more")
    scale = float(norms[kept[n:]].double().square().mean().sqrt())
    if scale == 0:
        raise ValueError("activations are all zero")
    train = given.take(kept[n:], scale=scale) if isinstance(given, Rows) else given[kept[n:]] / scale
    return Activations(train, given[kept[:n]].to(dtype) / scale, scale, len(given) - len(kept), kept[:n])


@torch.no_grad()
def describe(model: nn.Module, data: Activations) -> Findings:
    """Features and metrics of a model that was trained on ``data.train``; its ``encode`` gives the codes.

    The decoder is fitted on the first :data:`FIT_ON` training samples.
    """
    x_train = data.train[:FIT_ON]
    a_train, a = model.encode(x_train), model.encode(data.test)
    V, c = metrics.least_squares_decoder(a_train, x_train)
    return Findings(V=V * data.scale, constant=c * data.scale, density=(a > 0.01).to(a).mean(dim=0), l0=metrics.l0(a),
                    fvu=metrics.fvu(data.test, a @ V + c), never_active=int((a_train <= 0).all(dim=0).sum()),
                    mean_squared_correlation=metrics.mean_squared_correlation(a))


@torch.no_grad()
def show_units(model: nn.Module, data: Activations, units: Sequence[int], *, names: Sequence[str]) -> dict[str, dict]:
    """Units by the held-out samples on which they are most active, to be written by :func:`dfsae.dashboards.write_pages`.

    ``names`` holds a text for each sample that was given to :func:`prepare`. Raises
    ``ValueError`` if they are too few, or for a unit that is not there.
    """
    a = model.encode(data.test)
    if len(names) <= int(data.rows.max()) or not all(0 <= unit < a.shape[1] for unit in units):
        raise ValueError(f"names must have one text for each sample given to prepare, and units be from 0 to {a.shape[1] - 1}; "
                         f"got {len(names)} names for sample {int(data.rows.max())} and units {list(units)}")
    texts = [names[row] for row in data.rows.tolist()]
    return {f"unit-{unit}": describe_unit(a[:, unit], tokens=texts) for unit in units}
