"""Experiment 2: every combination of the terms of the objective."""

import torch

from dfsae.data import Dataset
from dfsae.experiments.codes import probed_metrics, rounded
from dfsae.experiments.protocol import fit, with_seeds
from dfsae.objective import Lambdas, correlation

CORNERS = {
    "LSE only": Lambdas(lse=1, var=0, tc=0),
    "LSE + var": Lambdas(lse=1, var=1, tc=0),
    "LSE + var + tc": Lambdas(lse=1, var=1, tc=1),
    "var + tc only": Lambdas(lse=0, var=1, tc=1),
    "LSE + tc": Lambdas(lse=1, var=0, tc=1),
    "var only": Lambdas(lse=0, var=1, tc=0),
    "tc only": Lambdas(lse=0, var=0, tc=1),
    "untrained": Lambdas(lse=0, var=0, tc=0),
}
"""Section 5.2: its configurations A to D, then the other four corners of the 2 x 2 x 2 design."""


def specs(profile: str) -> list[dict]:
    """All eight corners, each with three seeds; without a term there is nothing to train."""
    return with_seeds({name: {"model": "DecoderFreeSAE", "lambdas": list(lambdas)} | ({} if any(lambdas) else {"epochs": 0})
                       for name, lambdas in CORNERS.items()}, profile, seeds=3)


@torch.no_grad()
def evaluate(model: torch.nn.Module, data: Dataset) -> dict:
    """:func:`probed_metrics` and the correlations on the test set."""
    E = model.encode(data.x_test)
    return probed_metrics(model, data) | {"correlation": rounded(correlation(E, eps=1e-12), 3)}
