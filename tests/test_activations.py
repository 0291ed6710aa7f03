"""The reader's own activations: what is refused, how they are scaled, and what is found in them."""

import numpy as np
import pytest
import torch

from dfsae import activations, distributed, metrics
from dfsae.activations import describe, prepare, show_units
from dfsae.encoder import DecoderFreeSAE
from dfsae.shards import Rows
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


# Files


def test_a_file_is_prepared_as_an_array_is(tmp_path):
    x = some(50).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    whole, read = prepare(x, seed=3, held_out=0.2), prepare(str(tmp_path / "x.npy"), seed=3, held_out=0.2)
    assert isinstance(read.train, Rows) and read.scale == pytest.approx(whole.scale) and read.dropped == 0
    torch.testing.assert_close(read.test, whole.test)
    torch.testing.assert_close(read.train[:], whole.train)
    torch.testing.assert_close(torch.from_numpy(x)[read.rows] / read.scale, read.test)


def test_a_file_of_zeros_and_one_of_nan_are_refused(tmp_path):
    for value, words in ((0, "all zero"), (np.nan, "NaN or infinite")):
        np.save(tmp_path / "x.npy", np.full((40, 3), value, dtype=np.float32))
        with pytest.raises(ValueError, match=words):
            prepare(tmp_path / "x.npy", seed=0)


def test_samples_of_massive_norm_are_left_out_and_counted():
    x = torch.from_numpy(some(40))
    x[[5, 17]] *= 1000
    data = prepare(x, seed=0, largest_norm=10, dtype=torch.float64)
    assert data.dropped == 2 and len(data.train) + len(data.test) == 38
    assert not {5, 17} & set(data.rows.tolist())
    assert data.scale * max(data.train.norm(dim=1).max(), data.test.norm(dim=1).max()) <= 10 * x.norm(dim=1).median()
    assert prepare(x, seed=0).dropped == 0


def test_a_model_trained_from_a_file_is_that_trained_from_memory(tmp_path):
    x = some(200).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    found = []
    for given in (x, tmp_path / "x.npy"):
        data, model = prepare(given, seed=3), model_of(dtype=torch.float32)
        distributed.train(model, data.train, epochs=2, order_seed=1, batch_size=30)
        found.append(describe(model, data))
    torch.testing.assert_close(found[0].V, found[1].V)
    assert found[0].fvu == pytest.approx(found[1].fvu)


def test_the_decoder_is_fitted_on_the_first_samples(monkeypatch):
    data, model = prepare(some(400), seed=0, dtype=torch.float64), model_of()
    monkeypatch.setattr(activations, "FIT_ON", 50)
    V, c = metrics.least_squares_decoder(model.encode(data.train[:50]).detach(), data.train[:50])
    torch.testing.assert_close(describe(model, data).V, V * data.scale)


# Units


def test_units_are_shown_by_their_strongest_samples():
    data, model = prepare(some(60), seed=0, dtype=torch.float64), model_of()
    names = [f"sample {i}" for i in range(60)]
    shown = show_units(model, data, [2, 5], names=names)
    a = model.encode(data.test)[:, 5].detach()
    assert list(shown) == ["unit-2", "unit-5"]
    first = shown["unit-5"]["contexts"][0]
    assert first["tokens"] == [names[int(data.rows[a.argmax()])]] and first["activations"] == [pytest.approx(float(a.max()), abs=1e-3)]


def test_units_or_names_that_are_not_there_are_refused():
    data, model = prepare(some(60), seed=0, dtype=torch.float64), model_of()
    for units, names in (([8], 60), ([-1], 60), ([0], 10)):
        with pytest.raises(ValueError, match="names must have one text for each sample given to prepare, and units be from 0 to 7"):
            show_units(model, data, units, names=["x"] * names)
