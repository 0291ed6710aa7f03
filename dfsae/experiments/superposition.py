"""Features that are known: inputs are sparse sums of more directions than dimensions, and models are to find them."""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import normalize

from dfsae import metrics
from dfsae.data import Dataset
from dfsae.experiments import contestants, protocol
from dfsae.experiments.comparison import RATES
from dfsae.experiments.protocol import with_seeds
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import Lambdas, Terms, objective

D, DIRECTIONS, CHANCE = 32, 48, 0.05
"""48 directions in 32 dimensions; each is present in one input of twenty."""

FAMILIES = {
    "decoder-free": {"decoder-free": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]}} | {
        f"scale free, tc {tc}, LSE {lse}": {"model": "DecoderFreeSAE", "lambdas": [lse, 1, tc, 0]}
        for tc in (0.5, 2) for lse in (1, 4, 16)},
    "fixed scale": {f"norm 16, tc {tc}, LSE {lse}": {"model": "FixedScaleSAE", "radius": 16, "lambdas": [lse, 1, tc, 0]}
                    for tc in (0.5, 2) for lse in (0, 1, 4, 16)},
    "price": {f"norm 16, tc 2, price {price}": {"model": "PricedSAE", "radius": 16, "lambdas": [0, 1, 2, 0], "price": price}
              for price in (0.25, 0.5, 1, 2, 4)},
    "L1 SAE": {f"L1 {l1}": {"model": "StandardSAE", "l1": l1} for l1 in (0.05, 0.1, 0.2, 0.4)},
    "tied SAE": {f"tied, L1 {l1}": {"model": "TiedSAE", "l1": l1} for l1 in (0.05, 0.1, 0.2, 0.4)},
    "TopK SAE": {f"TopK {k}": {"model": "TopKSAE", "k": k} for k in (2, 3, 4)},
}
"""Configurations by family; "price" has the mean energy in place of Eq. 1, to tell its competition from mere sparsity."""

CONFIGURATIONS = {name: {"K": DIRECTIONS, "lr": RATES.get(family, RATES["fixed scale"]), **settings} for family, members in FAMILIES.items()
                  for name, settings in members.items()}


def specs(profile: str) -> list[dict]:
    """All contestants, each with five seeds, for a fifth of the epochs of the profile."""
    return with_seeds(CONFIGURATIONS, profile, seeds=5, part=5)


class Superposition(NamedTuple):
    """Inputs whose features are known."""

    x_train: Tensor
    """``(N, D)``, with a mean squared norm of one but for sampling."""
    x_test: Tensor
    """``(M, D)``."""
    directions: Tensor
    """``(F, D)``, unit rows."""
    amounts: Tensor
    """``(M, F)``: how much of each direction is in each test input."""


def superpose(seed: int, *, n_train: int = 18_000, n_test: int = 2_000, dtype: torch.dtype = torch.float32) -> Superposition:
    """Random directions, each present with chance 1/20 in an amount from 1/2 to 3/2, and a little noise."""
    g = torch.Generator().manual_seed(20_000 + seed)
    directions = normalize(torch.randn(DIRECTIONS, D, generator=g, dtype=dtype), dim=1)
    present = torch.rand(n_train + n_test, DIRECTIONS, generator=g, dtype=dtype) < CHANCE
    amounts = present * (0.5 + torch.rand(present.shape, generator=g, dtype=dtype))
    x = amounts @ directions + 0.01 * torch.randn(len(present), D, generator=g, dtype=dtype)
    scale = (DIRECTIONS * CHANCE * (1 + 1 / 12)) ** -0.5  # without what the directions share, E|x|^2 is the sum of E amount^2
    return Superposition(scale * x[:n_train], scale * x[n_train:], directions, scale * amounts[n_train:])


class PricedSAE(FixedScaleSAE):
    """A fixed-scale model with a price on the mean energy, summed over the batch, added to Eq. 7."""

    varied = (*FixedScaleSAE.varied, "price")

    def __init__(self, D: int, K: int, *, price: float, **options):
        super().__init__(D, K, **options)
        self.price = price

    def loss(self, x: Tensor) -> Terms:
        """The terms of Eq. 7 and their weighted sum with the price."""
        E = self.encode(x)
        terms = objective(E, self.W, lambdas=self.lambdas, reduction=self.reduction, eps=self.eps)
        return terms._replace(total=terms.total + E.new_tensor(self.price) * E.mean(dim=-1).sum(dim=-1))


def build(spec: dict, data: Superposition) -> nn.Module:
    """The untrained model of a spec."""
    if spec["model"] != "PricedSAE":
        return contestants.build(spec, data)
    return PricedSAE(D, spec["K"], price=spec["price"], radius=spec["radius"], lambdas=Lambdas(*spec["lambdas"]), eps=spec["eps"],
                     reduction=spec["reduction"], activation=spec["activation"], seed=spec["seed"],
                     dtype=data.x_train.dtype).to(data.x_train.device)


def fit(specs: list[dict], data: Dataset) -> tuple[list[nn.Module], list[dict]]:
    """Train the models of a group, those of a seed on its inputs, which each remembers; MNIST is not used."""
    trained = {}
    for seed in {spec["seed"] for spec in specs}:
        truth = Superposition(*(part.to(data.x_train.device) for part in superpose(seed, dtype=data.x_train.dtype)))
        places = [place for place, spec in enumerate(specs) if spec["seed"] == seed]
        models, histories = protocol.fit([specs[place] for place in places], truth, build=build)
        for model in models:
            model.truth = truth
        trained |= dict(zip(places, zip(models, histories)))
    return tuple(map(list, zip(*(trained[place] for place in range(len(specs))))))


def matched(similarity: Tensor) -> Tensor:
    """Entries of the one-to-one matching of rows and columns with the largest sum: ``(K, F) -> (min(K, F),)``."""
    rows, columns = linear_sum_assignment(similarity.cpu(), maximize=True)
    return similarity[rows, columns]


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset) -> dict:
    """How many directions are found, and how sparse and how lossy the code is.

    A direction is found "by decoder" if its match among the rows of the least-squares
    decoder has a cosine above 0.9; "by encoder" the same for the rows of W; "by
    code" if its amount and its match among the units correlate above 0.9.
    """
    truth = model.truth
    a_train, a = model.encode(truth.x_train), model.encode(truth.x_test)
    V, c = metrics.least_squares_decoder(a_train, truth.x_train)
    centred = [normalize(part - part.mean(dim=0), dim=0) for part in (a, truth.amounts)]
    found = {"decoder": matched(normalize(V, dim=1) @ truth.directions.T), "encoder": matched(normalize(model.W, dim=1) @ truth.directions.T),
             "code": matched(centred[0].T @ centred[1])}
    return {f"found_by_{by}": int((match > 0.9).sum()) for by, match in found.items()} | {
        f"cosine_{by}": float(match.mean()) for by, match in found.items()} | {
        "l0": metrics.l0(a), "fvu_least_squares": metrics.fvu(truth.x_test, a @ V + c),
        "never_active": int((a_train <= 0).all(dim=0).sum())}
