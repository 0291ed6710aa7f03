"""Codes without training by gradient descent, as scikit-learn fits them, beside the contestants of the fair comparison."""

from collections.abc import Callable

import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from dfsae.data import Dataset
from dfsae.experiments.contestants import evaluate as measure
from dfsae.experiments.protocol import PROTOCOL, build, get_profile

SEEDS = 5
FIXED = ("PCA", "raw pixels")
"""Models that no seed changes: they have one run."""

NAMES = ("PCA", "ICA", "k-means, nearest centre", "k-means, triangle", "Gaussian mixture", "random encoder", "raw pixels")


def specs(profile: str) -> list[dict]:
    """Seven models; those that depend on a seed with five of them."""
    most = get_profile(profile).most_seeds or SEEDS
    return [{"name": name, "model": name, "K": PROTOCOL["K"], "seed": seed} for name in NAMES
            for seed in range(1, (1 if name in FIXED else min(SEEDS, most)) + 1)]


class Code(nn.Module):
    """A code that was fitted elsewhere: its numbers, with ``encode`` and, if it has one, ``decode``."""

    def __init__(self, numbers: dict[str, Tensor], encode: Callable[[Tensor], Tensor],
                 decode: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        for name, value in numbers.items():
            setattr(self, name, nn.Parameter(value, requires_grad=False))
        self.encode = encode
        if decode is not None:
            self.decode = decode


def principal(x: Tensor, K: int) -> tuple[Tensor, Tensor, Tensor]:
    """The K principal directions ``(K, D)``, the mean ``(D,)``, and the variances ``(K,)``."""
    pca = PCA(K, svd_solver="covariance_eigh").fit(x.cpu().numpy())
    return tuple(torch.from_numpy(part).to(x) for part in (pca.components_, pca.mean_, pca.explained_variance_))


def fit_pca(x: Tensor, K: int, seed: int) -> Code:
    """Projections on the principal directions; the decoder is their transpose plus the mean."""
    W, mean, _ = principal(x, K)
    return Code({"W": W, "mean": mean}, lambda x: (x - mean) @ W.T, lambda a: a @ W + mean)


def fit_ica(x: Tensor, K: int, seed: int) -> Code:
    """FastICA in the space of K whitened principal components; the decoder is the inverse there."""
    directions, mean, variances = principal(x, K)
    white = directions / variances.sqrt()[:, None]
    ica = FastICA(whiten=False, max_iter=500, random_state=seed).fit(((x - mean) @ white.T).cpu().numpy())
    turn = torch.from_numpy(ica.components_).to(x)
    W, back = turn @ white, torch.linalg.inv(turn).T @ (directions * variances.sqrt()[:, None])
    return Code({"W": W, "back": back, "mean": mean}, lambda x: (x - mean) @ W.T, lambda a: a @ back + mean)


def fit_kmeans(x: Tensor, K: int, seed: int, *, triangle: bool) -> Code:
    """k-means; the code says which centre is nearest, or is the triangle code of Coates and Ng (2012).

    The latter is max(0, mean_k d_k - d_j) with d_j the distance to centre j; it has no decoder of its own.
    """
    W = torch.from_numpy(KMeans(K, n_init=1, random_state=seed).fit(x.cpu().numpy()).cluster_centers_).to(x)
    if triangle:
        def encode(x: Tensor) -> Tensor:
            d = torch.cdist(x, W)
            return torch.relu(d.mean(dim=1, keepdim=True) - d)
        return Code({"W": W}, encode)
    return Code({"W": W}, lambda x: torch.nn.functional.one_hot(torch.cdist(x, W).argmin(dim=1), K).to(x), lambda a: a @ W)


def fit_mixture(x: Tensor, K: int, seed: int) -> Code:
    """A Gaussian mixture with diagonal covariances in the space of K principal components.

    The code is the posterior, the decoder the posterior mean of the centre.
    """
    directions, mean, _ = principal(x, K)

    def projected(x: Tensor):
        return ((x - mean) @ directions.T).cpu().numpy()
    mixture = GaussianMixture(K, covariance_type="diag", random_state=seed).fit(projected(x))
    numbers = {name: torch.from_numpy(getattr(mixture, f"{name}_")).to(x) for name in ("means", "covariances", "weights")}
    W = numbers["means"] @ directions + mean
    code = Code(numbers | {"directions": directions, "mean": mean},
                lambda x: torch.from_numpy(mixture.predict_proba(projected(x))).to(x), lambda a: a @ W)
    code.W = W  # follows from the other numbers
    return code


def fit_one(spec: dict, data: Dataset) -> nn.Module:
    """The code of a spec, fitted on the training set."""
    x, K, seed = data.x_train, spec["K"], spec["seed"]
    if spec["name"] == "random encoder":
        return build({**PROTOCOL, "K": K, "seed": seed, "model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]}, data)
    if spec["name"] == "raw pixels":
        return Code({}, lambda x: x)
    if spec["name"].startswith("k-means"):
        return fit_kmeans(x, K, seed, triangle=spec["name"].endswith("triangle"))
    return {"PCA": fit_pca, "ICA": fit_ica, "Gaussian mixture": fit_mixture}[spec["name"]](x, K, seed)


def fit(specs: list[dict], data: Dataset) -> tuple[list[nn.Module], list[dict]]:
    """One code a spec, and no history."""
    return [fit_one(spec, data) for spec in specs], [{}] * len(specs)


def evaluate(model: nn.Module, data: Dataset) -> dict:
    """What is measured of every contestant."""
    return measure(model, data)
