"""What predictors without a sparse code, and raw pixels, reach."""

import torch
from sklearn.decomposition import PCA

from dfsae import metrics
from dfsae.data import Dataset
from dfsae.experiments.protocol import PROTOCOL


def specs(profile: str) -> list[dict]:
    """One run, without a model."""
    return [{"name": "yardsticks", "seed": 0}]


def fit(specs: list[dict], data: Dataset) -> tuple[list[None], list[dict]]:
    """Nothing to train."""
    return [None] * len(specs), [{}] * len(specs)


def evaluate(_: None, data: Dataset) -> dict:
    """:func:`yardsticks` with as many components as the models have units."""
    return yardsticks(data, PROTOCOL["K"])


def yardsticks(data: Dataset, K: int = PROTOCOL["K"]) -> dict:
    """Yardsticks on the test set: three predictors without a sparse code, and the raw pixels.

    "zero" predicts zero, "mean" the mean training image, "pca" the best linear code
    with K components of the centred training set; "probe_accuracy" is that of the
    linear probe on the pixels themselves.
    """
    x, mean = data.x_test, data.x_train.mean(dim=0)
    pca = PCA(K, svd_solver="covariance_eigh").fit(data.x_train.cpu().numpy())
    projected = torch.from_numpy(pca.inverse_transform(pca.transform(x.cpu().numpy()))).to(x)
    predicted = {"zero": torch.zeros_like(x), "mean": mean.expand_as(x), "pca": projected}
    errors = {f"{metric.__name__}_{name}": metric(x, x_hat) for name, x_hat in predicted.items()
              for metric in (metrics.mse, metrics.fvu)}
    return errors | {"probe_accuracy": metrics.linear_probe(data.x_train, data.y_train, x, data.y_test)}
