"""The scale of a layer: the radial gradient, the stopping rule, and the model whose scale is fixed."""

from functools import partial
from math import inf, nan

import numpy as np
import pytest
import torch

from dfsae.encoder import DecoderFreeSAE
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import EPS, Lambdas
from dfsae.scale import radial_pull, scale_part, squared_norms, stop_epoch
from dfsae.training import train_together

close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)  # float64, a few hundred terms


def model(kind=DecoderFreeSAE, *, seed=0, eps=EPS, **options):
    return kind(5, 4, reduction="sum", seed=seed, eps=eps, dtype=torch.float64, **options)


def test_squared_norms_and_scale_part_beside_numpy(randn):
    W, b = randn(4, 5), randn(4)
    norms = (np.column_stack([W, b]) ** 2).sum(axis=1)
    close(squared_norms(W, b), norms)
    close(scale_part(W, b), -np.log(norms).sum())


def test_scaling_a_unit_moves_the_variance_penalty_as_the_scale_part(randn):
    before, after, x = model(eps=0.0), model(eps=0.0), randn(30, 5)
    with torch.no_grad():
        after.W[1] *= 3
        after.b[1] *= 3
    for term in ("var", "tc"):
        moved = getattr(after.loss(x), term) - getattr(before.loss(x), term)
        owed = scale_part(after.W, after.b) - scale_part(before.W, before.b)
        close(moved.detach(), owed.detach() if term == "var" else 0)


def test_the_pull_is_the_radial_gradient_of_eq1(randn):
    found, x = model(lambdas=Lambdas(1, 0, 0)), randn(30, 5)
    E = found.encode(x)
    found.loss(x).total.backward()
    radial = (found.W * found.W.grad).sum(dim=1) + found.b * found.b.grad
    close(radial_pull(E.detach()), radial.detach())
    close(radial_pull(torch.tensor([[0.0, 1.0], [2.0, 2.0]], dtype=torch.float64)),
          [1.0, 1 / (1 + np.e) + 1])


def test_the_pull_of_bad_energies_is_an_error():
    with pytest.raises(ValueError, match="E holds NaN"):
        radial_pull(torch.tensor([[nan, 1.0]]))
    with pytest.raises(ValueError, match="E needs at least 2 dimensions"):
        radial_pull(torch.ones(3))


@pytest.mark.parametrize("losses, expected", [
    ([9, 7, 5, 3.0, 2.5, 2.4, 2.3, 2.2, 2.1], 3), ([1.0] * 6, 0), ([1.0] * 5, 5), ([9.0, 5.0, 1.0], 3), ([], 0),
    ([0, 0.5, 0, 5, 5.1, 5.2, 5.3, 5.4, 5.5], 3),  # two small changes alone do not count
    ([10, 9, 8, 7, 6, 5, 4], 7),  # a change of exactly one is not below one
    ([5, 5.9, 5, 5.9, 5, 5.9], 0),  # up or down
])
def test_stop_epoch_by_hand(losses, expected):
    assert stop_epoch(losses) == expected


def test_stop_epoch_takes_change_and_window():
    losses = [0.0, 3.0, 5.0, 6.5, 7.5]
    assert stop_epoch(losses, change=2, window=2) == 2 and stop_epoch(losses, change=4, window=3) == 0
    with pytest.raises(ValueError, match="losses must be finite"):
        stop_epoch([1.0, nan])


# Fixed scale

def test_fixed_scale_energies_by_hand(randn):
    found, x = model(FixedScaleSAE, radius=3.0), randn(7, 5)
    W, b, norm = found.W.detach().numpy(), found.b.detach().numpy(), np.linalg.norm(found.W.detach(), axis=1)
    E = found.encode(x).detach()
    close(E, 3 * np.maximum((x.numpy() @ W.T + b) / norm, 0))
    close(found.decode(E).detach(), E.numpy() @ (3 * W / norm[:, None]))
    close(found.scaled()[0].norm(dim=1).detach(), [3.0] * 4)


def test_the_scale_of_the_parameters_has_no_effect(randn):
    one, other, x = model(FixedScaleSAE, radius=2.0), model(FixedScaleSAE, radius=2.0), randn(30, 5)
    with torch.no_grad():
        other.W *= 5
        other.b *= 5
    close(other.loss(x).total.detach(), one.loss(x).total.detach())
    one.loss(x).total.backward()
    close(((one.W * one.W.grad).sum(dim=1) + one.b * one.b.grad).detach(), np.zeros(4), atol=1e-9)


def test_a_fixed_scale_model_starts_where_the_free_one_does():
    free, found = model(seed=3), model(FixedScaleSAE, radius=1.0, seed=3)
    assert torch.equal(free.W, found.W) and torch.equal(free.b, found.b)


def test_fixed_scale_models_train_together_as_alone(randn):
    def pair():
        return [model(FixedScaleSAE, radius=4.0, seed=seed, lambdas=Lambdas(lse=seed)) for seed in (0, 1)]

    x, together, alone = randn(40, 5).abs(), pair(), pair()
    settings = {"epochs": 3, "batch_size": 16, "progress": False}
    train_together(together, x, order_seeds=[5, 6], optimizers=["adam"] * 2, lrs=[1e-2] * 2, **settings)
    for found, other, seed in zip(together, alone, (5, 6), strict=True):
        train_together([other], x, order_seeds=[seed], optimizers=["adam"], lrs=[1e-2], **settings)
        close(found.W.detach(), other.W.detach(), rtol=1e-8)
        close(found.b.detach(), other.b.detach(), rtol=1e-8)


@pytest.mark.parametrize("radius", [0.0, -1.0, inf, nan])
def test_a_bad_radius_is_named(radius):
    with pytest.raises(ValueError, match="radius must be finite and > 0, got"):
        model(FixedScaleSAE, radius=radius)
