"""The experiments that the book adds: the contestants of the fair comparison, classical codes, sweeps, anomalies."""

import json
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from test_experiments import CLOSE, best_affine, tiny, uneven, without_rate

from dfsae import metrics
from dfsae.autoencoders import TiedSAE, TopKSAE
from dfsae.baselines import PublishedSAE, StandardSAE
from dfsae.data import Dataset
from dfsae.encoder import DecoderFreeSAE
from dfsae.experiments import anomaly, benchmark, classical, comparison, contestants, lower_rate, rates, selection, sweeps, wide, wide_selection
from dfsae.experiments.codes import probed_metrics
from dfsae.experiments.protocol import PROTOCOL, build, fit
from dfsae.volume import VolumeSAE


def test_the_contestants_are_named_by_their_settings():
    expected = {
        "decoder-free": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]},
        "decoder-free, without LSE": {"model": "DecoderFreeSAE", "lambdas": [0, 1, 1, 0]},
        "decoder-free, without variance": {"model": "DecoderFreeSAE", "lambdas": [1, 0, 1, 0]},
        "decoder-free, without decorrelation": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 0, 0]},
        "log-det": {"model": "VolumeSAE", "volume": "log-det", "lambdas": [1, 1, 0, 0]},
        "log-det, without LSE": {"model": "VolumeSAE", "volume": "log-det", "lambdas": [0, 1, 0, 0]},
        "published SAE": {"model": "PublishedSAE", "l1": 0.01},
        **{f"hinge {weight}": {"model": "VolumeSAE", "volume": "hinge", "lambdas": [1, weight, 1, 0]} for weight in (10, 100, 1000)},
        **{f"L1 {l1}": {"model": "StandardSAE", "l1": l1} for l1 in (0.1, 0.25, 0.5, 1, 2)},
        **{f"tied, L1 {l1}": {"model": "TiedSAE", "l1": l1} for l1 in (0.1, 0.25, 0.5, 0.75, 1)},
        **{f"TopK {k}": {"model": "TopKSAE", "k": k} for k in (4, 8, 16, 32)}}
    for radius, lse in product((4, 16), (0.25, 1, 4)):
        expected[f"norm {radius}, tc 0.5, LSE {lse}"] = {
            "model": "FixedScaleSAE", "radius": radius, "lambdas": [lse, 1, 0.5, 0]}
        expected[f"norm {radius}, log-det, LSE {lse}"] = {
            "model": "VolumeSAE", "volume": "log-det", "radius": radius, "lambdas": [lse, 1, 0, 0]}
    assert {name: without_rate(settings) for name, settings in comparison.CONFIGURATIONS.items()} == expected
    assert sum(map(len, comparison.FAMILIES.values())) == len(expected) == 36, "no name twice"


def test_the_learning_rates_are_those_of_one_contestant_a_family():
    assert rates.RATES == (3e-4, 1e-3, 3e-3, 1e-2)
    contestants = [without_rate(settings) for settings in comparison.CONFIGURATIONS.values()]
    assert all(settings in contestants for settings in rates.FAMILIES.values())
    kinds = set(map(family_of, contestants)) - {("PublishedSAE", "", False)}
    assert sorted(map(family_of, rates.FAMILIES.values())) == sorted(kinds), "the published rate is given"
    for name, settings in rates.CONFIGURATIONS.items():
        family, lr = name.rsplit(", lr ", 1)
        assert settings == {**rates.FAMILIES[family], "lr": float(lr)}
    assert len(rates.CONFIGURATIONS) == 4 * len(rates.FAMILIES)


def test_a_contestant_has_the_rate_of_its_family():
    chosen = {
        ("DecoderFreeSAE", "", False): 1e-3, ("VolumeSAE", "log-det", False): 1e-3, ("VolumeSAE", "hinge", False): 3e-4,
        ("FixedScaleSAE", "", True): 3e-4, ("VolumeSAE", "log-det", True): 3e-4,
        ("StandardSAE", "", False): 1e-3, ("TiedSAE", "", False): 1e-3, ("TopKSAE", "", False): 3e-4}
    assert {family_of(settings): settings["lr"] for settings in comparison.CONFIGURATIONS.values() if "lr" in settings} == chosen
    for settings in comparison.CONFIGURATIONS.values():
        assert settings.get("lr") == chosen.get(family_of(settings)), "published: that of the protocol"
    assert comparison.RATES == {name: chosen[family_of(settings)] for name, settings in rates.FAMILIES.items()}
    assert set(chosen.values()) <= set(rates.RATES)


def test_the_lower_rate_is_for_families_that_did_best_at_the_lowest():
    assert list(lower_rate.FAMILIES) == ["hinge", "fixed scale", "fixed scale, log-determinant", "TopK SAE"]
    assert lower_rate.RATE < min(rates.RATES) / 2
    for spec in lower_rate.specs("paper"):
        family = spec["name"].removesuffix(", lr 0.0001")
        known = next(other for other in rates.specs("paper") if other["name"] == f"{family}, lr 0.0003" and other["seed"] == spec["seed"])
        assert {**spec, "name": known["name"], "lr": 3e-4} == known


def test_the_wide_contestants_are_those_of_the_comparison_with_more_units_and_a_weight_for_them():
    assert wide_selection.K == 1024 > 784
    known = {name: without_rate(settings) for name, settings in comparison.CONFIGURATIONS.items()}
    weighed = {f"decoder-free, tc 1/{part}": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1 / part, 0]} for part in (1, 16)} | {
        f"norm {radius}, tc 1/{part}": {"model": "FixedScaleSAE", "radius": radius, "lambdas": [1, 1, 1 / part, 0]}
        for radius in (4, 16) for part in (2, 32)}
    for name, settings in wide_selection.CONFIGURATIONS.items():
        assert without_rate(settings) == {"K": 1024, **(known | weighed)[name]}
        family = {"DecoderFreeSAE": "decoder-free", "FixedScaleSAE": "fixed scale", "StandardSAE": "L1 SAE",
                  "TiedSAE": "tied SAE", "TopKSAE": "TopK SAE"}[settings["model"]]
        assert settings["lr"] == comparison.RATES[family]
    assert sum(map(len, wide_selection.FAMILIES.values())) == len(wide_selection.CONFIGURATIONS) == 15, "no name twice"


def test_one_wide_contestant_a_family_is_trained_on_the_whole_training_set(data):
    assert (wide.fit, wide.evaluate) == (contestants.fit, contestants.evaluate)
    assert all(sum(name in members for name in wide.CHOSEN) >= 1 for members in wide_selection.FAMILIES.values())
    assert "decoder-free, tc 1/1" in wide.CHOSEN, "the published weights"


def family_of(settings):
    """What contestants with one learning rate have in common."""
    return settings["model"], settings.get("volume", ""), "radius" in settings


@pytest.mark.parametrize("name", comparison.CONFIGURATIONS)
def test_a_contestant_follows_its_spec(name, data):
    spec = {**tiny(comparison.specs, name, seed=7), "eps": 0.1, "activation": "softplus"}
    model = contestants.build(spec, data)
    assert type(model).__name__ == spec["model"]
    assert model.W.shape == (spec["K"], 8) and model.W.dtype == torch.float64
    assert torch.equal(model.W, contestants.build(spec, data).W)
    assert not torch.equal(model.W, contestants.build({**spec, "seed": 8}, data).W)
    for setting in ("l1", "k", "volume", "radius"):
        assert setting not in spec or getattr(model, setting) == spec[setting]
    if isinstance(model, DecoderFreeSAE):
        assert (list(model.lambdas), model.reduction, model.eps, model.activation) == (spec["lambdas"], "sum", 0.1, "softplus")
        assert not isinstance(model, VolumeSAE) or model.free == ("radius" not in spec)
    else:
        at_the_mean = torch.allclose(model.b_dec, data.x_train.mean(dim=0))
        assert at_the_mean == (type(model) is not PublishedSAE)


def test_the_reduction_of_a_fixed_scale_contestant_is_that_of_its_spec(data):
    spec = {**tiny(comparison.specs, "norm 16, tc 0.5, LSE 1"), "reduction": "mean"}
    assert contestants.build(spec, data).reduction == "mean"


def test_contestants_of_the_earlier_experiments_are_built_as_there(data):
    for name in ("decoder-free", "published SAE", "L1 0.5"):
        spec = tiny(comparison.specs, name, seed=3)
        found, expected = contestants.build(spec, data), build(spec, data)
        assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())
    with pytest.raises(ValueError, match="unknown model 'VAE'"):
        contestants.build({**spec, "model": "VAE"}, data)


def test_the_part_to_choose_by_is_the_last_sixth_of_the_training_set(data):
    part = contestants.split(data)
    assert [len(piece) for piece in part] == [66, 66, 14, 14]
    assert torch.equal(torch.cat([part.x_train, part.x_test]), data.x_train)
    assert torch.equal(torch.cat([part.y_train, part.y_test]), data.y_train)


@pytest.mark.parametrize("experiment, name", [
    (rates, "TopK SAE, lr 0.003"), (lower_rate, "TopK SAE, lr 0.0001"), (rates, "hinge, lr 0.01"), (selection, "TopK 4"), (selection, "norm 4, log-det, LSE 1"),
    (wide_selection, "L1 1")])
def test_nothing_of_the_test_set_is_read_to_choose(experiment, name, data):
    poisoned, part = data._replace(x_test=data.x_test * np.nan, y_test=data.y_test - 9), contestants.split(data)
    x = data.x_train.clone()
    x[66:] = np.nan  # the last sixth is to choose by
    specs = [tiny(experiment.specs, name, seed) for seed in (1, 2)]
    models, histories = experiment.fit(specs, poisoned._replace(x_train=x))
    expected, others = contestants.fit(specs, part)
    assert histories == others and len(histories) == 2
    for model, other in zip(models, expected, strict=True):
        assert torch.equal(model.W, other.W)
        np.testing.assert_equal(experiment.evaluate(model, poisoned), contestants.evaluate(other, part))


@pytest.mark.parametrize("name", ["L1 0.5", "TopK 4", "decoder-free", "norm 16, tc 0.5, LSE 1"])
def test_the_comparison_trains_on_the_whole_training_set_and_is_measured_on_the_test_set(name, data):
    spec = tiny(comparison.specs, name)
    (model,), history = comparison.fit([spec], data)
    (expected,), other = fit([spec], data, build=contestants.build)
    assert history == other and all(map(torch.equal, model.parameters(), expected.parameters()))
    assert comparison.evaluate(model, data)["fvu_own"] == metrics.fvu(data.x_test, model.decode(model.encode(data.x_test)).detach())


def codes_of(model, x):
    """The code of a contestant by NumPy."""
    W, b = model.W.detach().numpy(), (model.b if hasattr(model, "b") else model.b_enc).detach().numpy()
    if type(model) in (StandardSAE, TiedSAE, TopKSAE):
        x = x - model.b_dec.detach().numpy()
    a = np.maximum(x @ W.T + b, 0)
    return np.where(a >= np.sort(a, axis=1)[:, [-model.k]], a, 0) if type(model) is TopKSAE else a


@pytest.mark.parametrize("make", [lambda *args: contestants.build(tiny(*args[:2]), args[2]), uneven], ids=["as built", "uneven"])
@pytest.mark.parametrize("name", [
    "decoder-free", "log-det", "hinge 100", "published SAE", "L1 0.5", "tied, L1 0.5", "TopK 4"])
def test_metrics_of_a_contestant_beside_numpy(name, make, data):
    model = make(comparison.specs, name, data)
    with torch.no_grad():
        if hasattr(model, "W_dec") and not isinstance(model, TiedSAE):
            model.W_dec[1, 0] += 1  # no longer the encoder transposed
    x_train, x = data.x_train.numpy(), data.x_test.numpy()
    a_train, a = codes_of(model, x_train), codes_of(model, x)
    K, W = a.shape[1], model.W.detach().numpy()
    variances = a.var(axis=0, ddof=1)
    varying = np.corrcoef(a[:, variances > 0], rowvar=False)
    off = (varying ** 2)[~np.eye(len(varying), dtype=bool)]
    own = a @ W if hasattr(model, "b") else a @ model.W_dec.detach().numpy() + model.b_dec.detach().numpy()
    pixels = (a_train @ W).reshape(-1, 1)  # one equation for each pixel of each sample
    scale, *constant = np.linalg.lstsq(np.column_stack([pixels, np.tile(np.eye(8), (80, 1))]), x_train.reshape(-1), rcond=None)[0]
    V = best_affine(a_train, x_train)

    def fvu(x_hat):
        return ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()

    numbers = {"DecoderFreeSAE": 9 * K, "VolumeSAE": 9 * K, "TiedSAE": 9 * K + 8}.get(type(model).__name__, 17 * K + 8)
    expected = {
        "probe_accuracy": metrics.linear_probe(torch.from_numpy(a_train), data.y_train, torch.from_numpy(a), data.y_test),
        "l0": (a > 0.01).sum(axis=1).mean(), "l0_activation": (a.max(axis=1, keepdims=True) - a > 0.01).sum(axis=1).mean(),
        "dead_units": (variances < 0.01).sum(), "never_active": (a_train.max(axis=0) == 0).sum(),
        "redundancy": off.sum() if (variances > 0).all() else np.nan, "mean_squared_correlation": off.mean(),
        "parameters": numbers, "fvu_own": fvu(own), "fvu_transpose": fvu(a @ W),
        "fvu_transpose_affine": fvu(scale * (a @ W) + constant), "fvu_least_squares": fvu(a @ V[:-1] + V[-1])}
    found = contestants.evaluate(model, data)
    assert found.keys() == expected.keys()
    for metric, value in expected.items():
        np.testing.assert_allclose(found[metric], value, err_msg=metric, **CLOSE)
    assert json.loads(json.dumps(found)).keys() == found.keys(), "plain numbers"
    if make is uneven and name == "decoder-free":
        assert found["never_active"] == 2 and found["dead_units"] == 1 and np.isnan(found["redundancy"])


def test_a_fixed_scale_contestant_decodes_with_the_weights_in_effect(data):
    for name in ("norm 16, tc 0.5, LSE 1", "norm 16, log-det, LSE 1"):
        model = contestants.build(tiny(comparison.specs, name), data)
        E = model.encode(data.x_test).detach()
        W = 16 * torch.nn.functional.normalize(model.W.detach(), dim=1)
        found, fvu = contestants.evaluate(model, data), metrics.fvu(data.x_test, E @ W)
        np.testing.assert_allclose([found["fvu_own"], found["fvu_transpose"]], fvu, **CLOSE)
        V, c = metrics.scaled_decoder(model.encode(data.x_train).detach(), data.x_train, W, constant=True)
        np.testing.assert_allclose(found["fvu_transpose_affine"], metrics.fvu(data.x_test, E @ V + c), **CLOSE)


DECODERS = {"fvu_own", "fvu_transpose", "fvu_transpose_affine"}


@pytest.mark.parametrize("parts, has", [
    ((), set()), (("decode",), {"fvu_own"}), (("W",), DECODERS - {"fvu_own"}), (("decode", "W"), DECODERS)])
def test_a_decoder_that_a_code_has_not_is_none(parts, has, data):
    code = SimpleNamespace(encode=lambda x: x[:, :3].abs(), parameters=lambda: [], **{
        name: value for name, value in {"decode": lambda a: a @ torch.ones(3, 8).double(), "W": torch.eye(3, 8).double()}.items()
        if name in parts})
    found = contestants.evaluate(code, data)
    assert {name for name, value in found.items() if value is None} == DECODERS - has and found["parameters"] == 0


def test_a_code_of_zeros_has_no_best_multiple(data):
    model = contestants.build(tiny(comparison.specs, "decoder-free"), data)
    with torch.no_grad():
        model.b.fill_(-100)
    found = contestants.evaluate(model, data)
    zero = metrics.fvu(data.x_test, torch.zeros_like(data.x_test))
    assert found["fvu_transpose_affine"] is None and found["fvu_own"] == found["fvu_transpose"] == zero
    assert found["never_active"] == found["dead_units"] == 6


def test_a_code_that_fires_for_the_test_set_only_has_no_best_multiple(data):
    model = uneven(comparison.specs, "decoder-free", data)
    with torch.no_grad():
        model.b[[0, 1, 4, 5]] = -100
    assert not model.encode(data.x_train).any() and model.encode(data.x_test).any()
    found = contestants.evaluate(model, data)
    assert found["fvu_transpose_affine"] is None and np.isfinite(found["fvu_transpose"])


# Codes without gradient descent

@pytest.fixture(scope="module")
def mixed():
    """Three independent uniform sources, mixed into five dimensions with a little noise."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.rand(260, 3, generator=generator, dtype=torch.float64)
    x = 0.3 + sources @ torch.randn(3, 5, generator=generator, dtype=torch.float64)
    x += 0.01 * torch.randn(260, 5, generator=generator, dtype=torch.float64)
    y = sources.argmax(dim=1)
    return Dataset(x[:200], y[:200], x[200:], y[200:]), sources.numpy()


def classical_code(name, data, seed=1):
    (code,), histories = classical.fit([{"name": name, "model": name, "K": 3, "seed": seed}], data)
    assert histories == [{}]
    return code


@pytest.mark.parametrize("profile, most", [("smoke", 2), ("quick", 2), ("paper", 5)])
def test_a_classical_code_that_depends_on_a_seed_has_several_runs(profile, most):
    runs = {"PCA": 1, "ICA": most, "k-means, nearest centre": most, "k-means, triangle": most,
            "Gaussian mixture": most, "random encoder": most, "raw pixels": 1}
    assert classical.specs(profile) == [
        {"name": name, "model": name, "K": 64, "seed": seed} for name, n in runs.items() for seed in range(1, n + 1)]


@pytest.mark.parametrize("name", classical.NAMES)
def test_a_classical_code_follows_its_seed(name, mixed):
    data, _ = mixed
    specs = [{"name": name, "model": name, "K": 3, "seed": seed} for seed in (1, 1, 2)]
    models, histories = classical.fit(specs, data)
    first, same, other = (model.encode(data.x_test).detach() for model in models)
    assert histories == [{}] * 3 and first.dtype == torch.float64
    assert torch.equal(first, same) and torch.equal(first, other) == (name in ("PCA", "raw pixels"))


@pytest.mark.parametrize("name, parameters, missing", [
    ("PCA", 3 * 5 + 5, set()), ("ICA", 2 * 3 * 5 + 5, set()), ("k-means, nearest centre", 3 * 5, set()),
    ("k-means, triangle", 3 * 5, {"fvu_own"}), ("Gaussian mixture", 2 * 3 * 3 + 3 + 3 * 5 + 5, set()),
    ("random encoder", 3 * 5 + 3, set()), ("raw pixels", 0, DECODERS)])
def test_a_classical_code_is_measured_as_a_contestant(name, parameters, missing, mixed):
    data, _ = mixed
    code = classical_code(name, data)
    found = classical.evaluate(code, data)
    np.testing.assert_equal(found, contestants.evaluate(code, data))
    assert found["parameters"] == parameters and {metric for metric, value in found.items() if value is None} == missing
    assert name == "random encoder" or not any(number.requires_grad for number in code.parameters())


def test_pca_beside_sklearn(mixed):
    data, _ = mixed
    code, pca = classical_code("PCA", data), PCA(3, svd_solver="full").fit(data.x_train)
    a = code.encode(data.x_test)
    np.testing.assert_allclose(a.abs(), np.abs(pca.transform(data.x_test)), **CLOSE)  # signs are a convention
    np.testing.assert_allclose(code.decode(a), pca.inverse_transform(pca.transform(data.x_test)), **CLOSE)
    np.testing.assert_allclose(code.W.abs(), np.abs(pca.components_), **CLOSE)


def test_ica_finds_the_sources_in_the_space_of_the_principal_components(mixed):
    data, sources = mixed
    code, pca = classical_code("ICA", data), PCA(3, svd_solver="full").fit(data.x_train)
    a_train, a = code.encode(data.x_train), code.encode(data.x_test)
    np.testing.assert_allclose(a_train.mean(dim=0), 0, atol=1e-10)
    np.testing.assert_allclose(np.cov(a_train.T), np.eye(3), atol=1e-8)
    np.testing.assert_allclose(code.decode(a), pca.inverse_transform(pca.transform(data.x_test)), rtol=1e-8, atol=1e-8)
    similar = np.abs(np.corrcoef(a.T, sources[200:].T)[:3, 3:])
    assert sorted(similar.argmax(axis=0)) == [0, 1, 2] and (similar.max(axis=0) > 0.95).all()


def test_kmeans_beside_numpy(mixed):
    data, _ = mixed
    near, triangle = classical_code("k-means, nearest centre", data), classical_code("k-means, triangle", data)
    x, centres = data.x_test.numpy(), KMeans(3, n_init=1, random_state=1).fit(data.x_train.numpy()).cluster_centers_
    for code in (near, triangle):
        np.testing.assert_allclose(code.W, centres, **CLOSE)
    d = np.sqrt(((x[:, None] - centres) ** 2).sum(axis=2))
    a = near.encode(data.x_test)
    np.testing.assert_array_equal(a, np.eye(3)[d.argmin(axis=1)])
    assert (a.sum(dim=0) > 0).all(), "every centre is the nearest of some sample"
    np.testing.assert_allclose(near.decode(a), centres[d.argmin(axis=1)], **CLOSE)
    np.testing.assert_allclose(triangle.encode(data.x_test), np.maximum(d.mean(axis=1, keepdims=True) - d, 0), **CLOSE)
    assert not hasattr(triangle, "decode")


def test_a_mixture_of_principal_components_beside_sklearn(mixed):
    data, _ = mixed
    code, pca = classical_code("Gaussian mixture", data), PCA(3, svd_solver="covariance_eigh").fit(data.x_train)
    z = pca.transform(data.x_test)
    mixture = GaussianMixture(3, covariance_type="diag", random_state=1).fit(pca.transform(data.x_train))
    r = code.encode(data.x_test)
    np.testing.assert_allclose(r, mixture.predict_proba(z), rtol=1e-6, atol=1e-8)
    means, variances, weights = (value.numpy() for value in (code.means, code.covariances, code.weights))
    density = weights * np.exp(-((z[:, None] - means) ** 2 / variances).sum(axis=2) / 2) / np.sqrt(variances.prod(axis=1))
    np.testing.assert_allclose(r, density / density.sum(axis=1, keepdims=True), rtol=1e-6, atol=1e-8)
    centres = pca.inverse_transform(mixture.means_)
    np.testing.assert_allclose(code.W, centres, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(code.decode(r), r.numpy() @ centres, rtol=1e-6, atol=1e-8)


def test_codes_that_are_not_fitted(mixed):
    data, _ = mixed
    found = classical_code("random encoder", data, seed=4)
    expected = build({**tiny(benchmark.specs, "decoder-free", seed=4), "K": 3}, data)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())
    assert found.activation == "relu" and torch.equal(classical_code("raw pixels", data).encode(data.x_test), data.x_test)


# Sweeps

def test_a_sweep_changes_one_setting_of_the_published_protocol():
    published = {**PROTOCOL, "model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0], "epochs": 20}
    expected = {"as published": {}}
    for factor in (0.25, 0.5, 2, 4):
        expected |= {f"lambda_lse = {factor}": {"lambdas": [factor, 1, 1, 0]},
                     f"lambda_var = {factor}": {"lambdas": [1, factor, 1, 0]},
                     f"lambda_tc = {factor}": {"lambdas": [1, 1, factor, 0]}}
    expected |= {f"K = {K}": {"K": K} for K in (16, 32, 128, 256)}
    expected |= {f"batch of {size}": {"batch_size": size} for size in (32, 64, 256, 512)}
    specs = sweeps.specs("paper")
    assert {spec["name"] for spec in specs} == expected.keys()
    for spec in specs:
        changed = {key: value for key, value in spec.items() if key not in ("name", "seed") and value != published[key]}
        assert changed == expected[spec["name"]] and len(changed) <= 1
    assert sweeps.fit is fit and sweeps.evaluate is probed_metrics


# Anomaly detection

ANOMALY = {"decoder-free": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]},
           "fixed scale": {"model": "FixedScaleSAE", "radius": 16, "lambdas": [1, 1, 0.5, 0]},
           "L1 SAE": {"model": "StandardSAE", "l1": 0.5}}


@pytest.mark.parametrize("profile, seeds, epochs", [("smoke", 2, 1), ("quick", 2, 1), ("paper", 3, 20)])
def test_every_digit_is_left_out_in_turn(profile, seeds, epochs):
    expected = [{**PROTOCOL, **settings, "name": f"{name}, without {digit}", "held_out": digit, "epochs": epochs, "seed": seed}
                for name, settings in ANOMALY.items() for digit in range(10) for seed in range(1, seeds + 1)]
    expected += [{**PROTOCOL, "model": "PCA", "name": f"PCA, without {digit}", "held_out": digit, "epochs": 0, "seed": 1}
                 for digit in range(10)]

    def in_order(specs):
        return sorted(specs, key=lambda spec: (spec["name"], spec["seed"]))
    assert in_order(anomaly.specs(profile)) == in_order(expected)


@pytest.mark.parametrize("name", [*ANOMALY, "PCA"])
def test_a_digit_left_out_is_absent_in_training(name, data):
    seen = data.y_train != 1
    x = data.x_train.clone()
    x[~seen] = np.nan
    specs = [tiny(anomaly.specs, f"{name}, without 1", seed) for seed in (1, 2)]
    models, histories = anomaly.fit(specs, data._replace(x_train=x))
    if name == "PCA":
        W = PCA(6, svd_solver="full").fit(data.x_train[seen]).components_
        np.testing.assert_allclose(models[0].W.abs(), np.abs(W), **CLOSE)
        assert histories == [{}, {}]
    else:
        expected, others = contestants.fit(specs, data._replace(x_train=data.x_train[seen], y_train=data.y_train[seen]))
        assert histories == others
        assert all(torch.equal(model.W, other.W) for model, other in zip(models, expected, strict=True))
    for model in models:
        assert anomaly.evaluate(model, data._replace(x_train=x)) == anomaly.evaluate(model, data)


def test_what_is_known_without_a_digit(data):
    known = anomaly.known(data, 2)
    keep = data.y_train.numpy() != 2
    np.testing.assert_array_equal(known.x_train, data.x_train.numpy()[keep])
    np.testing.assert_array_equal(known.y_train, data.y_train.numpy()[keep])
    assert 0 < keep.sum() < 80 and known.x_test is data.x_test and known.y_test is data.y_test


def test_models_that_leave_out_different_digits_are_no_group(data):
    specs = [tiny(anomaly.specs, f"decoder-free, without {digit}") for digit in (1, 2)]
    with pytest.raises(ValueError, match="too many values"):
        anomaly.fit(specs, data)


def area(score, positive):
    """Share of the pairs in which the positive sample has the higher score; a tie counts one half."""
    above = score[positive][:, None] - score[~positive]
    return ((above > 0) + (above == 0) / 2).mean()


@pytest.mark.parametrize("name", [*ANOMALY, "PCA"])
def test_scores_of_an_anomaly_beside_numpy(name, data):
    model, = anomaly.fit([tiny(anomaly.specs, f"{name}, without 2")], data)[0]
    x_train, x = data.x_train[data.y_train != 2].numpy(), data.x_test.numpy()
    a_train, a = (model.encode(torch.from_numpy(part)).detach().numpy() for part in (x_train, x))
    own = model.decode(torch.from_numpy(a)).detach().numpy()
    V = best_affine(a_train, x_train)
    error = ((x - a @ V[:-1] - V[-1]) ** 2).sum(axis=1)
    scores = {"lse": -np.log(np.exp(-a).sum(axis=1)), "own": ((x - own) ** 2).sum(axis=1), "least_squares": error,
              "relative": error / (x ** 2).sum(axis=1), "norm": (x ** 2).sum(axis=1)}
    found = anomaly.evaluate(model, data)
    assert found.keys() == {f"auroc_{score}" for score in scores}
    for score, values in scores.items():
        np.testing.assert_allclose(found[f"auroc_{score}"], area(values, data.y_test.numpy() == 2), rtol=1e-12, err_msg=score)
    assert len(set(found.values())) >= 4, "PCA is its own best decoder"
    assert json.loads(json.dumps(found)) == found, "plain numbers"


def test_the_norm_is_a_score_without_a_model(data):
    nothing = SimpleNamespace(encode=lambda x: 0 * x[:, :3], decode=lambda a: 0 * data.x_test, held_out=0)
    found, positive = anomaly.evaluate(nothing, data), data.y_test.numpy() == 0
    mean = data.x_train[data.y_train != 0].mean(dim=0)
    assert found["auroc_norm"] == found["auroc_own"] != found["auroc_least_squares"] and found["auroc_lse"] == 0.5
    for score, values in {"norm": data.x_test ** 2, "least_squares": (data.x_test - mean) ** 2}.items():
        np.testing.assert_allclose(found[f"auroc_{score}"], area(values.sum(dim=1).numpy(), positive), rtol=1e-12)
