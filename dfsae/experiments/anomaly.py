"""Anomaly detection: models that never saw one of the digits, and scores that should be high for it."""

import torch
from sklearn.metrics import roc_auc_score

from dfsae import metrics
from dfsae.data import Dataset
from dfsae.experiments import contestants
from dfsae.experiments.classical import fit_pca
from dfsae.experiments.protocol import with_seeds
from dfsae.objective import log_sum_exp

MODELS = {
    "decoder-free": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]},
    "fixed scale": {"model": "FixedScaleSAE", "radius": 16, "lambdas": [1, 1, 0.5, 0]},
    "L1 SAE": {"model": "StandardSAE", "l1": 0.5},
}
DIGITS = range(10)


def specs(profile: str) -> list[dict]:
    """Three models with three seeds, for a fifth of the epochs of the profile, and PCA; each without every digit in turn."""
    trained = {f"{name}, without {digit}": {**settings, "held_out": digit} for name, settings in MODELS.items() for digit in DIGITS}
    principal = {f"PCA, without {digit}": {"model": "PCA", "held_out": digit, "epochs": 0} for digit in DIGITS}
    return with_seeds(trained, profile, seeds=3, part=5) + with_seeds(principal, profile, seeds=1)


def known(data: Dataset, held_out: int) -> Dataset:
    """The data with the training samples of one digit left out."""
    keep = data.y_train != held_out
    return data._replace(x_train=data.x_train[keep], y_train=data.y_train[keep])


def fit(specs: list[dict], data: Dataset) -> tuple[list[torch.nn.Module], list[dict]]:
    """Train the models of a group, which leave out the same digit; each remembers which."""
    held_out, = {spec["held_out"] for spec in specs}
    seen = known(data, held_out)
    if specs[0]["model"] == "PCA":
        models, histories = [fit_pca(seen.x_train, spec["K"], spec["seed"]) for spec in specs], [{} for _ in specs]
    else:
        models, histories = contestants.fit(specs, seen)
    for model in models:
        model.held_out = held_out
    return models, histories


@torch.no_grad()
def evaluate(model: torch.nn.Module, data: Dataset) -> dict:
    """Area under the ROC curve of each score, with the test samples of the digit as positives.

    "lse" is Eq. 1 of the code; "own" and "least_squares" are squared errors of a
    reconstruction, the latter's decoder fitted on what the model saw, and "relative" is
    that error over ||x||^2; "norm" is ||x||^2, a score without a model.
    """
    seen = known(data, model.held_out)
    a_train, a = model.encode(seen.x_train), model.encode(data.x_test)
    V, c = metrics.least_squares_decoder(a_train, seen.x_train)
    norm = data.x_test.square().sum(dim=1)
    error = (data.x_test - a @ V - c).square().sum(dim=1)
    scores = {"lse": log_sum_exp(a), "own": (data.x_test - model.decode(a)).square().sum(dim=1),
              "least_squares": error, "relative": error / norm, "norm": norm}
    positive = (data.y_test == model.held_out).cpu().numpy()
    return {f"auroc_{name}": float(roc_auc_score(positive, score.double().cpu().numpy())) for name, score in scores.items()}
