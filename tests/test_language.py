"""The experiment on a language model, with a small random one and activations of its own."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from dfsae import lm, metrics
from dfsae.batch_topk import BatchTopKSAE
from dfsae.data import Dataset
from dfsae.experiments import contestants, language, massive, protocol
from dfsae.experiments.ablation import CORNERS
from dfsae.features import matched_cosine
from test_lm import make

LENGTH, CONTEXTS = 8, 110


class Words:
    """A tokenizer in name."""

    @staticmethod
    def decode(i):
        return f"<{i}>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    model = make("llama").float()
    with torch.no_grad():  # three tokens of fifty are massive
        model.model.embed_tokens.weight[[7, 8, 9]] *= 1e4
    ids = torch.randint(50, (CONTEXTS, LENGTH), generator=torch.Generator().manual_seed(1))
    lm.extract(model, ids, folder, layer=2, about="tiny", contexts_a_shard=25)
    return model, ids, folder


@pytest.fixture(autouse=True)
def small(made, monkeypatch):
    model, _, folder = made
    for name, value in {"LAYER": 2, "HELD_OUT": 20, "SPLICED": 4, "FIT_ON": 600}.items():
        monkeypatch.setattr(language, name, value)
    monkeypatch.setattr(lm, "FOLDER", folder)
    monkeypatch.setattr(lm, "load_model", lambda name: (model, Words()))
    monkeypatch.setattr(lm, "find_model", lambda: "tiny")
    monkeypatch.setattr(massive, "COMPONENTS", (4, 8))
    yield
    language.load.cache_clear()
    language.load_model.cache_clear()


MNIST = Dataset(*(torch.zeros(1, dtype=torch.float64) for _ in range(4)))
"""In the place of MNIST, of which only the precision and the device are used."""


def spec_of(name, seed=1, **other):
    found, = [spec for spec in language.specs("paper") if spec["name"] == name and spec["seed"] == seed]
    return {**found, "K": 12, "batch_size": 32, **({"k": 3} if "k" in found else {}), **other}


# Configurations


def test_every_family_has_a_middle_that_is_trained_narrow_too():
    assert language.NARROW < 576 < language.WIDE
    for family, name in language.BETWEEN.items():
        names = list(language.FAMILIES[family])
        assert names.index(name) == 1 and len(names) == 3
        wide, narrow = (language.CONFIGURATIONS[key] for key in (name, f"{name}, 288 units"))
        assert {**narrow, "K": 1152} == wide
    assert {name: settings["lambdas"] for name, settings in language.FAMILIES["ablation"].items()} == {
        name: list(CORNERS[name]) for name in ("LSE only", "LSE + var", "var + tc only", "LSE + var + tc")}
    assert {settings["K"] for settings in language.FAMILIES["ablation"].values()} == {288}
    assert language.CONFIGURATIONS["decoder-free"] == {"K": 1152, "model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]}


def test_all_have_one_budget_and_the_published_rate():
    specs = language.specs("paper")
    assert len(specs) == 3 * len(language.CONFIGURATIONS)
    assert {(spec["epochs"], spec["batch_size"], spec["lr"], spec["optimizer"]) for spec in specs} == {(2, 512, 1e-3, "adam")}
    assert {spec["name"] for spec in specs if spec["massive"] == "kept"} == {"norm 16, LSE 64, massive kept", "TopK 32, massive kept"}
    assert {spec["name"] for spec in specs if spec["shown"]} == set(language.BETWEEN.values())


# Inputs


def test_massive_activations_are_dropped_and_told_apart(made):
    data = language.load("dropped")
    _, ids, folder = made
    h = lm.residual_stream(made[0], ids, layer=2).reshape(-1, 16)
    massive = h.norm(dim=1) > 10 * h.norm(dim=1).median()
    assert 5 < massive.sum() < 100 and massive[720:].sum() > 1
    torch.testing.assert_close(data.scale * data.x_train, h[:720][~massive[:720]])
    torch.testing.assert_close(data.scale * data.x_test, h[720:][~massive[720:]])
    torch.testing.assert_close(data.scale * data.massive_test, h[720:][massive[720:]])
    assert data.x_train.square().sum(dim=1).mean() == pytest.approx(1, rel=1e-5)
    assert torch.equal(data.ids, ids[90:]) and torch.equal(data.normal, ~massive[720:])
    assert data.largest == pytest.approx(10 * float(h.norm(dim=1).median()))


def test_massive_activations_can_be_kept():
    dropped, kept = language.load("dropped"), language.load("kept")
    assert len(kept.x_train) == 720 > len(dropped.x_train)
    assert kept.scale > 10 * dropped.scale
    torch.testing.assert_close(kept.scale * kept.x_test, dropped.scale * dropped.x_test)


def test_what_is_missing_is_named_with_the_remedy(made, monkeypatch, tmp_path):
    language.find_data()
    monkeypatch.setattr(lm, "FOLDER", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is not there; make the activations of a language model with: make lm"):
        language.find_data()


def test_shards_that_are_missing_are_made_by_the_same_command(made, monkeypatch, tmp_path):
    _, _, folder = made
    monkeypatch.setattr(lm, "FOLDER", tmp_path)
    shutil.copy(min(folder.iterdir()), tmp_path)
    with pytest.raises(FileNotFoundError, match="holds 1 of 5 shards; .* with: make lm"):
        language.find_data()


@pytest.mark.parametrize("name, value, expected", [("LAYER", 1, "layer 2, not 1"), ("find_model", lambda: "x/large", "model 'tiny', not 'large'")])
def test_activations_of_another_model_or_layer_are_refused(made, monkeypatch, name, value, expected):
    monkeypatch.setattr(language if name == "LAYER" else lm, name, value)
    with pytest.raises(ValueError, match=f"holds activations of {expected}; move the folder away"):
        language.find_data()


def test_files_of_somebody_else_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(lm, "FOLDER", tmp_path)
    save_file({"activations": torch.ones(2, 3)}, tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="holds activations of model None, not 'tiny'"):
        language.find_data()


def test_activations_are_identified_by_what_they_were_made_of(made):
    _, ids, _ = made
    assert language.identify_data() == {"model": "tiny", "layer": 2, "contexts": [CONTEXTS, LENGTH],
                                        "ids": hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16]}
    assert massive.identify_data is language.identify_data


# Training and measuring


def test_the_reference_losses_are_of_no_splice_and_of_two_ablations(made):
    model, ids, _ = made
    _, _, losses = language.load_model()
    data = language.load("dropped")
    assert losses["clean"] == pytest.approx(float(model(ids[90:94], labels=ids[90:94]).loss), rel=1e-5)
    mean = data.scale * data.x_train.mean(dim=0)
    for name, x_hat in (("zero", torch.zeros_like), ("mean", lambda x: mean.expand_as(x))):
        expected = lm.spliced_loss(model, ids[90:94], layer=2, splice=lm.replace_normal(x_hat, data.largest))
        assert losses[name] == pytest.approx(expected, rel=1e-6) and losses[name] != losses["clean"]


@pytest.mark.parametrize("name", ["LSE + var + tc", "norm 16, LSE 64", "L1 0.05", "TopK 32", "BatchTopK 32"],
                         ids=["free", "fixed", "L1", "TopK", "BatchTopK"])
def test_every_model_is_trained_on_the_scaled_activations_and_measured_on_held_out_ones(name):
    specs = [spec_of(name, seed) for seed in (1, 2, 3)]
    models, histories = language.fit(specs, MNIST)
    data = language.load("dropped")
    assert all(len(history["total"]) == 2 for history in histories)
    model = models[0]
    assert next(model.parameters()).dtype == torch.float64 and torch.equal(model.inputs.x_test, data.x_test.double())
    found = language.evaluate(model, MNIST)
    x_train, x = data.x_train.double()[:600], data.x_test.double()
    a_train, a = model.encode(x_train).detach(), model.encode(x).detach()
    V, c = metrics.least_squares_decoder(a_train, x_train)
    assert found["fvu_least_squares"] == pytest.approx(metrics.fvu(x, a @ V + c), rel=1e-9)
    assert found["fvu_own"] == pytest.approx(metrics.fvu(x, model.decode(a).detach()), rel=1e-9)
    massive = data.massive_test.double()
    assert found["fvu_massive"] == pytest.approx(metrics.fvu(massive, model.decode(model.encode(massive)).detach()), rel=1e-9)
    assert found["l0"] == pytest.approx(float((a > 0).double().sum(dim=1).mean()))
    assert found["l0_published"] == metrics.l0(a)
    assert found["dense_units"] == int(((a > 0).double().mean(dim=0) > 0.5).sum())
    assert found["constant_units"] == int((a.var(dim=0) == 0).sum())
    assert found["never_active"] == int((a_train <= 0).all(dim=0).sum())
    own = [other.W_dec if hasattr(other, "W_dec") else other.W for other in models[:2]]
    fitted = [metrics.least_squares_decoder(other.encode(x_train).detach(), x_train)[0] for other in models[:2]]
    for kind, directions in (("own", own), ("least_squares", fitted)):
        cosines = matched_cosine(*(part.detach() for part in directions), torch.ones(16, dtype=torch.bool))
        assert found[f"cosine_{kind}"] == pytest.approx(float(cosines.mean()), rel=1e-6)
        assert found[f"comes_back_{kind}"] == int((cosines > 0.9).sum())
    spliced = lm.spliced_loss(language.load_model()[0], data.ids[:4], layer=2, splice=lm.replace_normal(
        lambda h: data.scale * (model.encode(h.double() / data.scale) @ V + c).detach().float(), data.largest))
    assert found["loss_least_squares"] == pytest.approx(spliced, rel=1e-4)
    assert {"loss_clean", "loss_zero", "loss_mean", "loss_own"} <= set(found)


def test_the_next_seed_of_the_last_is_the_first():
    models, _ = language.fit([spec_of("L1 0.05", seed) for seed in (1, 2, 3)], MNIST)
    expected = matched_cosine(models[2].W_dec.detach(), models[0].W_dec.detach(), torch.ones(16, dtype=torch.bool))
    torch.testing.assert_close(models[2].comes_back["own"], expected)
    alone, _ = language.fit([spec_of("L1 0.05")], MNIST)
    assert not alone[0].comes_back and "comes_back_own" not in language.evaluate(alone[0], MNIST)


def test_a_batch_top_k_is_built_from_its_spec_and_calibrated_on_training_activations():
    models, _ = language.fit([spec_of("BatchTopK 32", seed) for seed in (1, 2)], MNIST)
    data = language.load("dropped")
    model = models[0]
    assert isinstance(model, BatchTopKSAE) and model.k == 3
    found = model.threshold
    model.calibrate(data.x_train.double()[:600])
    assert found == model.threshold > 0
    start = language.build({**spec_of("BatchTopK 32"), "seed": 5}, data)
    torch.testing.assert_close(start.b_dec.detach(), data.x_train.mean(dim=0))
    torch.testing.assert_close(start.W_enc, language.build({**spec_of("BatchTopK 32"), "seed": 5}, data).W_enc)
    assert not torch.equal(start.W_enc, language.build({**spec_of("BatchTopK 32"), "seed": 6}, data).W_enc)
    other = language.build(spec_of("TopK 32"), data)
    assert type(other) is type(contestants.build(spec_of("TopK 32"), data))


def test_a_collapsed_model_is_measured_and_says_so(monkeypatch):
    build = language.build

    def silent(spec, data):
        model = build(spec, data)
        with torch.no_grad():
            model.b.fill_(-1e6)
        return model

    monkeypatch.setattr(language, "build", silent)
    models, _ = language.fit([spec_of("LSE only", seed, epochs=0) for seed in (1, 2)], MNIST)
    found = language.evaluate(models[0], MNIST)
    assert found["comes_back_least_squares"] == 0 and abs(found["cosine_least_squares"]) < 1e-3, "silent units are no match"
    assert found["constant_units"] == found["never_active"] == 12 and found["fvu_transpose_affine"] is None
    assert found["fvu_least_squares"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["LSE only", "norm 16, LSE 64, massive kept", "BatchTopK 32"])
def test_a_run_is_finite_json_and_repeatable(name, monkeypatch):
    monkeypatch.setattr(protocol, "load_data", lambda profile: MNIST)
    specs = [spec_of(name, seed) for seed in (1, 2, 3)]
    assert protocol.groups(specs) == [specs], "the seeds of a configuration train together"
    runs, again = (protocol.run_group(language, specs, profile="paper") for _ in range(2))
    for run, other in zip(runs, again):
        assert json.loads(json.dumps(run, allow_nan=False)) == run
        assert run["metrics"] == other["metrics"] and run["history"] == other["history"]


def test_its_groups_are_the_seeds_of_its_configurations():
    found = protocol.groups(language.specs("paper"))
    assert [{spec["name"] for spec in group} for group in found] == [{name} for name in language.CONFIGURATIONS]
    assert {len(group) for group in found} == {3}


# Units


def test_units_of_the_first_seed_are_shown_with_the_tokens_and_what_they_write():
    models, _ = language.fit([spec_of("L1 0.05", seed, shown=4) for seed in (1, 2)], MNIST)
    shown = language.evaluate(models[0], MNIST)["units"]
    assert "units" not in language.evaluate(models[1], MNIST)
    data = language.load("dropped")
    a = models[0].encode(data.x_test.double()).detach()
    assert len(shown) == 4 and len({unit["unit"] for unit in shown}) == 4
    codes = torch.zeros(160, 12, dtype=torch.float64)
    codes[data.normal] = a
    V = metrics.least_squares_decoder(models[0].encode(data.x_train.double()[:600]).detach(), data.x_train.double()[:600])[0]
    for unit in shown:
        column = codes[:, unit["unit"]]
        assert (column > 0).sum() >= 10
        first = unit["contexts"][0]
        assert first["tokens"][first["peak"]] == f"<{int(data.ids.flatten()[column.argmax()])}>"
        assert first["activations"][first["peak"]] == pytest.approx(float(column.max()), abs=1e-3)
        logits = lm.logit_weights(language.load_model()[0], V[[unit["unit"]]])[0]
        assert unit["promoted"][0] == f"<{int(logits.argmax())}>" and unit["suppressed"][0] == f"<{int(logits.argmin())}>"


# Massive activations


def test_the_run_on_massive_activations_trains_nothing():
    spec, = massive.specs("paper")
    assert spec == {"name": "massive", "seed": 0} and massive.find_data is language.find_data


def test_massive_activations_are_counted_and_described(made, monkeypatch):
    model, ids, _ = made
    (nothing,), (history,) = massive.fit(massive.specs("paper"), MNIST)
    assert nothing is None and history == {}
    found = massive.evaluate(None, MNIST)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    h = lm.residual_stream(model, ids, layer=2)
    norms = h.norm(dim=-1)
    large = norms > 10 * norms.median()
    assert (found["rows"], found["width"], found["contexts"]) == (880, 16, 110)
    assert (found["massive"], found["massive_first"], found["massive_later"]) == (
        int(large.sum()), int(large[:, 0].sum()), int(large[:, 1:].sum()))
    later = large.clone()
    later[:, 0] = False
    assert found["massive_tokens"] == sorted({f"<{i}>" for i in ids[later].tolist()}) and {"<7>", "<8>", "<9>"} >= set(found["massive_tokens"])
    assert found["massive_positions"] == later.nonzero()[:, 1].unique().tolist()
    assert found["median_norm_massive"] == pytest.approx(float(norms[large].median()), rel=1e-5)
    assert found["median_norm_other"] == pytest.approx(float(norms[~large].median()), rel=1e-5)
    states = model(ids[90:94], output_hidden_states=True).hidden_states
    assert found["norms_first"] == pytest.approx([float(part[:, 0].norm(dim=-1).median()) for part in states], rel=1e-5)
    assert found["norms_other"] == pytest.approx([float(part[:, 1:].norm(dim=-1).median()) for part in states], rel=1e-5)
    for name, x in (("all", h.flatten(0, 1)[:600]), ("other", language.load("dropped").x_train[:600])):
        values = torch.linalg.svdvals((x - x.mean(dim=0)).double()).square()
        assert found[f"share_first_direction_{name}"] == pytest.approx(float(values[0] / values.sum()), rel=1e-4)


def test_the_error_of_principal_components_is_that_of_scikit_learn(monkeypatch):
    from sklearn.decomposition import PCA
    monkeypatch.setattr(massive, "COMPONENTS", (3, 16))
    found = massive.evaluate(None, MNIST)
    data = language.load("dropped")
    pca = PCA(3).fit(data.x_train[:600].double().numpy())
    x = data.x_test.double().numpy()
    assert found["fvu_pca_3"] == pytest.approx(metrics.fvu(torch.from_numpy(x), torch.from_numpy(pca.inverse_transform(pca.transform(x)))), rel=1e-4)
    assert found["fvu_pca_16"] == pytest.approx(0, abs=1e-6)
