"""Inputs with known features, and how a model is asked whether it found them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from dfsae.data import Dataset
from dfsae.experiments import comparison, contestants, superposition
from dfsae.experiments.superposition import CHANCE, CONFIGURATIONS, D, DIRECTIONS, FAMILIES, Superposition, evaluate, fit, superpose


def test_inputs_are_sparse_sums_of_unit_directions():
    assert (D, DIRECTIONS, CHANCE) == (32, 48, 0.05)
    truth = superpose(3, n_train=4000, n_test=1000, dtype=torch.float64)
    assert (truth.x_train.shape, truth.x_test.shape) == ((4000, D), (1000, D))
    assert truth.directions.shape == (DIRECTIONS, D) and truth.amounts.shape == (1000, DIRECTIONS)
    torch.testing.assert_close(truth.directions.norm(dim=1), torch.ones(DIRECTIONS).double())
    # 5,000 x 48 draws with chance 1/20 and the 48,000 of the test set: standard errors of 1 and 2 per cent.
    assert (truth.amounts > 0).double().mean() == pytest.approx(CHANCE, rel=0.1)
    present = truth.amounts[truth.amounts > 0]
    unit = (DIRECTIONS * CHANCE * (1 + 1 / 12)) ** -0.5
    assert 0.5 * unit <= present.min() and present.max() <= 1.5 * unit and present.mean() == pytest.approx(unit, rel=0.03)
    noise = truth.x_test - truth.amounts @ truth.directions
    assert noise.std() == pytest.approx(0.01 * unit, rel=0.03)
    assert truth.x_train.square().sum(dim=1).mean() == pytest.approx(1, rel=0.1)


def test_inputs_follow_their_seed():
    first, same, other = (superpose(seed, n_train=20, n_test=10) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, same)) and not any(map(torch.equal, first, other))
    assert first.x_train.dtype == torch.float32
    assert not torch.equal(first.x_train[:10], first.x_test)


def test_contestants_are_named_by_their_settings():
    expected = {"decoder-free": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]},
                **{f"scale free, tc {tc}, LSE {lse}": {"model": "DecoderFreeSAE", "lambdas": [lse, 1, tc, 0]}
                   for lse in (1, 4, 16) for tc in (0.5, 2)},
                **{f"norm 16, tc {tc}, LSE {lse}": {"model": "FixedScaleSAE", "radius": 16, "lambdas": [lse, 1, tc, 0]}
                   for lse in (0, 1, 4, 16) for tc in (0.5, 2)},
                **{f"norm 16, tc 2, price {price}": {"model": "PricedSAE", "radius": 16, "lambdas": [0, 1, 2, 0], "price": price}
                   for price in (0.25, 0.5, 1, 2, 4)},
                **{f"L1 {l1}": {"model": "StandardSAE", "l1": l1} for l1 in (0.05, 0.1, 0.2, 0.4)},
                **{f"tied, L1 {l1}": {"model": "TiedSAE", "l1": l1} for l1 in (0.05, 0.1, 0.2, 0.4)},
                **{f"TopK {k}": {"model": "TopKSAE", "k": k} for k in (2, 3, 4)}}
    rates = {name: comparison.RATES["fixed scale" if family == "price" else family] for family, members in FAMILIES.items() for name in members}
    assert CONFIGURATIONS == {name: {"K": 48, "lr": rates[name], **settings} for name, settings in expected.items()}


@pytest.fixture
def small(monkeypatch):
    """A few inputs for every seed, and MNIST that must not be read."""
    monkeypatch.setattr(superposition, "superpose", lambda seed, dtype: superpose(seed, n_train=64, n_test=40, dtype=dtype))
    nothing = torch.full((4, D), float("nan"), dtype=torch.float64)
    return Dataset(nothing, None, nothing, None)


def test_each_model_is_trained_on_the_inputs_of_its_seed(small):
    specs = [{**spec, "epochs": 2, "batch_size": 16} for spec in superposition.specs("paper")
             if spec["name"] in ("L1 0.1", "L1 0.4") and spec["seed"] in (2, 1)][::-1]
    models, histories = fit(specs, small)
    assert [spec["seed"] for spec in specs] == [2, 2, 1, 1] and len(models) == len(histories) == 4
    for spec, model, history in zip(specs, models, histories, strict=True):
        truth = superpose(spec["seed"], n_train=64, n_test=40, dtype=torch.float64)
        (alone,), (other,) = contestants.fit([spec], truth)
        assert all(map(torch.equal, model.truth, truth)) and model.l1 == spec["l1"]
        torch.testing.assert_close(model.W, alone.W, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(history["total"], other["total"], rtol=1e-8)


def by_hand(similarity):
    return np.asarray(similarity)[linear_sum_assignment(similarity, maximize=True)]


def priced(price, seed=0, lambdas=(0, 1, 2, 0)):
    spec = {"model": "PricedSAE", "K": 6, "radius": 2.0, "lambdas": list(lambdas), "price": price, "eps": 1e-3, "reduction": "sum",
            "activation": "relu", "seed": seed}
    return superposition.build(spec, SimpleNamespace(x_train=torch.zeros(1, dtype=torch.float64)))


def test_the_price_is_on_the_mean_energy_of_every_input():
    model = priced(0.7)
    x = superpose(1, n_train=40, n_test=1, dtype=torch.float64).x_train
    with torch.no_grad():
        terms, E, free = model.loss(x), model.encode(x), priced(0).loss(x)
    torch.testing.assert_close(terms.total, terms.var + 2 * terms.tc + 0.7 * E.mean(dim=1).sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.total, free.total + 0.7 * E.sum() / 6, rtol=1e-12, atol=0)
    assert (model.radius, model.eps, model.reduction, model.activation, list(model.lambdas)) == (2.0, 1e-3, "sum", "relu", [0, 1, 2, 0])
    assert torch.equal(model.W, priced(3).W) and not torch.equal(model.W, priced(0.7, seed=1).W)
    assert model.W.dtype == torch.float64 and model.W.shape == (6, D)


def test_models_of_different_prices_train_together_as_alone(together_as_alone):
    together_as_alone(lambda: [priced(0.5), priced(5.0, seed=1, lambdas=(1, 1, 1, 0))],
                      superpose(1, n_train=64, n_test=1, dtype=torch.float64).x_train)


@pytest.mark.parametrize("name", ["L1 0.1", "norm 16, tc 2, price 1", "norm 16, tc 2, LSE 4", "tied, L1 0.1", "decoder-free"])
def test_what_is_found_beside_numpy(name, small):
    spec = next(spec for spec in superposition.specs("smoke") if spec["name"] == name)
    (model,), _ = fit([{**spec, "batch_size": 16}], small)
    truth = model.truth
    with torch.no_grad():
        a_train, a = model.encode(truth.x_train).numpy(), model.encode(truth.x_test).numpy()
    T = truth.directions.numpy()
    # With fewer samples than numbers to fit, the solution of least norm.
    centred = a_train - a_train.mean(axis=0)
    V = np.linalg.pinv(centred) @ (truth.x_train.numpy() - truth.x_train.numpy().mean(axis=0))
    W = model.W.detach().numpy()
    with np.errstate(invalid="ignore"):  # of a unit or a direction that is never present
        correlations = np.nan_to_num(np.corrcoef(a.T, truth.amounts.T)[:48, 48:])
    matches = {"decoder": by_hand(V / np.linalg.norm(V, axis=1, keepdims=True) @ T.T),
               "encoder": by_hand(W / np.linalg.norm(W, axis=1, keepdims=True) @ T.T),
               "code": by_hand(correlations)}
    found = evaluate(model, small)
    for by, match in matches.items():
        assert found[f"cosine_{by}"] == pytest.approx(match.mean(), rel=1e-6)
        assert found[f"found_by_{by}"] == (match > 0.9).sum()
    x_hat = a @ V + truth.x_train.numpy().mean(axis=0) - a_train.mean(axis=0) @ V
    x = truth.x_test.numpy()
    assert found["fvu_least_squares"] == pytest.approx(((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum(), rel=1e-6)
    assert found["l0"] == (a > 0.01).sum(axis=1).mean() and found["never_active"] == (a_train.max(axis=0) == 0).sum()


def test_a_code_that_is_the_truth_finds_everything_and_one_direction_counts_once():
    truth = superpose(1, n_train=2000, n_test=500, dtype=torch.float64)
    x = torch.cat([truth.amounts, truth.amounts]) @ truth.directions
    clean = Superposition(x, truth.x_test, truth.directions, truth.amounts)
    amounts = {len(clean.x_train): torch.cat([truth.amounts, truth.amounts]), len(clean.x_test): truth.amounts}
    model = SimpleNamespace(encode=lambda x: amounts[len(x)], W=3 * truth.directions, truth=clean)
    found = evaluate(model, None)
    assert found["found_by_encoder"] == found["found_by_code"] == found["found_by_decoder"] == 48
    model.W = truth.directions[:1].repeat(48, 1)
    assert evaluate(model, None)["found_by_encoder"] == 1
    model.W = -truth.directions
    assert evaluate(model, None)["found_by_encoder"] == 0, "the sign counts"
