"""The reader's own activations: what is refused, how they are scaled, and what is found in them."""

import numpy as np
import pytest
import torch

from dfsae import metrics
from dfsae.activations import describe, prepare
from dfsae.encoder import DecoderFreeSAE
from dfsae.training import train


def some(n=100, D=6, seed=0):
    return np.random.default_rng(seed).normal(1.0, 3.0, (n, D))


def model_of(D=6, K=8, dtype=torch.float64):
    return DecoderFreeSAE(D, K, reduction="sum", seed=0, dtype=dtype)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, lambda x: x.astype(np.float32), lambda x: torch.from_numpy(x).half()])
def test_arrays_and_tensors_are_split_and_scaled(kind):
    given = kind(some())
    data = prepare(given, seed=1)
    assert (data.train.shape, data.test.shape) == ((90, 6), (10, 6)) and data.train.dtype == torch.float32
    assert data.train.square().sum(dim=1).mean() == pytest.approx(1, rel=1e-5)
    back = data.scale * torch.cat([data.test, data.train]).double()
    original = torch.as_tensor(given).double()
    order = torch.cdist(back, original).argmin(dim=1)
    assert sorted(order.tolist()) == list(range(100)) and order.tolist() != list(range(100)), "each once, in another order"
    torch.testing.assert_close(back, original[order], rtol=1e-5, atol=1e-5)


def test_the_split_follows_its_seed_and_its_share():
    x = some()
    first, same, other = (prepare(x, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.test, same.test) and not torch.equal(first.test, other.test)
    assert len(prepare(x, seed=1, held_out=0.4).test) == 40
    assert prepare(x, seed=1, dtype=torch.float64).train.dtype == torch.float64


def test_the_held_out_samples_do_not_set_the_scale():
    x = torch.ones(10, 2)
    data = prepare(x, seed=0, held_out=0.2)
    first = torch.randperm(10, generator=torch.Generator().manual_seed(0))[:2]
    x[first] = 100
    assert prepare(x, seed=0, held_out=0.2).scale == data.scale == pytest.approx(2 ** 0.5)


@pytest.mark.parametrize("given, words", [
    (np.full((10, 3), np.nan), "activations holds NaN or infinite values; clean the data"),
    (np.full((10, 3), np.inf), "activations holds NaN or infinite values"),
    (np.ones((10, 3), dtype=int), "activations must be a float tensor, got torch.int64"),
    (np.ones(10), "needs at least 4 sample"), (np.ones((1, 3)), "needs at least 4 sample"),
    (np.ones((2, 10, 3)), r"must be \(samples, D\), got shape \(2, 10, 3\); join the leading dimensions first"),
    (np.ones((10, 3)), "held_out = 0.1 of 10 samples leaves 9 to train on and 1 to measure; both need two or more"),
    (np.zeros((40, 3)), "activations are all zero")])
def test_bad_activations_are_refused_with_a_reason(given, words):
    with pytest.raises(ValueError, match=words):
        prepare(given, seed=0)


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.5, 1.5, 0.99])
def test_a_split_without_two_samples_on_either_side_is_refused(held_out):
    with pytest.raises(ValueError, match="both need two or more"):
        prepare(some(), seed=0, held_out=held_out)


def test_findings_beside_numpy():
    data = prepare(some(400), seed=0, dtype=torch.float64)
    model = model_of()
    train(model, data.train, epochs=2, order_seed=0, progress=False)
    with torch.no_grad():
        model.b[3] = -1e3  # never active
    found = describe(model, data)
    a_train, a = (model.encode(part).detach().numpy() for part in (data.train, data.test))
    x_train, x = data.scale * data.train.numpy(), data.scale * data.test.numpy()
    best = np.linalg.lstsq(np.column_stack([a_train, np.ones(len(a_train))]), x_train, rcond=None)[0]
    np.testing.assert_allclose(found.V, best[:-1], atol=1e-8)
    np.testing.assert_allclose(found.constant, best[-1], atol=1e-8)
    rest = x - a @ best[:-1] - best[-1]
    assert found.fvu == pytest.approx((rest ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum(), rel=1e-8)
    np.testing.assert_allclose(found.density, (a > 0.01).mean(axis=0))
    assert found.l0 == pytest.approx((a > 0.01).sum(axis=1).mean())
    assert found.never_active == 1 and found.density[3] == 0 and found.V[3].abs().max() < 1e-9
    assert found.mean_squared_correlation == metrics.mean_squared_correlation(torch.from_numpy(a))
    assert not found.V.requires_grad
