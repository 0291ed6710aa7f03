"""The benchmarks: contestants train what they say, take turns, and leave a whole result or none."""

import json
import math
import subprocess
import sys

import contestants
import measure
import pytest
import torch

from dfsae.data import ROOT
from dfsae.encoder import DecoderFreeSAE
from dfsae.objective import objective
from dfsae.training import train

OWN = [(name, models) for name, models in measure.STEP_CONTESTANTS if name.startswith(("dfsae", "autograd"))]
B, D, K = measure.STEPS["batch_size"], measure.STEPS["D"], measure.STEPS["K"]
ENCODER = 2 * B * K * D
"""Multiply-adds of the encoder's two products."""
OWN_PRODUCTS = {"dfsae": ENCODER + 2 * B * K * min(B, K), "autograd": ENCODER + 3 * B * K * K}
"""Those of a step of one model: two products of Eq. 5 in closed form, three by automatic differentiation."""
RESULT = ROOT / "results" / "benchmarks.json"


@pytest.fixture
def own(monkeypatch):
    """Measure contestants of the main environment only, in it, and few of them."""
    monkeypatch.setattr(measure, "PYTHON", sys.executable)
    monkeypatch.setattr(measure, "STEP_CONTESTANTS", [("dfsae", 1), ("autograd", 1)])
    monkeypatch.setattr(measure, "PARTS", [("batches", 1), ("objective", 4)])
    monkeypatch.setattr(measure, "WIDTH_CONTESTANTS", ["dfsae", "autograd"])
    monkeypatch.setattr(measure, "WIDTHS", (1024,))
    monkeypatch.setattr(measure, "K_X_K_LIMIT", 64)


@pytest.mark.parametrize(("name", "models"), OWN)
def test_contestants_train_every_model(name, models, randn):
    contestant = contestants.CONTESTANTS[name](randn(64, 20, dtype=torch.float32).abs(), 16, 32, models)
    before = [parameter.detach().clone() for parameter in contestant.parameters]
    contestant.run(1)
    weights = [(old, new) for old, new in zip(before, contestant.parameters, strict=True) if new.ndim == 2]
    assert len(weights) == models * (2 if name == "dfsae L1" else 1)
    assert all(new.isfinite().all() and not new.equal(old) for old, new in weights)


@pytest.mark.parametrize("models", [1, 4, 8])
def test_parts_do_what_a_step_does(models, randn):
    """The gradient of the energies is that of training, and so is what the optimizers make of a gradient."""
    x = randn(64, 20, dtype=torch.float32).abs()
    part = contestants.objective_alone(x, 16, 32, models)
    part.run(1)
    slope, = part.parameters
    for place, weights in enumerate(contestants.GROUPS[models][0]):
        model = contestants.group_of(x, 16, models)[place]
        model.loss(x[:32]).total.backward()
        found = slope.reshape(models, 32, 16)[place]
        torch.testing.assert_close(found.T @ x[:32], model.W.grad, rtol=1e-4, atol=1e-4, msg=str(weights))
    part = contestants.optimizers_alone(x, 16, 32, models)
    before, grads = ([value.clone() for value in values] for values in (part.parameters, [view.grad for view in part.parameters]))
    assert sum(view.numel() for view in part.parameters) == models * 16 * 21
    part.run(1)
    runs = dict.fromkeys(zip(*contestants.GROUPS[models][1:]))
    kinds = [(name, *run) for run in runs for name in ("W", "b")]
    for (_, kind, lr), (new, old, grad) in zip(kinds, zip(part.parameters, before, grads), strict=True):
        # Two steps: SGD's are lr g each; Adam's, with a gradient that stays, are lr each but for eps.
        step = grad if kind == "sgd" else grad.sign()
        torch.testing.assert_close(new, old - 2 * lr * step, rtol=0, atol=1e-2 * lr)


def test_batches_are_all_samples_once(randn, monkeypatch):
    seen = []
    gather = contestants.embedding
    monkeypatch.setattr(contestants, "embedding", lambda rows, x: seen.append(rows) or gather(rows, x))
    part = contestants.batches_alone(randn(64, 20, dtype=torch.float32), 16, 32, 1)
    part.run(1)
    assert [len(rows) for rows in seen] == [32, 32] and sorted(torch.cat(seen).tolist()) == list(range(64))
    assert part.parameters[0].any()


def test_parts_count_the_products_of_eq_5_only():
    x = torch.rand(2 * B, D)
    for models in (1, 4, 8):
        counted = {part: contestants.multiply_adds(contestants.CONTESTANTS[part](x, K, B, models).run)
                   for part, size in measure.PARTS if size == models}
        assert counted == {"batches": 0, "objective": 2 * models * 2 * B * K * min(B, K), "optimizers": 0}


def test_bare_products_are_those_of_a_step_and_have_run_before_they_are_timed(randn):
    x = randn(96, 20, dtype=torch.float32)
    contestant = contestants.bare_products(x, 16, 32, 4)
    energies, gradient = contestant.parameters
    assert energies.shape == (4 * 16, 32) and gradient.shape == (4 * 16, 20)
    assert energies.any() and gradient.any()
    assert contestants.multiply_adds(contestant.run) == 3 * (2 * 32 * 4 * 16 * 20)


def test_the_floor_is_the_mean_of_before_and_after(monkeypatch):
    ran = []
    monkeypatch.setattr(contestants, "timed", lambda run, epochs: ran.append((run, epochs)) or 2.0 ** len(ran))
    assert contestants.turn("contestant", "products", 7) == {"seconds": 4.0, "floor": (2.0 + 8.0) / 2}
    assert ran == [("products", 7), ("contestant", 7), ("products", 7)]
    assert contestants.turn("contestant", None, 7) == {"seconds": 16.0, "floor": None}


@pytest.mark.parametrize(("name", "models"), OWN)
def test_products_of_a_step_are_counted(name, models):
    contestant = contestants.CONTESTANTS[name](torch.rand(2 * B, D), K, B, models)
    products = contestants.multiply_adds(contestant.run) / 2 / models
    if name == "dfsae L1":  # five of the encoder's size; and three with a single row, the decoder's bias
        assert products == 5 * B * K * D + 3 * K * D
    else:
        assert products == OWN_PRODUCTS["dfsae" if name.startswith("dfsae") else "autograd"]


@pytest.mark.parametrize(("name", "models"), OWN)
def test_every_adam_is_the_fused_one(name, models, randn):
    contestant = contestants.CONTESTANTS[name](randn(64, 20, dtype=torch.float32).abs(), 16, 32, models)
    with torch.profiler.profile() as profile:
        contestant.run(1)
    assert "aten::_fused_adam_" in {event.name for event in profile.events()}


def test_seeds_are_models_of_their_own_that_train_as_one_alone(randn):
    x = randn(64, 20).abs()
    together, alone = (contestants.CONTESTANTS[name](x, 16, 32, models)
                       for name, models in (("dfsae, seeds", 8), ("dfsae", 1)))
    first, second = together.parameters[0].clone(), together.parameters[2].clone()
    assert not first.equal(second)
    for contestant in (together, alone):
        contestant.run(2)
    torch.testing.assert_close(together.parameters[0], alone.parameters[0], rtol=0, atol=1e-9)
    assert not together.parameters[0].equal(first)


@pytest.mark.parametrize("K", [12, 48])
def test_plain_objective_is_the_objective_on_both_sides_of_the_batch_size(K, randn):
    x = randn(32, 20).abs()
    model = DecoderFreeSAE(20, K, reduction="sum", seed=0, dtype=torch.float64)
    own = objective(model.encode(x), model.W, lambdas=model.lambdas, reduction="sum", eps=model.eps).total
    assert contestants.plain_objective(x, model.W, model.b).item() == pytest.approx(own.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["autograd", "autograd, DataLoader"])
@pytest.mark.parametrize("K", [12, 48])
def test_autograd_takes_the_steps_of_dfsae(name, K, randn):
    # One batch, so that the data order does not matter; Adam divides rounding errors by small gradients.
    x = randn(32, 20).abs()
    plain = contestants.CONTESTANTS[name](x, K, 32, 1)
    plain.run(3)
    model = DecoderFreeSAE(20, K, reduction="sum", seed=0, dtype=torch.float64)
    start = model.W.detach().clone()
    train(model, x, epochs=3, order_seed=0, batch_size=32, lr=contestants.LR, progress=False)
    for ours, theirs in zip(model.parameters(), plain.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    assert (model.W - start).abs().max() > 1e-3


def test_every_repeat_runs_every_contestant_once_in_an_order_of_its_own():
    found = measure.orders(6, 20)
    assert found == measure.orders(6, 20)
    assert all(sorted(order) == list(range(6)) for order in found)
    assert len(set(map(tuple, found))) > 15


def test_ratios_are_taken_within_a_repeat():
    assert measure.ratio([2.0, 40.0, 6.0], [1.0, 20.0, 2.0]).split() == ["2.00", "[2.00,", "2.50]"]


def test_changes_of_the_benchmarks_count_as_uncommitted(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    monkeypatch.setattr(measure, "provenance", lambda profile: {"profile": profile, "uncommitted_changes": False})
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "elsewhere").write_text("")
    assert measure.described() == {"profile": "bench", "uncommitted_changes": False}
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "contestants.py").write_text("")
    assert measure.described()["uncommitted_changes"]
    (tmp_path / "benchmarks" / "contestants.py").unlink()
    monkeypatch.setattr(measure, "provenance", lambda _: {"uncommitted_changes": True})
    assert measure.described()["uncommitted_changes"]


def check_layout(result, repeats, widths, batches):
    """Every contestant has a value for every repeat, or a reason."""
    about = result["provenance"]
    assert about["threads"] == 1 and about["cpu"] and about["blas"] and about["versions"]["torch"]
    assert about["steps"]["top_k"] == contestants.TOP_K
    assert [(row["contestant"], row["models"], row["steps"]) for row in result["steps"]] == [
        (name, models, batches) for name, models in measure.STEP_CONTESTANTS]
    assert [(row["contestant"], row["models"], row["steps"]) for row in result["parts"]] == [(*part, batches) for part in measure.PARTS]
    for row in result["parts"]:
        assert len(row["seconds"]) == len(row["floor"]) == repeats and min(*row["seconds"], *row["floor"]) > 0
    assert [row["K"] for row in result["width"]] == [K for K in widths for _ in measure.WIDTH_CONTESTANTS]
    for row in result["steps"]:
        assert len(row["seconds"]) == len(row["floor"]) == repeats == about["steps"]["repeats"]
        assert all(0 < floor < seconds for floor, seconds in zip(row["floor"], row["seconds"], strict=True))
        assert row["multiply_adds"] >= row["models"] * OWN_PRODUCTS["dfsae"]
        if row["contestant"] in OWN_PRODUCTS:
            assert row["multiply_adds"] == row["models"] * OWN_PRODUCTS[row["contestant"]]
    for row in result["width"]:
        if "skipped" in row:
            assert row["contestant"] == "autograd" and row["K"] > measure.K_X_K_LIMIT
            assert row["seconds"] is row["peak_mib"] is row["model_mib"] is None
        else:
            assert len(row["seconds"]) == about["width"]["repeats"] and row["peak_mib"] > row["model_mib"] >= 0
    assert all(0 < value < math.inf for row in result["steps"] + result["width"] for value in row["seconds"] or [])


def test_a_small_run_writes_a_whole_result(own, tmp_path, capsys):
    path = tmp_path / "benchmarks.json"
    measure.main(["--small", "--repeats", "2", "--output", str(path)])
    check_layout(json.loads(path.read_text()), 2, (1024,), 20)
    assert capsys.readouterr().out.count("autograd") == 1  # in width it was skipped


def test_a_contestant_that_fails_is_named_and_nothing_is_written(own, monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "STEP_CONTESTANTS", [("unknown library", 1)])
    with pytest.raises(SystemExit, match="'unknown library' failed.*\n.*call make bench again"):
        measure.main(["--small", "--output", str(tmp_path / "benchmarks.json")])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not RESULT.exists(), reason="make bench has not run")
def test_committed_result_is_whole():
    result = json.loads(RESULT.read_text())
    check_layout(result, measure.REPEATS, measure.WIDTHS, 468)
    products = {row["contestant"]: row["multiply_adds"] / (B * K * D) for row in result["steps"] if row["models"] == 1}
    assert round(products["dfsae L1"]) == 5 and products["sae-lens L1"] == products["dictionary-learning L1"] == 6
    pins = dict(line.split("==") for line in (ROOT / "benchmarks" / "requirements.txt").read_text().split())
    assert {name: result["provenance"]["versions"][name].split("+")[0] for name in pins} == pins
