"""Metrics of a code that several experiments measure."""

import torch

from dfsae import metrics
from dfsae.data import Dataset
from dfsae.objective import energy_to_activation, responsibilities

THRESHOLDS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""For dead units (of the variance) and for L0 (of the code); the published ones are 0.01."""


@torch.no_grad()
def code_metrics(model: torch.nn.Module, data: Dataset) -> dict:
    """Metrics of the energies on the test set; the decoder of "fvu_least_squares" is fitted on the training set."""
    E_train, E = model.encode(data.x_train), model.encode(data.x_test)
    r = responsibilities(E)
    V, c = metrics.least_squares_decoder(E_train, data.x_train)
    return {
        "dead_units": metrics.dead_units(E),
        "dead_by_threshold": [metrics.dead_units(E, threshold=threshold) for threshold in THRESHOLDS],
        "never_active": int((E_train <= 0).all(dim=0).sum()),
        "redundancy": metrics.redundancy(E),
        "mean_squared_correlation": metrics.mean_squared_correlation(E),
        "near_copies": metrics.near_copies(E),
        "responsibility_entropy": metrics.responsibility_entropy(r),
        "mean_max_responsibility": metrics.mean_max_responsibility(r),
        "l0_energy": metrics.l0(E),
        "l0_by_threshold": [metrics.l0(E, threshold=threshold) for threshold in THRESHOLDS],
        "l0_activation": metrics.l0(energy_to_activation(E)),
        "log_zero_units": metrics.mean_log_zero_units(E),
        "mean_row_norm": float(model.W.norm(dim=1).mean()),
        "fvu_own": metrics.fvu(data.x_test, model.decode(E)),
        "fvu_least_squares": metrics.fvu(data.x_test, E @ V + c),
        "feature_usage": rounded(metrics.feature_usage(r)),
        "firing_rate": rounded((E > 0.01).double().mean(dim=0)),
        "variances": rounded(E.var(dim=0)),
    }


@torch.no_grad()
def probed_metrics(model: torch.nn.Module, data: Dataset) -> dict:
    """:func:`code_metrics` and the linear probe."""
    E_train, E = model.encode(data.x_train), model.encode(data.x_test)
    return code_metrics(model, data) | {
        "probe_accuracy": metrics.linear_probe(E_train, data.y_train, E, data.y_test)}


def rounded(values: torch.Tensor, digits: int = 6) -> list:
    """Nested lists, rounded: the records stay small and readable."""
    return torch.round(values.double(), decimals=digits).tolist()
