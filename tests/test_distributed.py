"""Several processes train the model of one: values, gradients, errors, and training that is killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ranks
import torch
from forked import run_forked
from ranks import LAMBDAS, SETTINGS, data, energies, models
from safetensors.torch import load_file

from dfsae import distributed, training
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import Lambdas, NonFiniteError, objective

RANKS = Path(__file__).parent / "ranks.py"
PACKAGE = Path(distributed.__file__).parents[1]
# Float64 sums of a few dozen terms in another order, over 12 steps.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def torchrun(scenario: str, folder: Path, world: int) -> list[int]:
    """The command itself."""
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}",
                           str(RANKS), scenario, str(folder)],
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE)}, capture_output=True, text=True, timeout=120)
    (folder / "log").write_text(done.stderr)
    return [done.returncode]


def launch(scenario: str, folder: Path, world: int) -> list[int]:
    """What torchrun does, without an agent that ends the other ranks, and in less time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return run_forked(ranks.take_part, [(scenario, str(folder), rank, world, port) for rank in range(world)], log=folder / "log")


def outcome(scenario, folder, world, *, start=launch):
    assert not any(start(scenario, folder, world)), (folder / "log").read_text()[-2000:]
    return [load_file(folder / f"{rank}.safetensors") for rank in range(world)]


@pytest.mark.parametrize("world", [2, 3])
def test_values_and_gradients_are_those_of_one_process(world, tmp_path):
    found = outcome("objectives", tmp_path, world)
    for B, K in ((11, 5), (11, 20), (3, 4)):
        for reduction in ("sum", "mean"):
            E = energies(B, K).requires_grad_()
            expected = objective(E, torch.zeros(1, 1).double(), lambdas=LAMBDAS, reduction=reduction, eps=1e-3)
            expected.total.backward()
            for way in ("gather", "reduce", "auto"):
                for rank in found:
                    torch.testing.assert_close(rank[f"{B} {K} {way} {reduction}"], torch.stack(expected).detach(), **CLOSE)
                parts = [rank[f"{B} {K} {way} {reduction} gradient"] for rank in found]
                assert [len(part) for part in parts] == [B - 1, 1, 0][:world], "uneven, and empty"
                torch.testing.assert_close(torch.cat(parts), E.grad, **CLOSE)


@pytest.mark.parametrize("world, start", [(2, launch), (3, launch), (2, torchrun)], ids=["2", "3", "torchrun"])
def test_training_ends_with_the_model_of_one_process(world, start, tmp_path):
    found = outcome("training", tmp_path, world, start=start)
    for name, model in models().items():
        history = training.train(model, data(), progress=False, **SETTINGS)
        for way in ("gather", "reduce"):
            for rank in found:
                for part, value in model.named_parameters():
                    torch.testing.assert_close(rank[f"{name} {way} {part}"], value.detach(), **CLOSE)
                    assert torch.equal(rank[f"{name} {way} {part}"], found[0][f"{name} {way} {part}"])
                torch.testing.assert_close(rank[f"{name} {way} total"], torch.tensor(history["total"]), **CLOSE)
        assert not torch.allclose(models()[name].W, model.W, atol=1e-3), "it moved"


def test_what_is_wrong_on_one_rank_ends_all_with_the_reason(tmp_path):
    assert launch("refusals", tmp_path, 2) == [0, 0], (tmp_path / "log").read_text()[-2000:]
    words = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert words[0] == words[1] and words[0].splitlines() == [
        "NonFiniteError: 1 of 2 rank(s) hold NaN or infinite energies; clean the data or lower the learning rate",
        "ValueError: the ranks hold 1 row(s) together; a variance needs two",
        "batch_size 16 leaves a batch of 1 of the 49 samples for 2 rank(s); each needs one, and a variance two: "
        "choose another batch_size"]


def test_a_lost_rank_ends_the_others_with_a_reason(tmp_path):
    # Without torchrun, which would end the other rank itself; between machines it cannot.
    assert launch("lost", tmp_path, 2) == [1, -signal.SIGKILL]
    assert (tmp_path / "0.txt").read_text().startswith("another rank ended or did not answer in time; start all of them again")


def test_training_that_was_killed_goes_on_and_ends_as_if_it_was_not(tmp_path, world=2):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    (whole / "once").touch()  # it is not killed
    expected = outcome("killed", whole, world)
    # A rank that is not killed itself loses the other and ends in an error.
    assert set(launch("killed", broken, world)) <= {-signal.SIGKILL, 1}
    assert (broken / "model.safetensors").exists() and not list(broken.glob("*.steps"))
    found = outcome("killed", broken, world)
    assert (broken / "0.steps").read_text() == "7", "12 steps, of which 5 were done"
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one), "to the bit"


# In one process

@pytest.mark.parametrize("way", ["gather", "reduce"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("B, K", [(11, 5), (11, 20)])
def test_both_ways_are_the_objective(B, K, reduction, way):
    options = {"lambdas": LAMBDAS, "reduction": reduction, "eps": 1e-3}
    E, other = (energies(B, K).requires_grad_() for _ in range(2))
    found, expected = distributed.shared_objective(E, way=way, **options), objective(other, torch.zeros(1, 1).double(), **options)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), **CLOSE)
    for terms in (found, expected):
        terms.total.backward()
    torch.testing.assert_close(E.grad, other.grad, **CLOSE)


def trained(tmp_path=None, **options):
    model = models()["few"]
    history = distributed.train(model, data(), checkpoint=tmp_path and tmp_path / "c.safetensors", **{**SETTINGS, **options})
    return model, history


def test_without_other_ranks_it_is_the_training_loop_of_the_book():
    model, history = trained()
    expected = models()["few"]
    other = training.train(expected, data(), progress=False, **SETTINGS)
    torch.testing.assert_close(model.W, expected.W, **CLOSE)
    assert history.keys() == other.keys() and history["tc"] == pytest.approx(other["tc"], rel=1e-9)


def test_a_finished_checkpoint_is_not_trained_again(tmp_path, monkeypatch):
    model, history = trained(tmp_path)
    monkeypatch.setattr(distributed, "shared_objective", None)
    again, same = trained(tmp_path)
    assert torch.equal(again.W, model.W) and same == history
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_an_interrupted_training_goes_on_from_the_last_checkpoint(tmp_path, monkeypatch):
    expected, history = trained()
    steps, shared = [], distributed.shared_objective

    def step(E, **options):
        steps.append(len(E))
        if len(steps) == 7:
            raise KeyboardInterrupt
        return shared(E, **options)

    monkeypatch.setattr(distributed, "shared_objective", step)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, every=5)
    found, other = trained(tmp_path, every=5)
    assert len(steps) == 7 + 12 - 5 and steps[:4] == [16, 16, 16, 5], "five steps of twelve were kept"
    assert torch.equal(found.W, expected.W) and torch.equal(found.b, expected.b) and other == history


@pytest.mark.parametrize("E, error, words", [
    (torch.full((4, 2), float("nan")), NonFiniteError, r"1 of 1 rank\(s\) hold NaN or infinite energies; clean the data"),
    (torch.ones(1, 2), ValueError, r"the ranks hold 1 row\(s\) together; a variance needs two")])
def test_energies_that_have_no_objective_are_refused(E, error, words):
    with pytest.raises(error, match=words):
        distributed.shared_objective(E, lambdas=LAMBDAS, reduction="sum", eps=1e-3)


@pytest.mark.parametrize("N, world", [(49, 1), (50, 3)])
def test_a_batch_that_is_too_small_is_refused(N, world, monkeypatch):
    monkeypatch.setattr(distributed, "ranks", lambda: (0, world))
    with pytest.raises(ValueError, match=f"batch_size 16 leaves a batch of {N % 16} of the {N} samples for {world} rank"):
        distributed.train(models()["few"], data(N), **SETTINGS)


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"epochs": 4}, {"order_seed": 3}, {"batch_size": 8}])
def test_a_checkpoint_of_other_settings_is_refused(change, tmp_path):
    trained(tmp_path)
    with pytest.raises(ValueError, match="is the checkpoint of other settings, .*: delete it or name another file"):
        trained(tmp_path, **change)


def test_a_checkpoint_of_another_start_radius_or_data_is_refused(tmp_path):
    def run(seed=0, radius=4.0, x=None):
        model = FixedScaleSAE(6, 5, radius=radius, reduction="sum", seed=seed, dtype=torch.float64)
        distributed.train(model, data() if x is None else x, checkpoint=tmp_path / "c.safetensors", **SETTINGS)

    run()
    run()
    for change in ({"seed": 1}, {"radius": 5.0}, {"x": data() + 1}):
        with pytest.raises(ValueError, match="is the checkpoint of other settings"):
            run(**change)


@pytest.mark.parametrize("change", [
    {"lambdas": Lambdas(1, 1, 1, 1)}, {"reduction": "median"}, {"way": "both"}])
def test_bad_settings_are_refused(change):
    with pytest.raises(ValueError, match="expected lambdas with wr = 0, reduction 'sum' or 'mean', and way"):
        distributed.shared_objective(energies(6, 4), **{"lambdas": LAMBDAS, "reduction": "sum", "eps": 1e-3, **change})


@pytest.mark.parametrize("B, K, expected", [(5, 6, "gather"), (5, 5, "gather"), (6, 5, "reduce")])
def test_the_way_that_exchanges_fewer_numbers_is_taken(B, K, expected, monkeypatch):
    monkeypatch.setattr(distributed, "WAYS", {way: lambda *args, way=way, **options: way for way in ("gather", "reduce")})
    assert distributed.shared_objective(energies(B, K), lambdas=LAMBDAS, reduction="sum", eps=1e-3) == expected
