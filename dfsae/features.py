"""Weights as images: how much structure a feature has, and whether it comes back with another seed."""

import base64

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dfsae.objective import check_tensor

SIDE = 28
"""Pixels of an image are rows of ``SIDE ** 2`` values."""


def pack(W: Tensor) -> str:
    """Weights ``(K, D)`` as text: each row in steps of 1/127 of its largest absolute value, whose size is lost."""
    check_tensor("W", W)
    largest = W.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(W.dtype).tiny)
    return base64.b64encode((W / largest * 127).round().to(torch.int8).cpu().numpy().tobytes()).decode()


def unpack(text: str, K: int) -> Tensor:
    """The ``(K, D)`` float64 weights of :func:`pack`, the largest of each row at +-1."""
    values = np.frombuffer(base64.b64decode(text), dtype=np.int8)
    return torch.from_numpy(values.reshape(K, -1).astype(np.float64)) / 127


def lit_pixels(x: Tensor, *, share: float = 0.01) -> Tensor:
    """Which pixels are above zero in at least this share of the images: ``(N, D) -> (D,)``, boolean.

    An encoder's weights on the others hardly learn from inputs; they tell of the start and the optimizer.
    """
    check_tensor("x", x)
    return (x > 0).double().mean(dim=0) >= share


def roughness(W: Tensor, lit: Tensor) -> Tensor:
    """Total variation of each feature on the lit pixels: ``(K, D), (D,) -> (K,)``.

    The mean absolute difference of two neighbours over the mean absolute value; free of
    scale. About sqrt(2) for Gaussian white noise and 4/3 for uniform noise, which is what
    rows start from; small for a smooth image.
    """
    images, mask = W.reshape(-1, SIDE, SIDE), lit.reshape(SIDE, SIDE)
    across = (images.diff(dim=1).abs()[:, mask[1:] & mask[:-1]], images.diff(dim=2).abs()[:, mask[:, 1:] & mask[:, :-1]])
    return torch.cat(across, dim=1).mean(dim=1) / W[:, lit].abs().mean(dim=1)


def class_means(x: Tensor, y: Tensor) -> Tensor:
    """The mean image of every class: ``(N, D), (N,) -> (classes, D)``."""
    return torch.stack([x[y == label].mean(dim=0) for label in y.unique()])


def prototype_correlation(W: Tensor, means: Tensor, lit: Tensor) -> Tensor:
    """Largest absolute Pearson correlation of each feature with a class mean, over the lit pixels: ``-> (K,)``."""
    def standardised(images: Tensor) -> Tensor:
        centred = images[:, lit].to(W) - images[:, lit].to(W).mean(dim=1, keepdim=True)
        return centred / centred.norm(dim=1, keepdim=True)

    return (standardised(W) @ standardised(means).mT).abs().amax(dim=1)


def matched_cosine(W: Tensor, other: Tensor, lit: Tensor) -> Tensor:
    """Cosines, on the lit pixels, of the one-to-one matching of two sets of features that maximises their sum.

    ``(K, D), (K, D) -> (K,)``: that of each feature of W with its partner (Hungarian method).
    """
    def normed(images: Tensor) -> Tensor:
        return images[:, lit] / images[:, lit].norm(dim=1, keepdim=True)

    cosines = normed(W) @ normed(other).mT
    rows, columns = linear_sum_assignment(cosines.cpu(), maximize=True)
    return cosines[rows, columns]
