"""The massive activations of a language model, and what linear codes of the others reach."""

import torch
from torch import Tensor

from dfsae import lm, metrics
from dfsae.data import Dataset
from dfsae.experiments import language
from dfsae.experiments.language import find_data, identify_data  # noqa: F401  what the experiment needs beside MNIST
from dfsae.shards import open_parts, open_rows

COMPONENTS = (16, 32, 64, 128)
"""Numbers of principal components."""


def specs(profile: str) -> list[dict]:
    """One run, without a model of ours."""
    return [{"name": "massive", "seed": 0}]


def fit(specs: list[dict], data: Dataset) -> tuple[list[None], list[dict]]:
    """Nothing to train."""
    return [None] * len(specs), [{}] * len(specs)


def evaluate(_: None, data: Dataset) -> dict:
    """Norms of first and other positions, massive rows, the share of the first principal direction, and PCA of the others.

    "norms_first" and "norms_other" are medians after every number of blocks from 0 on, the last
    of them after the model's final norm too, in the held-out contexts that
    :mod:`dfsae.experiments.language` splices.
    """
    rows = open_rows(lm.FOLDER)
    ids, positions = (torch.cat(open_parts(lm.FOLDER, name)) for name in ("ids", "positions"))
    norms = rows.norms()
    inputs = language.load("dropped")
    massive = norms > inputs.largest
    later = (massive & (positions > 0)).nonzero().squeeze(1)
    model, tokenizer, losses = language.load_model()
    with torch.no_grad():
        states = model(inputs.ids[:language.SPLICED], output_hidden_states=True).hidden_states
    found = {
        "rows": len(rows), "width": rows.shape[1], "contexts": int((positions == 0).sum()),
        "median_norm_massive": float(norms[massive].median()), "median_norm_other": float(norms[~massive].median()),
        "massive": int(massive.sum()), "massive_first": int((massive & (positions == 0)).sum()),
        "massive_later": len(later), "massive_tokens": sorted({tokenizer.decode(i) for i in ids[later].tolist()}),
        "massive_positions": sorted(set(positions[later].tolist())),
        "norms_first": [float(h[:, 0].norm(dim=-1).median()) for h in states],
        "norms_other": [float(h[:, 1:].norm(dim=-1).median()) for h in states],
        "share_first_direction_all": first_share(rows[:language.FIT_ON]),
        "share_first_direction_other": first_share(inputs.x_train[:language.FIT_ON]),
    } | {f"loss_{name}": loss for name, loss in losses.items()}
    mean, directions = principal(inputs.x_train[:language.FIT_ON])[:2]
    centred = inputs.x_test - mean
    for k in COMPONENTS:
        V = directions[:, -k:].to(centred)
        found[f"fvu_pca_{k}"] = metrics.fvu(inputs.x_test, centred @ V @ V.mT + mean)
    return found


def principal(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, principal directions as columns ``(D, D)`` and their variances ``(D,)``, the largest last: ``(N, D) ->``."""
    mean = x.double().mean(dim=0)
    centred = x.double() - mean
    variances, directions = torch.linalg.eigh(centred.mT @ centred / (len(x) - 1))
    return mean.to(x), directions, variances


def first_share(x: Tensor) -> float:
    """Share of the variance of x ``(N, D)`` along its first principal direction."""
    variances = principal(x)[2]
    return float(variances[-1] / variances.sum())
