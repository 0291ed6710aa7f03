"""The training loop on toys: reproducible, exact, and outspoken when it fails."""

from functools import partial
from math import inf, log, nan
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfsae.baselines import PublishedSAE, ReconstructedEnergies, StandardSAE
from dfsae.encoder import DecoderFreeSAE
from dfsae.objective import Lambdas, NonFiniteError, Terms
from dfsae.training import stack, train, train_together

# A few steps of float64 arithmetic: a margin of 1e4 for another CPU and for fused optimizers.
close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)


class Parts(NamedTuple):
    mean: Tensor
    total: Tensor


class Recorder(nn.Module):
    """Loss w * mean(batch), so that every step is known by hand; keeps the batches it saw."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.w = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.scale, self.batches = scale, []

    def loss(self, x: Tensor) -> Parts:
        self.batches.append(x[:, 0].tolist())
        return Parts(x.mean(), self.scale * self.w * x.mean())


def counted(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64)[:, None]


def small_model(seed=0, **options):
    return DecoderFreeSAE(4, 3, reduction="sum", seed=seed, dtype=torch.float64, **options)


def run(model, x, *, epochs=2, batch_size=8, order_seed=0, **options):
    return train(model, x, epochs=epochs, batch_size=batch_size, order_seed=order_seed,
                 progress=False, **options)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Data order and history

def test_every_epoch_is_a_new_shuffle_of_all_samples_and_the_last_batch_is_smaller():
    model = Recorder()
    run(model, counted(11), batch_size=4)
    assert [len(batch) for batch in model.batches] == [4, 4, 3] * 2
    first, second = sum(model.batches[:3], []), sum(model.batches[3:], [])
    assert sorted(first) == sorted(second) == list(range(11))
    assert first != second and first != sorted(first)


def test_history_is_the_mean_over_the_steps_of_every_term():
    model = Recorder()
    history = run(model, counted(11), epochs=3, batch_size=4, optimizer="sgd", lr=0.01)
    assert history.keys() == {"mean", "total"}
    means, w, totals = [np.mean(batch) for batch in model.batches], 1.0, []
    for mean in means:
        totals.append(w * mean)
        w -= 0.01 * mean  # the gradient of w * mean
    close(history["mean"], np.reshape(means, (3, 3)).mean(axis=1))
    close(history["total"], np.reshape(totals, (3, 3)).mean(axis=1))
    close(model.w.item(), w)


def test_history_has_every_term_of_the_objective(randn):
    history = run(small_model(), randn(20, 4), epochs=2)
    assert tuple(history) == Terms._fields
    assert all(len(values) == 2 and type(values[0]) is float for values in history.values())
    close(np.array(history["lse"]) + history["var"] + history["tc"], history["total"])


def test_after_each_epoch_the_models_hold_the_weights_of_that_moment(randn):
    def pair():
        return [small_model(seed=1), small_model(seed=2)]

    settings = {"batch_size": 8, "order_seeds": [0, 0], "optimizers": ["adam", "sgd"], "lrs": [1e-2, 1e-3], "progress": False}
    x, models, seen = randn(20, 4), pair(), []
    train_together(models, x, epochs=3, after_epoch=lambda: seen.append([weights(model) for model in models]), **settings)
    assert len(seen) == 3
    for epochs, moment in enumerate(seen, start=1):
        fresh = pair()
        train_together(fresh, x, epochs=epochs, **settings)
        assert all(torch.equal(found, weights(model)) for found, model in zip(moment, fresh, strict=True))


def test_no_epochs_change_nothing(randn):
    model = small_model()
    assert run(model, randn(20, 4), epochs=0) == {}
    assert torch.equal(weights(model), weights(small_model()))


# Reproducibility

def test_the_same_seeds_give_the_same_weights(randn):
    trained = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = small_model()
        trained.append((run(model, randn(20, 4)), weights(model)))
    assert trained[0][0] == trained[1][0] and torch.equal(trained[0][1], trained[1][1])


def test_seeds_of_start_and_order_are_independent(randn):
    def outcome(seed, order_seed):
        model = small_model(seed)
        run(model, randn(20, 4), order_seed=order_seed)
        return weights(model)

    assert not torch.equal(outcome(0, 0), outcome(0, 1))
    assert not torch.equal(outcome(0, 0), outcome(1, 0))
    orders = []
    for scale in (1.0, 2.0):
        model = Recorder(scale)
        run(model, counted(11), order_seed=5)
        orders.append(model.batches)
    assert orders[0] == orders[1]


# Steps

def test_one_sgd_step_by_hand(randn):
    x, model = randn(8, 4), small_model(lambdas=Lambdas(1, 0, 0), activation="identity")
    W, b = model.W.detach().clone(), model.b.detach().clone()
    r = torch.softmax(-(x @ W.T + b), dim=1)  # Eq. 2: the gradient with respect to each energy
    run(model, x, epochs=1, optimizer="sgd", lr=0.1)
    close(model.W.detach(), W - 0.1 * r.T @ x)
    close(model.b.detach(), b - 0.1 * r.sum(dim=0))


def eq7_in_numpy(x, W, b, lambdas, eps):
    """The weighted sum of the terms for softplus energies."""
    E = np.logaddexp(0, x @ W.T + b)
    B, K = E.shape
    Z = (E - E.mean(axis=0)) / np.sqrt(E.var(axis=0, ddof=1) + eps)
    terms = (-np.log(np.exp(-E).sum(axis=1)).sum(), -np.log(E.var(axis=0, ddof=1) + eps).sum(),
             ((Z.T @ Z / (B - 1))[~np.eye(K, dtype=bool)] ** 2).sum(), ((W.T @ W - np.eye(W.shape[1])) ** 2).sum())
    return np.dot(lambdas, terms)


def slope(function, at, h=1e-5):
    """Gradient by central differences: good to h^2 and to 1e-15 / h."""
    steps = h * np.eye(at.size).reshape(-1, *at.shape)
    return np.array([(function(at + step) - function(at - step)) / (2 * h) for step in steps]).reshape(at.shape)


@pytest.mark.parametrize("K", [3, 12], ids=["K < B", "K > B"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("lambdas", [Lambdas(2, 0, 0), Lambdas(0, 2, 0), Lambdas(0, 0, 2), Lambdas(1, 0, 0, 2)],
                         ids=Lambdas._fields)
def test_one_step_down_each_term(lambdas, optimizer, K, randn):
    x = randn(8, 4)
    model = DecoderFreeSAE(4, K, reduction="sum", seed=0, dtype=torch.float64, lambdas=lambdas,
                           activation="softplus", eps=0.01)
    W, b = model.W.detach().numpy().copy(), model.b.detach().numpy().copy()
    g = [slope(lambda W: eq7_in_numpy(x.numpy(), W, b, lambdas, 0.01), W),
         slope(lambda b: eq7_in_numpy(x.numpy(), W, b, lambdas, 0.01), b)]
    run(model, x, epochs=1, optimizer=optimizer, lr=0.01)
    for now, before, grad in zip((model.W, model.b), (W, b), g):
        # The first step of Adam is the gradient over its own size plus 1e-8.
        expected = grad if optimizer == "sgd" else grad / (np.abs(grad) + 1e-8)
        np.testing.assert_allclose((before - now.detach().numpy()) / 0.01, expected, rtol=1e-5, atol=1e-6)


def test_a_parameter_that_the_loss_does_not_use_stays(randn):
    model = small_model(lambdas=Lambdas(0, 0, 0, 1))  # Eq. 8 has no b
    run(model, randn(8, 4))
    assert torch.equal(model.b, small_model().b) and not torch.equal(model.W, small_model().W)


@pytest.mark.parametrize("optimizer, reference", [
    ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD), (None, torch.optim.Adam)])
def test_steps_beside_a_plain_loop(optimizer, reference, randn):
    x, model, plain = randn(24, 4), small_model(), small_model()
    run(model, x, **({"optimizer": optimizer, "lr": 0.01} if optimizer else {}))
    step_of = reference(plain.parameters(), lr=0.01 if optimizer else 1e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(2):
        for rows in torch.randperm(24, generator=order).split(8):
            step_of.zero_grad()
            plain.loss(x[rows]).total.backward()
            step_of.step()
    close(weights(model), weights(plain))


def test_lse_alone_reaches_the_exact_loss_of_dead_units():
    # Every ReLU energy falls to zero, where each sample costs -log K: -(N / steps) log K a step.
    N, B, K = 256, 128, 8
    x = torch.rand(N, 4, generator=torch.Generator().manual_seed(0))
    model = DecoderFreeSAE(4, K, reduction="sum", seed=0, lambdas=Lambdas(1, 0, 0))
    history = run(model, x, epochs=5, batch_size=B, optimizer="sgd", lr=0.1)
    assert (model.encode(x) == 0).all()
    # 128 terms in float32.
    np.testing.assert_allclose(history["lse"][-1], -(N / 2) * log(K), rtol=1e-5)
    assert history["total"] == history["lse"]
    assert history["var"][-1] == pytest.approx(-K * log(1e-6), rel=1e-5)


def test_a_baseline_trains_too(randn):
    history = run(PublishedSAE(4, 3, seed=0, dtype=torch.float64), randn(24, 4), epochs=20, lr=0.01)
    assert history.keys() == {"mse", "l1", "total"} and history["mse"][-1] < history["mse"][0]


# Together

SETTINGS = [("adam", 0.01), ("adam", 0.01), ("sgd", 0.001), ("adam", 0.003)]  # a run of two, and a kind that comes again


def models_that_differ(case, dtype=torch.float64):
    """Four models of one class and shape."""
    common = {"dtype": dtype}
    mean = torch.linspace(-1, 1, 4, dtype=dtype)
    if case in ("lambdas", "activation"):
        values = {"lambdas": [Lambdas(), Lambdas(1, 0, 0), Lambdas(0, 1, 1, 2), Lambdas(0, 0, 0)],
                  "activation": ["relu", "softplus", "identity", "relu"]}[case]
        return [DecoderFreeSAE(4, 3, reduction="sum", seed=0, **common, **{case: value}) for value in values]
    if case == "seed":
        return [DecoderFreeSAE(4, 3, reduction="mean", seed=seed, eps=0.1, **common) for seed in range(4)]
    if case == "more units than samples":
        return [DecoderFreeSAE(4, 12, reduction="sum", seed=seed, **common) for seed in range(4)]
    if case == "published":
        return [PublishedSAE(4, 3, seed=seed, l1=l1, **common) for seed in (0, 1) for l1 in (0.0, 0.5)]
    if case == "standard":
        return [StandardSAE(4, 3, seed=0, l1=l1, data_mean=shift * mean, **common) for l1 in (0.0, 0.5) for shift in (0, 1)]
    return [ReconstructedEnergies(4, 3, seed=0, lse=lse, data_mean=start, **common)
            for lse in (0.0, 1.0) for start in (None, mean)]


CASES = ["lambdas", "activation", "seed", "more units than samples", "published", "standard", "reconstructed"]


def assert_together_is_as_apart(case, x, order_seeds, settings, near):
    """Weights and history of each model of a group beside those of its like trained alone."""
    kinds, lrs = zip(*settings)
    group, alone = models_that_differ(case, x.dtype), models_that_differ(case, x.dtype)
    histories = train_together(group, x, epochs=3, batch_size=8, order_seeds=order_seeds, optimizers=kinds,
                               lrs=lrs, progress=False)
    for model, twin, history, order_seed, kind, lr in zip(group, alone, histories, order_seeds, kinds, lrs, strict=True):
        expected = run(twin, x, epochs=3, order_seed=order_seed, optimizer=kind, lr=lr)
        assert history.keys() == expected.keys() and model.W.dtype == x.dtype
        near(weights(model), weights(twin))
        near(list(history.values()), list(expected.values()))


@pytest.mark.parametrize("order_seeds", [(5, 5, 5, 5), (1, 2, 1, 3)], ids=["one order", "orders of their own"])
@pytest.mark.parametrize("case", CASES)
def test_together_is_as_apart(case, order_seeds, randn):
    assert_together_is_as_apart(case, randn(19, 4), order_seeds, SETTINGS, close)  # the last batch holds three


@pytest.mark.parametrize("case", CASES)
def test_together_is_nearly_as_apart_in_float32(case, randn):
    # Nine steps of plain descent: each adds lr = 0.001 times a gradient below 100, good to 1e-6. Adam would turn
    # a gradient that is zero but for rounding into a step as large as any other.
    near = partial(np.testing.assert_allclose, rtol=2e-6, atol=2e-6)
    assert_together_is_as_apart(case, randn(19, 4, dtype=torch.float32), (1, 2, 1, 3), [("sgd", 0.001)] * 4, near)


def test_a_stack_shares_the_memory_of_its_models(randn):
    models = models_that_differ("lambdas")
    before, group = [weights(model) for model in models], stack(models)
    assert group.W.shape == (4, 3, 4) and group.b.shape == (4, 3) and group.lambdas == [m.lambdas for m in models]
    assert all(torch.equal(weights(model), start) for model, start in zip(models, before)), "as they were"
    with torch.no_grad():
        group.W[2] += 1
    assert torch.equal(models[2].W, group.W[2]) and not torch.equal(models[2].W, models[0].W)
    with torch.no_grad():
        models[1].b.zero_()
    assert (group.b[1] == 0).all() and (group.b[0] != 0).all()


@pytest.mark.parametrize("first, second, message", [
    (PublishedSAE(4, 3, seed=0), ReconstructedEnergies(4, 3, seed=0, lse=1.0), "be of one class, shape and dtype"),
    (small_model(), DecoderFreeSAE(4, 5, reduction="sum", seed=0, dtype=torch.float64), "be of one class, shape and dtype"),
    (small_model(), DecoderFreeSAE(4, 3, reduction="sum", seed=0), "be of one class, shape and dtype"),
    (small_model(), small_model(eps=0.1), "have the same eps"),
    (small_model(), DecoderFreeSAE(4, 3, reduction="mean", seed=0, dtype=torch.float64), "have the same reduction"),
])
def test_models_that_cannot_train_together_are_named(first, second, message, randn):
    with pytest.raises(ValueError, match=f"models that train together must {message}; train them apart"):
        train_together([first, second], randn(8, 4), epochs=1, order_seeds=[0, 0], optimizers=["sgd"] * 2, lrs=[0.1] * 2)


@pytest.mark.parametrize("options, message", [
    ({"order_seeds": [0]}, "2 models need as many order_seeds, optimizers and lrs, got 1, 2 and 2"),
    ({"optimizers": ["sgd"] * 3}, "2 models need as many order_seeds, optimizers and lrs, got 2, 3 and 2"),
    ({"lrs": [0.1]}, "2 models need as many order_seeds, optimizers and lrs, got 2, 2 and 1"),
    ({"optimizers": ["sgd", "rmsprop"]}, r"optimizer must be one of \['adam', 'sgd'\], got 'rmsprop'"),
    ({"lrs": [0.1, 0.0]}, "lr > 0, got epochs=1, lr=0.0"),
])
def test_bad_settings_of_a_group_are_named(options, message, randn):
    settings = {"order_seeds": [0, 0], "optimizers": ["sgd", "sgd"], "lrs": [0.1, 0.1]} | options
    with pytest.raises(ValueError, match=message):
        train_together([small_model(), small_model()], randn(8, 4), epochs=1, batch_size=8, **settings)


def test_a_group_of_none_is_an_error(randn):
    with pytest.raises(ValueError, match="0 models need as many"):
        train_together([], randn(8, 4), epochs=1, order_seeds=[], optimizers=[], lrs=[])


def test_a_group_that_diverges_names_its_learning_rates(randn):
    models = [small_model(activation="identity") for _ in range(3)]
    with pytest.raises(NonFiniteError, match=r"diverged at epoch 0, step 1, lr 0.001, 1e\+200 in term var"):
        train_together(models, randn(24, 4), epochs=1, order_seeds=[0] * 3, optimizers=["sgd"] * 3,
                       lrs=[1e-3, 1e200, 1e-3], batch_size=8, progress=False)


# Progress

@pytest.mark.parametrize("progress", [True, False])
def test_progress_bar(progress, capsys):
    train(Recorder(), counted(8), epochs=1, order_seed=0, batch_size=4, progress=progress)
    captured = capsys.readouterr()
    assert ("epochs" in captured.err) == progress and captured.out == ""


# Messages

@pytest.mark.parametrize("options, message", [
    ({"optimizer": "rmsprop"}, r"optimizer must be one of \['adam', 'sgd'\], got 'rmsprop'"),
    ({"lr": -0.1}, "lr > 0, got epochs=2, lr=-0.1"), ({"lr": 0.0}, "lr > 0, got epochs=2, lr=0.0"),
    ({"epochs": -1}, "epochs must be >= 0 and lr > 0, got epochs=-1"),
    ({"batch_size": 1}, "batch_size 1 leaves a batch of one"),
    ({"batch_size": 0}, "batch_size 0 leaves a batch of one"),
    ({"batch_size": 10}, "batch_size 10 leaves a batch of one of the 21 samples.*choose another"),
])
def test_bad_settings_are_named(options, message, randn):
    with pytest.raises(ValueError, match=message):
        run(small_model(), randn(21, 4), **options)


@pytest.mark.parametrize("x, message", [
    (torch.full((8, 4), nan), "x holds NaN"), (torch.full((8, 4), inf), "x holds NaN or infinite"),
    (torch.ones(8, 4, dtype=torch.uint8), "x must be a float tensor, got torch.uint8"),
    (torch.ones(1, 4), r"x needs at least 2 sample\(s\), got shape \(1, 4\)"),
    (torch.ones(8, 3).double(), r"x must have width 4, got shape \(8, 3\)"),
])
def test_bad_data_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        run(small_model(), x)


@pytest.mark.parametrize("lr, what", [
    (1e308, ": E holds NaN or infinite values; clean the data before this call; "), (1e200, " in term var; "),
])
def test_divergence_is_reported_with_place_cause_and_remedy(lr, what, randn):
    with pytest.raises(NonFiniteError) as error:
        run(small_model(activation="identity"), randn(24, 4), optimizer="sgd", lr=lr)
    assert str(error.value) == (f"training diverged at epoch 0, step 1, lr {lr}{what}"
                                "lower the learning rate, or raise eps of the variance penalty")


def test_a_diverging_term_is_named():
    x = torch.ones(8, 4, dtype=torch.float64)  # constant energies, and no eps to save Eq. 4
    with pytest.raises(NonFiniteError, match="diverged at epoch 0, step 0, lr 0.001 in term var; lower"):
        run(small_model(eps=0.0), x)
    with pytest.raises(NonFiniteError, match="diverged at epoch 0, step 0, lr 0.001 in term total; lower"):
        run(Recorder(inf), counted(8))
