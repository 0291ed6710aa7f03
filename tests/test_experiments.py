"""Profiles, the published protocol, and a whole run on a few random samples."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from dfsae import experiments, metrics
from dfsae.baselines import PublishedSAE, StandardSAE
from dfsae.data import Dataset
from dfsae.encoder import DecoderFreeSAE
from dfsae.experiments import (
    ABLATION, BENCHMARK, PROFILES, PROTOCOL, ablation_metrics, ablation_specs, benchmark_metrics,
    benchmark_specs, build, fit, get_profile, run, yardsticks,
)
from dfsae.objective import EPS, correlation, responsibilities

TINY = {"K": 6, "batch_size": 16, "epochs": 2}
# Float64 sums over 80 samples: a margin of 1e3 for another CPU.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def data():
    """Samples of rank 8 whose largest entry decides their label."""
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + torch.randn(120, 8, generator=generator, dtype=torch.float64)
    y = x.argmax(dim=1) % 3
    return Dataset(x[:80], y[:80], x[80:], y[80:])


def ablation_spec(name, seed=1):
    return {**next(spec for spec in ablation_specs("smoke") if spec["name"] == name), **TINY, "seed": seed}


def benchmark_spec(name, seed=1):
    return {**next(spec for spec in benchmark_specs("smoke") if spec["name"] == name), **TINY, "seed": seed}


# Profiles and specifications

def test_profiles():
    assert PROFILES.keys() == {"smoke", "quick", "paper"}
    assert PROFILES["paper"] == (100, 3, 5, None, None, "float32"), "the published scale"
    assert PROFILES["quick"].n_train is None and PROFILES["quick"].epochs < 100
    assert PROFILES["smoke"].dtype == "float64", "its numbers are compared with stored ones"
    assert all(size.n_train is None or size.n_train % PROTOCOL["batch_size"] != 1 for size in PROFILES.values())


@pytest.mark.parametrize("function", [get_profile, ablation_specs, benchmark_specs, experiments.load_data])
def test_unknown_profile_is_named(function):
    with pytest.raises(ValueError, match=r"profile must be one of \['paper', 'quick', 'smoke'\], got 'papper'"):
        function("papper")


def test_load_data_has_the_size_and_precision_of_the_profile(monkeypatch):
    monkeypatch.setattr(experiments, "load_mnist", lambda **options: options)
    assert experiments.load_data.__wrapped__("smoke") == {"n_train": 1280, "n_test": 500, "dtype": torch.float64}
    assert experiments.load_data.__wrapped__("paper") == {"n_train": None, "n_test": None, "dtype": torch.float32}


def test_published_protocol():
    assert PROTOCOL == {"K": 64, "batch_size": 128, "optimizer": "adam", "lr": 1e-3, "eps": 1e-6,
                        "reduction": "sum", "activation": "relu"}
    assert PROTOCOL["eps"] == EPS
    assert [tuple(lambdas) for lambdas in ABLATION.values()] == \
        [(1, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 0), (0, 1, 1, 0)]
    assert BENCHMARK["decoder-free"]["lambdas"] == [1, 1, 1, 0] and BENCHMARK["published SAE"]["l1"] == 0.01


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("specs_of, names, seeds", [
    (ablation_specs, ABLATION, "ablation_seeds"), (benchmark_specs, BENCHMARK, "benchmark_seeds")])
def test_specs_are_every_name_with_every_seed(profile, specs_of, names, seeds):
    specs, size = specs_of(profile), get_profile(profile)
    assert sorted((spec["name"], spec["seed"]) for spec in specs) == \
        sorted(product(names, range(1, getattr(size, seeds) + 1)))
    assert json.loads(json.dumps(specs)) == specs, "a record holds its spec as JSON"
    assert all(spec["epochs"] == size.epochs and PROTOCOL.items() <= spec.items() for spec in specs)


# Models

@pytest.mark.parametrize("name, kind", [
    ("decoder-free", DecoderFreeSAE), ("published SAE", PublishedSAE), ("standard SAE", StandardSAE)])
def test_build_follows_the_spec(name, kind, data):
    spec = benchmark_spec(name, seed=7)
    model = build(spec, data)
    assert type(model) is kind and model.W.shape == (6, 8) and model.W.dtype == torch.float64
    assert torch.equal(model.W, build(spec, data).W)
    assert not torch.equal(model.W, build({**spec, "seed": 8}, data).W)
    if kind is DecoderFreeSAE:
        assert (list(model.lambdas), model.reduction, model.activation, model.eps) == \
            (spec["lambdas"], "sum", "relu", 1e-6)
    else:
        assert model.l1 == spec["l1"]
    if kind is StandardSAE:
        torch.testing.assert_close(model.b_dec.detach(), data.x_train.mean(dim=0))


def test_unknown_model_is_named(data):
    with pytest.raises(ValueError, match="unknown model 'VAE'"):
        build({**benchmark_spec("decoder-free"), "model": "VAE"}, data)


def test_fit_trains_with_the_settings_of_the_spec(data, monkeypatch):
    seen = {}
    monkeypatch.setattr(experiments, "train", lambda model, x, **options: seen.update(options, n=len(x)))
    fit({**ablation_spec("LSE only", seed=3), "lr": 0.5, "optimizer": "sgd"}, data)
    assert seen == {"n": 80, "epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 0.5,
                    "order_seed": 10_003, "progress": False}


# Runs

@pytest.mark.parametrize("name, spec_of, evaluate", [
    *[(name, ablation_spec, ablation_metrics) for name in ABLATION],
    *[(name, benchmark_spec, benchmark_metrics) for name in BENCHMARK]])
def test_run_is_finite_json_and_repeatable(name, spec_of, evaluate, data, monkeypatch):
    monkeypatch.setattr(experiments, "load_data", {"smoke": data}.get)
    record = run(spec_of(name), "smoke", evaluate)
    assert record.keys() == {"metrics", "history", "seconds", "train_seconds", "threads"}
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert all(len(values) == 2 for values in record["history"].values())
    assert 0 <= record["train_seconds"] <= record["seconds"] + 0.01
    assert run(spec_of(name), "smoke", evaluate)["metrics"] == record["metrics"]


def test_a_metric_that_is_not_defined_is_stored_as_null(data, monkeypatch):
    spec = {**ablation_spec("LSE only"), "optimizer": "sgd", "lr": 10.0}  # kills every unit at once
    positive = data._replace(x_train=data.x_train.abs(), x_test=data.x_test.abs())
    monkeypatch.setattr(experiments, "load_data", {"smoke": positive}.get)
    found = run(spec, "smoke", ablation_metrics)["metrics"]
    assert found["dead_units"] == 6 and found["redundancy"] is None
    assert found["responsibility_entropy"] == pytest.approx(np.log(6))


def test_ablation_metrics_are_those_of_the_test_set(data):
    model = build(ablation_spec("LSE + var"), data)
    found, E = ablation_metrics(model, data), model.encode(data.x_test).detach()
    r = responsibilities(E)
    assert found["dead_units"] == metrics.dead_units(E)
    assert found["redundancy"] == metrics.redundancy(E) > 0
    assert found["responsibility_entropy"] == metrics.responsibility_entropy(r)
    assert found["mean_max_responsibility"] == metrics.mean_max_responsibility(r)
    assert found["l0_energy"] == metrics.l0(E)
    assert found["l0_activation"] == metrics.l0(E.amax(dim=1, keepdim=True) - E)
    np.testing.assert_allclose(found["feature_usage"], r.mean(dim=0), atol=1e-6)  # stored with 6 digits
    np.testing.assert_allclose(found["variances"], np.var(E.numpy(), axis=0, ddof=1), atol=1e-6)
    np.testing.assert_allclose(found["firing_rate"], (E > 0.01).double().mean(dim=0), atol=1e-6)
    np.testing.assert_allclose(found["correlation"], correlation(E, eps=1e-12), atol=1e-3)


def test_benchmark_metrics_of_the_decoder_free_model(data):
    model = build(benchmark_spec("decoder-free"), data)
    found, E = benchmark_metrics(model, data), model.encode(data.x_test).detach()
    W = model.W.detach()
    assert found["parameters"] == 6 * 8 + 6
    assert found["mse_own"] == found["mse_transpose"] == metrics.mse(data.x_test, E @ W)
    assert found["mse_transpose_of_s"] == metrics.mse(data.x_test, (E.amax(dim=1, keepdim=True) - E) @ W)
    assert found["published_mse"] == metrics.published_mse(data.x_test, E, W)
    assert found["l0"] == metrics.l0(E) and 0 <= found["probe_accuracy"] <= 1
    # The best decoder of the training set, judged on the test set, still beats W^T by far.
    assert found["fvu_least_squares"] < found["fvu_transpose_scaled"]
    a = model.encode(data.x_train).detach()
    scale = (data.x_train * (a @ W)).sum() / (a @ W).square().sum()  # the slope of a regression
    np.testing.assert_allclose(found["mse_transpose_scaled"], metrics.mse(data.x_test, scale * (E @ W)), **CLOSE)


def test_benchmark_metrics_of_a_model_with_a_decoder(data):
    model = build(benchmark_spec("standard SAE"), data)
    with torch.no_grad():
        model.W_dec[0] *= 2  # no longer tied, nor a multiple of the encoder
    found, a = benchmark_metrics(model, data), model.encode(data.x_test).detach()
    assert found["parameters"] == 2 * 6 * 8 + 6 + 8 and "mse_transpose_of_s" not in found
    assert found["mse_own"] == metrics.mse(data.x_test, model.decode(a).detach())
    assert found["mse_transpose"] == metrics.mse(data.x_test, a @ model.W.detach())
    assert found["published_mse"] == metrics.published_mse(data.x_test, a, model.W_dec.detach())
    silent = (model.encode(data.x_train) == 0).all(dim=0)
    assert found["never_active"] == int(silent.sum())


def test_yardsticks_beside_sklearn(data):
    found = yardsticks(data, K=3)
    mean = data.x_train.mean(dim=0).expand_as(data.x_test)
    pca = PCA(3, svd_solver="full").fit(data.x_train)
    projected = torch.from_numpy(pca.inverse_transform(pca.transform(data.x_test)))
    for name, x_hat in {"zero": torch.zeros_like(mean), "mean": mean, "pca": projected}.items():
        np.testing.assert_allclose(found[f"mse_{name}"], metrics.mse(data.x_test, x_hat), **CLOSE)
        np.testing.assert_allclose(found[f"fvu_{name}"], metrics.fvu(data.x_test, x_hat), **CLOSE)
    assert found["fvu_pca"] < 1 <= found["fvu_mean"] < found["fvu_zero"]
    assert found["probe_accuracy"] == metrics.linear_probe(data.x_train, data.y_train, data.x_test, data.y_test)
    np.testing.assert_allclose(yardsticks(data, K=8)["mse_pca"], 0, atol=1e-20)  # squares of 1e-16
