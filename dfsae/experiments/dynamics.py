"""Experiment 5: the loss under two optimizers and four learning rates."""

import torch

from dfsae.data import Dataset
from dfsae.scale import radial_pull, scale_part, squared_norms
from dfsae.experiments import protocol
from dfsae.experiments.codes import probed_metrics as evaluate
from dfsae.experiments.protocol import with_seeds
from dfsae.objective import Lambdas

CONFIGURATIONS = {f"{optimizer} {lr:g}": {"optimizer": optimizer, "lr": lr}
                  for optimizer in ("sgd", "adam") for lr in (1e-4, 1e-3, 1e-2, 1e-1)}
"""The published sweep."""

SEEN = 1_000
"""Test samples on which the pull of Eq. 1 is watched."""


def specs(profile: str) -> list[dict]:
    """Eight configurations, each with three seeds; in the quick profile with one."""
    return with_seeds({name: {"model": "DecoderFreeSAE", "lambdas": list(Lambdas()), **settings}
                       for name, settings in CONFIGURATIONS.items()}, profile, seeds=1 if profile == "quick" else 3)


def fit(specs: list[dict], data: Dataset) -> tuple[list[torch.nn.Module], list[dict]]:
    """As :func:`dfsae.experiments.protocol.fit`; the histories hold what the scale does as well.

    After every epoch: "scale_part"; "square_norm", the sum of ||theta_j||^2 over the
    units; and "pull", the sum of R_j over the units, for batches of the size of the spec.
    """
    watched: list[dict[str, list[float]]] = [{"scale_part": [], "square_norm": [], "pull": []} for _ in specs]

    @torch.no_grad()
    def watch(models: list[torch.nn.Module]) -> None:
        for spec, model, seen in zip(specs, models, watched, strict=True):
            E = model.encode(data.x_test[:SEEN])
            seen["scale_part"].append(float(scale_part(model.W, model.b)))
            seen["square_norm"].append(float(squared_norms(model.W, model.b).sum()))
            seen["pull"].append(float(radial_pull(E).sum()) * spec["batch_size"] / len(E))

    models, histories = protocol.fit(specs, data, watch=watch)
    return models, [history | seen for history, seen in zip(histories, watched, strict=True)]
