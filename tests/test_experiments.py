"""Profiles, the published protocol, and a whole run on a few random samples."""

import json
from itertools import chain, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from dfsae import metrics, records
from dfsae.baselines import PublishedSAE, ReconstructedEnergies, StandardSAE
from dfsae.encoder import DecoderFreeSAE
from dfsae.experiments import (
    EXPERIMENTS, FULL, ablation, anomaly, benchmark, comparison, contestants, drift, dynamics, fashion, fixed_scale, language, lower_rate,
    massive, mixture, protocol, rates, reconstruction, run_experiments, selection, superposition, sweeps, variants, wide, wide_selection, yardsticks,
)
from dfsae.experiments.codes import THRESHOLDS, code_metrics, probed_metrics
from dfsae.experiments.protocol import (
    MAY_DIFFER, PROFILES, PROTOCOL, Profile, build, fit, get_profile, groups, load_data, run_group, select_device,
)
from dfsae.experiments.superposition import superpose
from dfsae.features import unpack
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.mixture import em_step
from dfsae.objective import EPS, Lambdas

ALL = EXPERIMENTS | {name: experiment for name, experiment in FULL.items() if name not in ("language", "massive")}
"""Those on a language model have tests of their own."""
TINY = {"K": 6, "batch_size": 16}
# Float64 sums over 80 samples: a margin of 1e3 for another CPU.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def tiny(specs_of, name, seed=1):
    """The specification of this name, for the tiny data."""
    spec = next(spec for spec in specs_of("smoke") if spec["name"] == name)
    return with_room({**spec, **TINY, "epochs": min(spec["epochs"], 2), "seed": seed})


def with_room(spec):
    """The same spec with at most 24 units, three times the dimension; a TopK model has twice as many as it keeps, whatever K is."""
    if "k" in spec:
        return {**spec, "K": 2 * spec["k"]}
    return {**spec, "K": min(spec["K"], 24)} if "K" in spec else spec


# Profiles and specifications

def test_profiles():
    assert PROFILES.keys() == {"smoke", "quick", "paper"}
    assert PROFILES["paper"] == (100, None, None, None, "float32"), "the published scale"
    assert PROFILES["quick"].n_train is None and PROFILES["quick"].epochs < 100
    assert PROFILES["smoke"].dtype == "float64", "its numbers are compared with stored ones"
    assert all(size.n_train is None or size.n_train % PROTOCOL["batch_size"] != 1 for size in PROFILES.values())


@pytest.mark.parametrize("function", [
    get_profile, load_data, *(experiment.specs for experiment in ALL.values() if experiment is not yardsticks)])
def test_unknown_profile_is_named(function):
    with pytest.raises(ValueError, match=r"profile must be one of \['paper', 'quick', 'smoke'\], got 'papper'"):
        function("papper")


def test_load_data_has_the_size_and_precision_of_the_profile(monkeypatch):
    monkeypatch.setattr(protocol, "load_mnist", lambda **options: options)
    assert load_data.__wrapped__("smoke") == {"n_train": 1280, "n_test": 500, "dtype": torch.float64}
    assert load_data.__wrapped__("paper") == {"n_train": None, "n_test": None, "dtype": torch.float32}


@pytest.mark.parametrize("gpu, device, expected", [
    (True, "auto", "cuda"), (False, "auto", "cpu"), (True, "cpu", "cpu"), (False, "cuda:1", "cuda:1")])
def test_the_device_is_a_gpu_if_there_is_one_or_as_named(gpu, device, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert select_device(device) == torch.device(expected)
    assert device != "auto" or select_device() == torch.device(expected)


def test_published_protocol():
    assert PROTOCOL == {"K": 64, "batch_size": 128, "optimizer": "adam", "lr": 1e-3, "eps": 1e-6,
                        "reduction": "sum", "activation": "relu"}
    assert PROTOCOL["eps"] == EPS
    assert benchmark.CONFIGURATIONS["decoder-free"]["lambdas"] == [1, 1, 1, 0]
    assert benchmark.CONFIGURATIONS["published SAE"]["l1"] == 0.01


def test_the_ablation_is_every_corner_of_a_cube_the_published_ones_first():
    corners = [tuple(lambdas) for lambdas in ablation.CORNERS.values()]
    assert corners[:4] == [(1, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 0), (0, 1, 1, 0)]
    assert sorted(corners) == [(*corner, 0) for corner in product((0, 1), repeat=3)]
    for name, lambdas in ablation.CORNERS.items():  # a name says its terms
        words = name.replace(" only", "").split(" + ")
        assert words == ["untrained"] or words == [word for word in ("LSE", "var", "tc") if getattr(lambdas, word.lower())]


def test_reconstruction_is_with_eq1_and_without_from_two_starts():
    assert sorted((settings["lse"], settings["start"]) for settings in reconstruction.CONFIGURATIONS.values()) == \
        sorted(product((0, 1), ("default", "tied")))
    for spec in reconstruction.specs("paper"):
        assert ("LSE" in spec["name"], "tied" in spec["name"]) == (spec["lse"] == 1, spec["start"] == "tied")


def test_the_dynamics_are_the_published_sweep_and_their_controls():
    assert [(spec["optimizer"], spec["lr"]) for spec in dynamics.specs("paper")[:8]] == \
        list(product(("sgd", "adam"), (1e-4, 1e-3, 1e-2, 1e-1)))
    assert all(spec["lambdas"] == [1, 1, 1, 0] and f"{spec['optimizer']} {spec['lr']:g}" == spec["name"]
               for spec in dynamics.specs("paper"))
    controls = drift.specs("paper")[:12]
    assert {(spec["K"], spec["optimizer"], spec["lr"], spec["lambdas"][0]) for spec in controls} == \
        {(K, *choice, lse) for K, choice, lse in product((16, 32, 64), (("sgd", 1e-2), ("adam", 1e-3)), (0, 1))}
    for spec in controls:
        assert spec["name"] == f"{spec['optimizer']}, K = {spec['K']}{'' if spec['lambdas'][0] else ', without LSE'}"
    assert [(spec["radius"], spec["lambdas"]) for spec in fixed_scale.specs("paper")[:5]] == \
        [(1, [1, 1, 1, 0]), (4, [1, 1, 1, 0]), (16, [1, 1, 1, 0]), (64, [1, 1, 1, 0]), (16, [0, 1, 1, 0])]


def test_the_scale_is_watched_after_every_epoch(data):
    spec = {**tiny(dynamics.specs, "sgd 0.1"), "epochs": 3}
    (model,), (history,) = dynamics.fit([spec], data)
    plain, = fit([spec], data)[0]
    assert torch.equal(model.W, plain.W), "watching changes nothing"
    W, b = model.W.detach().numpy(), model.b.detach().numpy()
    norms = (np.column_stack([W, b]) ** 2).sum(axis=1)
    E = np.maximum(data.x_test.numpy() @ W.T + b, 0)
    r = np.exp(-E) / np.exp(-E).sum(axis=1, keepdims=True)
    assert all(len(history[name]) == 3 for name in ("total", "scale_part", "square_norm", "pull"))
    for name, expected in {"scale_part": -np.log(norms).sum(), "square_norm": norms.sum(),
                           "pull": 16 * (r * E).sum(axis=1).mean()}.items():
        np.testing.assert_allclose(history[name][-1], expected, err_msg=name, **CLOSE)
    assert history["square_norm"][0] != history["square_norm"][-1]


def test_a_fixed_scale_model_follows_its_spec(data):
    spec = tiny(fixed_scale.specs, "norm 16, without LSE", seed=4)
    model = fixed_scale.build(spec, data)
    assert type(model) is FixedScaleSAE and model.radius == 16 and model.lambdas == Lambdas(0, 1, 1)
    assert (model.reduction, model.activation, model.eps) == ("sum", "relu", 1e-6)
    assert torch.equal(model.W, build({**tiny(ablation.specs, "var only", seed=4)}, data).W)
    trained, = fixed_scale.fit([spec], data)[0]
    assert type(trained) is FixedScaleSAE and not torch.equal(trained.W, model.W)


def test_a_mixture_is_trained_by_em_at_the_scale_of_its_spec(data):
    fixed, fitted = ({**tiny(mixture.specs, name), "epochs": 3, "K": 4} for name in ("s = 0.5", "s fitted"))
    models, histories = mixture.fit([fixed, fitted], data)
    assert models[0].s == 0.5 and histories[0]["s"] == [0.5] * 3 and models[1].s == histories[1]["s"][-1] != 1
    mu, s = data.x_train[torch.randperm(80, generator=torch.Generator().manual_seed(1))[:4]], 1.0
    for lse in histories[1]["lse"]:
        step = em_step(data.x_train, mu, s)
        mu, s = step.mu, step.s
        assert step.lse == lse
    assert torch.equal(mu, models[1].mu) and s == models[1].s
    assert histories[0]["lse"] == sorted(histories[0]["lse"], reverse=True)
    other, = mixture.fit([{**fixed, "seed": 2}], data)[0]
    assert not torch.equal(other.mu, models[0].mu)


def test_mixture_metrics_beside_numpy(data):
    model, = mixture.fit([{**tiny(mixture.specs, "s = 1"), "K": 4}], data)[0]
    found = mixture.evaluate(model, data)
    mu, x_train, x = model.mu.numpy(), data.x_train.numpy(), data.x_test.numpy()

    def energies(x):
        return ((x[:, None] - mu) ** 2).sum(axis=2) / 2 + 4 * np.log(2 * np.pi) + np.log(4)

    def posterior(E):
        return np.exp(-E) / np.exp(-E).sum(axis=1, keepdims=True)

    def fvu(x_hat):
        return ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()

    E_train, E = energies(x_train), energies(x)
    codes = {"r": (posterior(E_train), posterior(E)),
             "energies": (E_train - E_train.min(axis=1, keepdims=True), E - E.min(axis=1, keepdims=True))}
    r = codes["r"][1]
    for name, expected in {
        "lse_test": -np.log(np.exp(-E).sum(axis=1)).mean(), "responsibility_entropy": -(r * np.log(r)).sum(axis=1).mean(),
        "mean_max_responsibility": r.max(axis=1).mean(), "least_usage": codes["r"][0].mean(axis=0).min(),
        "l0": (r > 0.01).sum(axis=1).mean(), "parameters": 4 * 8 + 1, "s": 1,
        "fvu_posterior_mean": fvu(r @ mu),
        "near_copies": ((np.corrcoef(codes["r"][0].T) - 2 * np.eye(4)).max(axis=0) > 0.9).sum(),
    }.items():
        np.testing.assert_allclose(found[name], expected, err_msg=name, **CLOSE)
    for name, (code_train, code) in codes.items():
        V = best_affine(code_train, x_train)
        np.testing.assert_allclose(found[f"fvu_least_squares_{name}"], fvu(code @ V[:-1] + V[-1]), rtol=1e-8)
        assert found[f"probe_{name}"] == metrics.linear_probe(
            torch.from_numpy(code_train), data.y_train, torch.from_numpy(code), data.y_test)


def test_near_copies_of_a_mixture_are_those_of_its_responsibilities_on_the_training_set(data):
    model, = mixture.fit([{**tiny(mixture.specs, "s = 1"), "K": 4}], data)[0]
    short = data._replace(x_test=data.x_test[:2], y_test=data.y_test[:2])  # two samples correlate by 1 or -1
    assert mixture.evaluate(model, short)["near_copies"] == 0
    assert mixture.evaluate(model._replace(mu=model.mu[[0, 0, 1, 2]]), short)["near_copies"] == 2


def test_a_variant_changes_one_choice_of_the_full_objective():
    baseline = {**PROTOCOL, "model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0], "init_scale": 1.0}
    assert [tuple(change.values()) for change in variants.CONFIGURATIONS.values()] == [
        (), ("mean",), (1e-3,), (1e-9,), (32,), (512,), (0.1,), ([1, 1, 0.5, 0],), ("softplus",), ("identity",)]
    for spec in variants.specs("paper"):
        assert spec["epochs"] == 20, "a fifth"
        changed = {name: value for name, value in spec.items()
                   if name not in ("name", "seed", "epochs") and value != baseline[name]}
        assert changed == variants.CONFIGURATIONS[spec["name"]]


def without_rate(settings):
    return {name: value for name, value in settings.items() if name != "lr"}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("specs_of, names, seeds, part", [
    (ablation.specs, ablation.CORNERS, 3, 1), (benchmark.specs, benchmark.CONFIGURATIONS, 5, 1),
    (reconstruction.specs, reconstruction.CONFIGURATIONS, 3, 1), (variants.specs, variants.CONFIGURATIONS, 3, 5),
    (dynamics.specs, dynamics.CONFIGURATIONS, 3, 1), (drift.specs, drift.CONFIGURATIONS, 5, 1),
    (fixed_scale.specs, fixed_scale.CONFIGURATIONS, 5, 1), (mixture.specs, mixture.CONFIGURATIONS, 3, 3),
    (rates.specs, rates.CONFIGURATIONS, 2, 2), (lower_rate.specs, [f"{name}, lr 0.0001" for name in lower_rate.FAMILIES], 2, 2), (selection.specs, comparison.CONFIGURATIONS, 2, 2),
    (comparison.specs, comparison.CONFIGURATIONS, 5, 2), (sweeps.specs, sweeps.CONFIGURATIONS, 5, 5),
    (wide_selection.specs, wide_selection.CONFIGURATIONS, 1, 10), (wide.specs, wide.CHOSEN, 3, 10), (fashion.specs, fashion.NAMES, 5, 5),
    (superposition.specs, superposition.CONFIGURATIONS, 5, 5)])
def test_specs_are_every_name_with_every_seed(profile, specs_of, names, seeds, part):
    specs, size = specs_of(profile), get_profile(profile)
    if profile == "quick":
        seeds = {dynamics.specs: 1}.get(specs_of, seeds)
    assert sorted((spec["name"], spec["seed"]) for spec in specs) == \
        sorted(product(names, range(1, (seeds if profile == "paper" else min(seeds, 2)) + 1)))
    assert json.loads(json.dumps(specs)) == specs, "a record holds its spec as JSON"
    for spec in specs:
        assert spec["epochs"] == (0 if spec["name"] == "untrained" else max(1, size.epochs // part))
        changed = {key for key, value in PROTOCOL.items() if spec[key] != value}
        assert changed <= {dynamics.specs: {"optimizer", "lr"}, drift.specs: {"K", "optimizer", "lr"},
                           variants.specs: set(PROTOCOL), rates.specs: {"lr"}, lower_rate.specs: {"lr"}, selection.specs: {"lr"},
                           comparison.specs: {"lr"}, fashion.specs: {"lr"},
                           wide_selection.specs: {"K", "lr"}, wide.specs: {"K", "lr"}, superposition.specs: {"K", "lr"}, sweeps.specs: {"K", "batch_size"}}.get(specs_of, set())


# Models

@pytest.mark.parametrize("specs_of, name, kind", [
    (benchmark.specs, "decoder-free", DecoderFreeSAE), (benchmark.specs, "published SAE", PublishedSAE),
    (benchmark.specs, "standard SAE", StandardSAE),
    *product([reconstruction.specs], reconstruction.CONFIGURATIONS, [ReconstructedEnergies])])
def test_build_follows_the_spec(specs_of, name, kind, data):
    spec = tiny(specs_of, name, seed=7)
    model = build(spec, data)
    assert type(model) is kind and model.W.shape == (6, 8) and model.W.dtype == torch.float64
    assert torch.equal(model.W, build(spec, data).W)
    assert not torch.equal(model.W, build({**spec, "seed": 8}, data).W)
    if kind is DecoderFreeSAE:
        assert (list(model.lambdas), model.reduction, model.activation, model.eps) == \
            (spec["lambdas"], "sum", "relu", 1e-6)
    else:
        assert model.l1 == spec.get("l1", 0) and getattr(model, "lse", None) == spec.get("lse")
    if kind is not DecoderFreeSAE:
        at_the_mean = torch.allclose(model.b_dec, data.x_train.mean(dim=0))
        assert at_the_mean == (kind is StandardSAE or "tied" in name)


@pytest.mark.parametrize("name", variants.CONFIGURATIONS)
def test_variants_reach_the_model(name, data):
    model, usual = build(tiny(variants.specs, name), data), build(tiny(variants.specs, "as published"), data)
    assert torch.equal(model.W, variants.CONFIGURATIONS[name].get("init_scale", 1.0) * usual.W) and torch.equal(model.b, usual.b)
    settings = {"reduction": "sum", "eps": 1e-6, "activation": "relu", "lambdas": [1, 1, 1, 0]}
    found = {setting: getattr(model, setting) for setting in settings}
    assert {**found, "lambdas": list(found["lambdas"])} == {
        **settings, **{setting: value for setting, value in variants.CONFIGURATIONS[name].items() if setting in settings}}


def test_untrained_is_the_model_as_it_starts(data):
    spec = tiny(ablation.specs, "untrained")
    (model,), (history,) = fit([spec], data)
    start = DecoderFreeSAE(8, 6, reduction="sum", seed=1, dtype=torch.float64)
    assert spec["epochs"] == 0 and history == {} and model.lambdas == Lambdas(0, 0, 0, 0)
    assert torch.equal(model.W, start.W) and torch.equal(model.b, start.b)


def test_unknown_model_is_named(data):
    with pytest.raises(ValueError, match="unknown model 'VAE'"):
        build({**tiny(benchmark.specs, "decoder-free"), "model": "VAE"}, data)


def test_fit_trains_with_the_settings_of_each_spec(data, monkeypatch):
    seen = {}

    def train_together(models, x, **options):
        seen.update(options, n=len(x), starts=[model.W for model in models])
        if after_epoch := options["after_epoch"]:
            after_epoch()
        return ["first", "second"]

    monkeypatch.setattr(protocol, "train_together", train_together)
    specs = [tiny(ablation.specs, "var only", seed=3),
             {**tiny(ablation.specs, "LSE only", seed=4), "lr": 0.5, "optimizer": "sgd"}]
    watched = []
    models, histories = fit(specs, data, watch=watched.append)
    starts = seen.pop("starts")
    assert all(torch.equal(start, build(spec, data).W) for start, spec in zip(starts, specs, strict=True))
    assert [model.lambdas for model in models] == [ablation.CORNERS["var only"], ablation.CORNERS["LSE only"]]
    assert histories == ["first", "second"] and watched == [models]
    built = fit(specs, data, build=lambda spec, data: build({**spec, "seed": 9}, data))[0]
    assert all(torch.equal(model.W, build({**specs[0], "seed": 9}, data).W) for model in built) and watched == [models]
    del seen["starts"]
    assert seen == {"n": 80, "epochs": 2, "batch_size": 16, "optimizers": ["adam", "sgd"], "lrs": [1e-3, 0.5],
                    "order_seeds": [10_003, 10_004], "after_epoch": None, "progress": False}


# Groups

def spec_of(name, seed, **settings):
    return {"name": name, "seed": seed, "model": "M", "epochs": 1, "batch_size": 8, **settings}


def test_models_of_one_seed_train_together_and_single_ones_of_all_seeds():
    (a1, b1, c1), (a2, b2, c2) = ([spec_of("a", seed), spec_of("b", seed, lr=0.1), spec_of("c", seed, batch_size=16)]
                                  for seed in (1, 2))
    assert groups([a1, b1, c1, a2, b2, c2]) == [[a1, b1], [a2, b2], [c1, c2]]
    assert groups([a1, c1, c2, a2]) == [[a1, a2], [c1, c2]]
    assert groups([a1, b1, a2]) == [[a1, b1], [a2]], "what is left of a seed joins no full group"
    assert groups([]) == []


@pytest.mark.parametrize("settings", [
    {"model": "N"}, {"K": 8}, {"batch_size": 16}, {"eps": 0.1}, {"reduction": "mean"}, {"epochs": 2}])
def test_what_may_not_differ_separates(settings):
    specs = [spec_of("a", 1), spec_of("b", 1, **settings), spec_of("a", 2), spec_of("b", 2, **settings)]
    assert groups(specs) == [specs[::2], specs[1::2]]


@pytest.mark.parametrize("setting", MAY_DIFFER)
def test_what_may_differ_does_not_separate(setting):
    specs = [{**spec_of("a", 1), setting: value} for value in ([1], [2])]
    assert groups(specs) == [specs]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("experiment", ALL)
def test_every_spec_is_in_one_group_of_models_alike(experiment, profile):
    specs = ALL[experiment].specs(profile)
    found = groups(specs)
    assert sorted(map(json.dumps, chain(*found))) == sorted(map(json.dumps, specs))
    for key in ("model", "K", "batch_size", "epochs", "eps", "reduction"):
        assert all(len({spec.get(key) for spec in group}) == 1 for group in found)


def test_sizes_of_the_groups_of_the_paper():
    sizes = {name: sorted(map(len, groups(experiment.specs("paper")))) for name, experiment in ALL.items()}
    assert sizes == {"ablation": [3, 7, 7, 7], "benchmark": [5, 5, 5], "reconstruction": [4, 4, 4],
                     "variants": [3] * 5 + [5] * 3, "yardsticks": [1], "dynamics": [8] * 3, "drift": [4] * 15,
                     "fixed_scale": [2] * 5 + [5] * 3, "mixture": [3] * 4, "rates": [4] * 16, "lower_rate": [2] * 4,
                     "selection": [2] * 7 + [3] * 10 + [4] * 2 + [5] * 4,
                     "comparison": [2] * 5 + [3] * 25 + [4] * 5 + [5] * 15,
                     "classical": [1] * 2 + [5] * 5, "sweeps": [5] * 8 + [13] * 5, "anomaly": [1] * 10 + [3] * 30,
                     "wide_selection": [1] * 3 + [2] * 3 + [3] * 2, "fashion": [5] * 7,
                     "wide": [2] * 3 + [3] * 4, "superposition": [4] * 10 + [5] * 8 + [7] * 5 + [8] * 5}


# Runs

@pytest.fixture
def tiny_book(data, monkeypatch, tmp_path):
    """Every experiment on the tiny data, with results in a folder of its own."""
    for name, value in TINY.items():
        monkeypatch.setitem(PROTOCOL, name, value)
    monkeypatch.setitem(PROFILES, "smoke", Profile(2, 2, None, None, "float64"))
    monkeypatch.setattr(anomaly, "DIGITS", range(3))  # the labels of the tiny data
    monkeypatch.setattr(protocol, "load_data", {"smoke": data}.get)
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(fashion, "load_fashion", lambda dtype: data)
    monkeypatch.setattr(superposition, "superpose", lambda seed, dtype: superpose(seed, n_train=64, n_test=32, dtype=dtype))


# Normal numbers have no independent directions for ICA to find.
@pytest.mark.filterwarnings("ignore:FastICA did not converge")
@pytest.mark.parametrize("experiment", ALL)
def test_run_is_finite_json_and_repeatable(experiment, tiny_book):
    for specs in groups(list(map(with_room, ALL[experiment].specs("smoke")))):
        found, again = (run_group(ALL[experiment], specs, profile="smoke") for _ in range(2))
        for spec, record, other in zip(specs, found, again, strict=True):
            assert record.keys() == {"metrics", "history", "seconds", "train_seconds", "trained_together", "threads"}
            assert json.loads(json.dumps(record, allow_nan=False)) == record
            assert all(len(values) == spec["epochs"] for values in record["history"].values())
            assert bool(record["history"]) == (spec.get("epochs", 0) > 0)
            assert record["trained_together"] == len(specs) and record["threads"] == torch.get_num_threads()
            assert other["metrics"] == record["metrics"] and other["history"] == record["history"]


@pytest.mark.parametrize("experiment", [
    "ablation", "benchmark", "reconstruction", "variants", "dynamics", "fixed_scale", "rates", "selection", "comparison"])
def test_a_record_is_that_of_the_model_trained_alone(experiment, tiny_book):
    found = groups(list(map(with_room, ALL[experiment].specs("smoke"))))
    first = {specs[0]["model"]: specs for specs in reversed(found)}  # of each model
    runs = [(spec, record) for specs in first.values()
            for spec, record in zip(specs, run_group(ALL[experiment], specs, profile="smoke"), strict=True)]
    for spec, record in runs:
        alone, = run_group(ALL[experiment], [spec], profile="smoke")
        assert spec["epochs"] > 0 and record["history"].keys() == alone["history"].keys()
        for name, values in record["history"].items():  # stored with 6 digits
            np.testing.assert_allclose(values, alone["history"][name], atol=2e-6, rtol=1e-8)
        np.testing.assert_allclose(record["metrics"]["fvu_own"], alone["metrics"]["fvu_own"], rtol=1e-8)


@pytest.mark.parametrize("chosen, expected", [({}, "cpu"), ({"device": "meta"}, "meta")])
def test_a_group_runs_on_the_chosen_device(chosen, expected, tiny_book, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ablation, "fit", lambda specs, data: seen.extend(part.device.type for part in data) or ([], []))
    run_group(ablation, ablation.specs("smoke"), profile="smoke", **chosen)
    assert seen == [expected] * 4


def test_the_time_of_a_group_is_shared_by_its_models(tiny_book, monkeypatch):
    clock = iter([0, 10, 10, 11, 11, 14])  # the group trains for 10 s, the models are evaluated in 1 s and 3 s
    monkeypatch.setattr(protocol, "time", SimpleNamespace(perf_counter=clock.__next__))
    specs = [tiny(variants.specs, name) for name in ("as published", "softplus")]
    found = run_group(variants, specs, profile="smoke")
    assert [(record["train_seconds"], record["seconds"]) for record in found] == [(5, 6), (5, 8)]


def test_the_yardsticks_are_an_experiment_without_a_model(data, tiny_book):
    specs = EXPERIMENTS["yardsticks"].specs("smoke")
    assert specs == [{"name": "yardsticks", "seed": 0}]
    record, = run_group(yardsticks, specs, profile="smoke")
    assert record["metrics"] == yardsticks.yardsticks(data, K=PROTOCOL["K"])
    assert record["history"] == {} and record["trained_together"] == 1


def test_the_whole_book_makes_one_file_an_experiment_and_repeats_nothing(tiny_book, tmp_path, monkeypatch):
    made = run_experiments("smoke", workers=1)
    assert list(made) == list(EXPERIMENTS)
    for name, result in made.items():
        assert json.loads((tmp_path / "smoke" / f"{name}.json").read_text()) == result
        assert [run["spec"] for run in result["runs"]] == EXPERIMENTS[name].specs("smoke")
        assert result["provenance"]["call"]["runs"] == sum(len(other["runs"]) for other in made.values())
    monkeypatch.setattr(benchmark, "fit", None)
    assert run_experiments("smoke", ["benchmark"], workers=1) == {"benchmark": made["benchmark"]}


@pytest.mark.parametrize("gpu, workers, expected", [(False, None, None), (False, 3, 3), (True, None, 1), (True, 3, 1)])
def test_with_a_gpu_there_is_one_process(gpu, workers, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(records, "run_all", lambda plan, profile, run, **options: (plan, profile, run.keywords, options))
    plan, *rest = run_experiments("paper", ["ablation", "yardsticks"], workers=workers)
    assert plan == {name: EXPERIMENTS[name].specs("paper") for name in ("ablation", "yardsticks")}
    assert rest == ["paper", {"size": "paper"}, {"groups": groups, "data": {}, "workers": expected}]


def test_the_full_profile_has_experiments_of_its_own_at_the_size_of_the_paper(monkeypatch):
    monkeypatch.setattr(records, "run_all", lambda plan, profile, run, **options: (plan, profile, run.keywords, options["data"]))
    for experiment in FULL.values():  # whatever this machine has
        monkeypatch.setattr(experiment, "find_data", lambda: None, raising=False)
    for experiment in (language, massive):
        monkeypatch.setattr(experiment, "identify_data", lambda: {"ids": "a"})
    assert run_experiments("full") == ({name: FULL[name].specs("paper") for name in FULL}, "full", {"size": "paper"},
                                       {"language": {"ids": "a"}, "massive": {"ids": "a"}})
    assert not FULL.keys() & EXPERIMENTS.keys()
    with pytest.raises(KeyError, match="ablation"):
        run_experiments("full", ["ablation"])


def test_a_metric_that_is_not_defined_is_stored_as_null(data, monkeypatch):
    spec = {**tiny(ablation.specs, "LSE only"), "optimizer": "sgd", "lr": 10.0}  # kills every unit at once
    positive = data._replace(x_train=data.x_train.abs(), x_test=data.x_test.abs())
    monkeypatch.setattr(protocol, "load_data", {"smoke": positive}.get)
    found = run_group(ablation, [spec], profile="smoke")[0]["metrics"]
    assert found["dead_units"] == found["never_active"] == 6 and found["redundancy"] is None
    assert found["near_copies"] == 0 and found["responsibility_entropy"] == pytest.approx(np.log(6))


def uneven(specs_of, name, data):
    """A model whose second unit copies the first, whose third is dead, and whose fourth fires for a test sample only."""
    model = contestants.build(tiny(specs_of, name), data)
    with torch.no_grad():
        W, b = model.W, model.b if isinstance(model, DecoderFreeSAE) else model.b_enc
        W[1], b[1] = 2 * W[0], 2 * b[0]
        b[2] = -100
        W[3] = data.x_test[0]
        b[3] = -(data.x_train @ W[3]).max() - 1e-6
    return model


def best_affine(regressors, x):
    """Coefficients of the best affine map by NumPy; the last row is the constant."""
    return np.linalg.lstsq(np.column_stack([regressors, np.ones(len(x))]), x, rcond=None)[0]


@pytest.mark.parametrize("specs_of, name", [
    (ablation.specs, "LSE + var"), (reconstruction.specs, "LSE + reconstruction")])
def test_code_metrics_beside_numpy(specs_of, name, data):
    model = uneven(specs_of, name, data)
    found = code_metrics(model, data)
    x_train, x = data.x_train.numpy(), data.x_test.numpy()
    W = model.W.detach().numpy()
    b = (model.b if specs_of is ablation.specs else model.b_enc).detach().numpy()
    E_train, E = np.maximum(x_train @ W.T + b, 0), np.maximum(x @ W.T + b, 0)
    r = np.exp(-E) / np.exp(-E).sum(axis=1, keepdims=True)
    variances = E.var(axis=0, ddof=1)

    def fvu(x_hat):
        return ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()

    def counts(of, values, axis):
        return [of(values, threshold).sum(axis=axis).mean() for threshold in (0.0001, 0.001, 0.01, 0.1, 1)]

    assert THRESHOLDS == (0.0001, 0.001, 0.01, 0.1, 1)
    assert found["dead_by_threshold"] == counts(np.less, variances, 0) and found["dead_units"] == found["dead_by_threshold"][2]
    assert len(set(found["dead_by_threshold"])) > 1 and len(set(found["l0_by_threshold"])) > 1, "thresholds matter here"
    assert found["never_active"] == (E_train.max(axis=0) == 0).sum() == 2 and (E.max(axis=0) == 0).sum() == 1
    assert found["near_copies"] == 2 and np.isnan(found["redundancy"])
    b_dec = 0 if specs_of is ablation.specs else model.b_dec.detach().numpy()
    W_dec = W if specs_of is ablation.specs else model.W_dec.detach().numpy()
    V = best_affine(E_train, x_train)
    varying = np.corrcoef(E[:, variances > 0], rowvar=False)
    for name, expected in {
        "mean_squared_correlation": (varying ** 2)[~np.eye(len(varying), dtype=bool)].mean(),
        "responsibility_entropy": -(r * np.log(r)).sum(axis=1).mean(), "mean_max_responsibility": r.max(axis=1).mean(),
        "l0_by_threshold": counts(np.greater, E, 1), "l0_energy": (E > 0.01).sum(axis=1).mean(),
        "l0_activation": (E.max(axis=1, keepdims=True) - E > 0.01).sum(axis=1).mean(),
        "log_zero_units": np.log(np.maximum((E <= 0.01).sum(axis=1), 1)).mean(),
        "mean_row_norm": np.sqrt((W ** 2).sum(axis=1)).mean(),
        "fvu_own": fvu(E @ W_dec + b_dec), "fvu_least_squares": fvu(E @ V[:-1] + V[-1]),
    }.items():
        np.testing.assert_allclose(found[name], expected, err_msg=name, **CLOSE)
    for name, expected in {"feature_usage": r.mean(axis=0), "firing_rate": (E > 0.01).mean(axis=0), "variances": variances}.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-6, err_msg=name)  # stored with 6 digits


def test_ablation_metrics_add_probe_and_correlations(data):
    model = build(tiny(ablation.specs, "LSE + var"), data)
    found, E = ablation.evaluate(model, data), model.encode(data.x_test).detach()
    assert found.items() >= probed_metrics(model, data).items() >= code_metrics(model, data).items()
    assert found["redundancy"] == metrics.redundancy(E) > 0
    a_train = model.encode(data.x_train).detach()
    assert found["probe_accuracy"] == metrics.linear_probe(a_train, data.y_train, E, data.y_test)
    np.testing.assert_allclose(found["correlation"], np.corrcoef(E, rowvar=False), atol=1e-3)  # stored with 3 digits


def test_benchmark_metrics_of_the_decoder_free_model(data):
    model = build(tiny(benchmark.specs, "decoder-free"), data)
    found, E = benchmark.evaluate(model, data), model.encode(data.x_test).detach()
    W = model.W.detach()
    assert found["parameters"] == 6 * 8 + 6
    np.testing.assert_allclose(unpack(found["W"], 6), W / W.abs().amax(dim=1, keepdim=True), atol=0.5 / 127 + 1e-9)
    assert found["mse_own"] == found["mse_transpose"] == metrics.mse(data.x_test, E @ W)
    assert found["mse_transpose_of_s"] == metrics.mse(data.x_test, (E.amax(dim=1, keepdim=True) - E) @ W)
    assert found["published_mse"] == metrics.published_mse(data.x_test, E, W)
    assert found["l0"] == metrics.l0(E) and 0 <= found["probe_accuracy"] <= 1
    assert found["mean_squared_correlation"] == metrics.mean_squared_correlation(E)
    assert found["l0_by_threshold"] == [metrics.l0(E, threshold=threshold) for threshold in THRESHOLDS]
    assert found["dead_by_threshold"] == [metrics.dead_units(E, threshold=threshold) for threshold in THRESHOLDS]


@pytest.mark.parametrize("name", benchmark.CONFIGURATIONS)
def test_decoders_fitted_on_the_training_set_beside_numpy(name, data):
    model = uneven(benchmark.specs, name, data)
    found = benchmark.evaluate(model, data)
    (a_train, x_train), (a, x) = ((model.encode(x).detach().numpy(), x.numpy()) for x in (data.x_train, data.x_test))
    W = model.W.detach().numpy()
    pixels = (a_train @ W).reshape(-1, 1)  # one equation for each pixel of each sample
    scale = np.linalg.lstsq(pixels, x_train.reshape(-1), rcond=None)[0]
    affine = np.linalg.lstsq(np.column_stack([pixels, np.tile(np.eye(8), (80, 1))]), x_train.reshape(-1), rcond=None)[0]
    V = best_affine(a_train, x_train)
    for decoder, x_hat in {"transpose_scaled": scale * (a @ W), "transpose_affine": affine[0] * (a @ W) + affine[1:],
                           "least_squares": a @ V[:-1] + V[-1]}.items():
        np.testing.assert_allclose(found[f"mse_{decoder}"], np.mean((x - x_hat) ** 2), err_msg=decoder, **CLOSE)
        np.testing.assert_allclose(found[f"fvu_{decoder}"], np.sum((x - x_hat) ** 2) / np.sum((x - x.mean(axis=0)) ** 2),
                                   err_msg=decoder, **CLOSE)


def test_benchmark_metrics_of_a_model_with_a_decoder(data):
    model = build(tiny(benchmark.specs, "standard SAE"), data)
    with torch.no_grad():
        model.W_dec[0] *= 2  # no longer tied, nor a multiple of the encoder, in norm or direction
        model.W_dec[1, 0] += 1
    found, a = benchmark.evaluate(model, data), model.encode(data.x_test).detach()
    for which, W in (("W", model.W), ("W_dec", model.W_dec)):
        W = W.detach()
        np.testing.assert_allclose(unpack(found[which], 6), W / W.abs().amax(dim=1, keepdim=True), atol=0.5 / 127 + 1e-9)
    assert found["parameters"] == 2 * 6 * 8 + 6 + 8 and "mse_transpose_of_s" not in found
    assert found["mse_own"] == metrics.mse(data.x_test, model.decode(a).detach())
    assert found["mse_transpose"] == metrics.mse(data.x_test, a @ model.W.detach())
    assert found["published_mse"] == metrics.published_mse(data.x_test, a, model.W_dec.detach())
    silent = (model.encode(data.x_train) == 0).all(dim=0)
    assert found["never_active"] == int(silent.sum())


def test_yardsticks_beside_sklearn(data):
    found = yardsticks.yardsticks(data, K=3)
    mean = data.x_train.mean(dim=0).expand_as(data.x_test)
    pca = PCA(3, svd_solver="full").fit(data.x_train)
    projected = torch.from_numpy(pca.inverse_transform(pca.transform(data.x_test)))
    for name, x_hat in {"zero": torch.zeros_like(mean), "mean": mean, "pca": projected}.items():
        np.testing.assert_allclose(found[f"mse_{name}"], metrics.mse(data.x_test, x_hat), **CLOSE)
        np.testing.assert_allclose(found[f"fvu_{name}"], metrics.fvu(data.x_test, x_hat), **CLOSE)
    assert found["fvu_pca"] < 1 <= found["fvu_mean"] < found["fvu_zero"]
    assert found["probe_accuracy"] == metrics.linear_probe(data.x_train, data.y_train, data.x_test, data.y_test)
    np.testing.assert_allclose(yardsticks.yardsticks(data, K=8)["mse_pca"], 0, atol=1e-20)  # squares of 1e-16
