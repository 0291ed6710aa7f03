"""Experiment 3: the decoder-free model beside two sparse autoencoders."""

from collections.abc import Iterator

import torch

from dfsae import metrics
from dfsae.data import Dataset
from dfsae.encoder import DecoderFreeSAE, reconstruct
from dfsae.experiments.codes import THRESHOLDS
from dfsae.experiments.protocol import fit, with_seeds
from dfsae.features import pack
from dfsae.objective import Lambdas, energy_to_activation

CONFIGURATIONS = {
    "decoder-free": {"model": "DecoderFreeSAE", "lambdas": list(Lambdas())},
    "published SAE": {"model": "PublishedSAE", "l1": 0.01},
    "standard SAE": {"model": "StandardSAE", "l1": 0.5},
}
"""Models of Section 5.3, and an L1 SAE as the field trains it; its l1 is not tuned."""


def specs(profile: str) -> list[dict]:
    """Three models, each with five seeds."""
    return with_seeds(CONFIGURATIONS, profile, seeds=5)


@torch.no_grad()
def evaluate(model: torch.nn.Module, data: Dataset) -> dict:
    """Probe, sparsity, and reconstruction through each decoder.

    "own" is the model's decoder, "transpose" W^T (Eq. 12), "transpose_scaled" W^T times
    the best single number on the training set, "transpose_affine" the same with the best
    constant image added, "least_squares" the best affine decoder. "W" and "W_dec" are the weights
    themselves, as :func:`dfsae.features.pack` has them.
    """
    a_train, a = model.encode(data.x_train), model.encode(data.x_test)
    W_dec = model.W if isinstance(model, DecoderFreeSAE) else model.W_dec

    def decoded() -> Iterator[tuple[str, torch.Tensor]]:
        yield "own", model.decode(a)
        yield "transpose", reconstruct(a, model.W)
        V, c = metrics.least_squares_decoder(a_train, data.x_train)
        yield "least_squares", a @ V + c
        for name, constant in (("transpose_scaled", False), ("transpose_affine", True)):
            V, c = metrics.scaled_decoder(a_train, data.x_train, model.W, constant=constant)
            yield name, a @ V + c
        if isinstance(model, DecoderFreeSAE):
            yield "transpose_of_s", reconstruct(energy_to_activation(a), model.W)

    found = {
        "probe_accuracy": metrics.linear_probe(a_train, data.y_train, a, data.y_test),
        "l0": metrics.l0(a),
        "l0_by_threshold": [metrics.l0(a, threshold=threshold) for threshold in THRESHOLDS],
        "l0_activation": metrics.l0(energy_to_activation(a)),
        "dead_units": metrics.dead_units(a),
        "dead_by_threshold": [metrics.dead_units(a, threshold=threshold) for threshold in THRESHOLDS],
        "never_active": int((a_train <= 0).all(dim=0).sum()),
        "redundancy": metrics.redundancy(a),
        "mean_squared_correlation": metrics.mean_squared_correlation(a),
        "parameters": sum(p.numel() for p in model.parameters()),
        "published_mse": metrics.published_mse(data.x_test, a, W_dec),
        "mean_row_norm": float(model.W.norm(dim=1).mean()),
        "W": pack(model.W),
    }
    if not isinstance(model, DecoderFreeSAE):
        found["W_dec"] = pack(model.W_dec)
    for name, x_hat in decoded():  # one at a time: each is as large as the test set
        found[f"mse_{name}"] = metrics.mse(data.x_test, x_hat)
        found[f"fvu_{name}"] = metrics.fvu(data.x_test, x_hat)
    return found
