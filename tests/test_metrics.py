"""Every metric: known answers, parity with scikit-learn and NumPy, thresholds, messages."""

from functools import partial
from math import log, nan

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dfsae import metrics
from dfsae.objective import NonFiniteError, responsibilities

# Sums of at most 1e3 float64 numbers: a margin of 1e3 for another CPU.
close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


# Units

def test_dead_units_by_hand():
    a = tensor([[0.0, 5.0, 0.0, 0.0], [1.0, 5.0, 0.1, 0.2]])  # variances 1/2, 0, 0.005, 0.02
    assert metrics.dead_units(a) == 2
    assert metrics.dead_units(a, threshold=0.5) == 3, "strictly below; variances divide by N - 1"
    assert metrics.dead_units(a, threshold=0.0) == 0
    assert metrics.dead_units(a, threshold=0.6) == 4


def test_redundancy_by_hand(randn):
    a = tensor([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])  # correlation 1/2
    close(metrics.redundancy(a), 0.5)
    close(metrics.redundancy(torch.cat([a[:, :1], -7 * a[:, :1], a[:, :1] + 3], dim=1)), 6)
    close(metrics.redundancy(1e-5 * a), 0.5)  # no eps that would shrink it
    a = randn(9, 4)
    close(metrics.redundancy(a), (np.corrcoef(a.numpy(), rowvar=False) ** 2).sum() - 4)


def test_redundancy_of_a_constant_unit_is_not_defined():
    assert np.isnan(metrics.redundancy(tensor([[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]])))


def test_mean_squared_correlation_is_over_the_pairs_that_vary(randn):
    a = tensor([[1.0, 4.0, 1.0, 7.0, 1.0], [2.0, 4.0, 3.0, 7.0, 2.0], [3.0, 4.0, 2.0, 7.0, 3.0]])
    close(metrics.mean_squared_correlation(a[:, :3]), 1 / 4)  # correlation 1/2; unit 1 is constant
    close(metrics.mean_squared_correlation(a), (1 / 4 + 1 / 4 + 1) / 3)
    assert np.isnan(metrics.mean_squared_correlation(a[:, :2])) and np.isnan(metrics.mean_squared_correlation(a[:, 1:2]))
    a = randn(9, 4)
    close(metrics.mean_squared_correlation(a), metrics.redundancy(a) / 12)


def test_near_copies_by_hand():
    a = tensor([[1.0, 1.0, 3.0, 5.0, 2.0, 7.0], [2.0, 3.0, 6.0, 5.0, 0.0, 7.0], [3.0, 2.0, 9.0, 5.0, -2.0, 7.0]])
    # Correlations: units 0 and 2 are copies, 4 is their mirror image, 1 is at 1/2 of both, 3 and 5 are constant.
    assert metrics.near_copies(a) == 2
    assert metrics.near_copies(a, threshold=0.4) == 3 and metrics.near_copies(a, threshold=0.6) == 2
    assert metrics.near_copies(a[:, [1, 3, 4, 5]]) == 0 and metrics.near_copies(a[:, :1]) == 0


@pytest.mark.parametrize("threshold, expected", [(0.9, 2), (0.7, 4), (0.999, 0)])
def test_near_copies_beside_numpy(threshold, expected, randn):
    shared, noise = randn(500, 2), randn(500, 4, seed=1)
    a = torch.cat([shared, shared], dim=1) + noise * tensor([0.1, 0.5, 0.1, 0.5])
    C = np.corrcoef(a.numpy(), rowvar=False) - np.diag([9] * 4)
    assert metrics.near_copies(a, threshold=threshold) == (C.max(axis=0) > threshold).sum() == expected


def test_near_copies_are_strictly_above_the_threshold(monkeypatch):
    monkeypatch.setattr(metrics, "correlation", lambda a, eps: tensor([[1.0, 0.9], [0.9, 1.0]]))
    assert metrics.near_copies(tensor([[0.0, 0.0], [1.0, 1.0]])) == 0


@pytest.mark.parametrize("threshold, expected", [(0.01, 1.0), (0.0, 1.5), (5.0, 0.0)])
def test_l0_counts_what_is_strictly_above_its_threshold(threshold, expected):
    a = tensor([[0.01, 0.0, 2.0], [0.0, -3.0, 0.0]])
    assert metrics.l0(a, threshold=threshold) == expected
    assert metrics.l0(tensor([[0.05, 0.009]])) == 1.0, "0.01 by default"


def test_mean_log_zero_units_by_hand():
    E = tensor([[0.0, 0.01, 0.011, 9.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])  # 2, 4, none
    close(metrics.mean_log_zero_units(E), (log(2) + log(4) + log(1)) / 3)
    close(metrics.mean_log_zero_units(E, threshold=2.0), (log(3) + log(4) + log(2)) / 3)


def test_scaled_energies_share_responsibility_among_the_zero_units(randn):
    E = randn(50, 6).relu()
    E = E[(E == 0).any(dim=1)] + (E[(E == 0).any(dim=1)] > 0) * 0.1
    close(metrics.responsibility_entropy(responsibilities(1e3 * E)), metrics.mean_log_zero_units(E))


# Responsibilities

@pytest.mark.parametrize("r, nats, largest", [
    ([[0.0, 1.0, 0.0, 0.0]], 0.0, 1.0), ([[0.25] * 4], log(4), 0.25),
    ([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], log(2) / 2, 0.75),
])
def test_winners_and_ties(r, nats, largest):
    close(metrics.responsibility_entropy(tensor(r)), nats)
    close(metrics.mean_max_responsibility(tensor(r)), largest)


def test_entropy_beside_scipy_and_usage_sums_to_one(randn):
    r = responsibilities(2 * randn(9, 4))
    close(metrics.responsibility_entropy(r), entropy(r.numpy(), axis=1).mean())
    close(metrics.feature_usage(r), r.numpy().mean(axis=0))
    close(metrics.feature_usage(r).sum(), 1)


# Reconstruction

def test_perfect_and_trivial_reconstructions(randn):
    x = randn(9, 4) + 3
    assert metrics.mse(x, x) == 0 and metrics.fvu(x, x) == 0
    close(metrics.fvu(x, x.mean(dim=0).expand_as(x)), 1)
    close(metrics.fvu(x, 2 * x.mean(dim=0) - x), 4)  # errors twice the deviations
    close(metrics.mse(x, torch.zeros_like(x)), x.square().mean())
    close(metrics.mse(tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[1.0, 0.0], [3.0, 3.0]])), 5 / 4)


def test_reconstruction_errors_beside_sklearn(randn):
    x, x_hat = randn(9, 4) * tensor([1.0, 2.0, 3.0, 4.0]) + 5, randn(9, 4, seed=1) + 5
    close(metrics.mse(x, x_hat), mean_squared_error(x, x_hat))
    close(metrics.fvu(x, x_hat), 1 - r2_score(x, x_hat, multioutput="variance_weighted"))
    close(metrics.fvu(10 * x, 10 * x_hat), metrics.fvu(x, x_hat))


def test_squares_of_float32_rows_add_up_in_float64():
    x = torch.tensor([[4096.0], [1.0]])
    assert metrics.mse(x, 0 * x) == (2**24 + 1) / 2, "2^24 + 1 is no float32"


def test_published_mse_beside_its_definition(randn):
    x, a, W = randn(9, 4), randn(9, 3, seed=1).relu(), randn(3, 4, seed=2)
    assert (a == 0).all(dim=1).any(), "the sample needs a zero code"
    x_hat = a.numpy() @ W.numpy()
    norm = np.linalg.norm(x_hat, axis=1, keepdims=True)
    x_hat = np.divide(x_hat, norm, out=np.zeros_like(x_hat), where=norm > 0)
    x_hat *= np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    close(metrics.published_mse(x, a, W), np.mean((x.numpy() - x_hat) ** 2))


def test_published_mse_judges_only_the_direction(randn):
    x, a, W = randn(9, 4), randn(9, 3, seed=1).abs(), randn(3, 4, seed=2)
    samples = torch.linspace(0.1, 7, 9).double()[:, None]
    close(metrics.published_mse(x, samples * a, 30 * W), metrics.published_mse(x, a, W))
    close(metrics.published_mse(7 * x, x, torch.eye(4).double()), 0)
    close(metrics.published_mse(x, -x, torch.eye(4).double()), 4 * x.square().mean())
    close(metrics.published_mse(x, torch.zeros_like(a), W), x.square().mean())


@pytest.mark.parametrize("case", ["full rank", "a dead unit", "duplicate units", "fewer samples than units"])
def test_least_squares_decoder_beside_sklearn(case, randn):
    a, x = randn(9, 4) + 2, randn(9, 3, seed=1) + 5
    if case == "a dead unit":
        a[:, 1] = 0
    if case == "duplicate units":
        a[:, 1] = 2 * a[:, 0]
    if case == "fewer samples than units":
        a, x = a[:3], x[:3]
    V, c = metrics.least_squares_decoder(a, x)
    reference = LinearRegression().fit(a, x)
    # Normal equations square the condition number, here below 1e3: 1e-16 * 1e6, and a margin.
    np.testing.assert_allclose(a @ V + c, reference.predict(a), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(V.T, reference.coef_, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(c, reference.intercept_, rtol=1e-7, atol=1e-7)


def test_least_squares_decoder_recovers_an_affine_map_and_keeps_the_dtype(randn):
    a, V, c = randn(9, 4), randn(4, 3, seed=1), randn(3, seed=2)
    found = metrics.least_squares_decoder(a.float(), (a @ V + c).float())
    assert {part.dtype for part in found} == {torch.float32}
    np.testing.assert_allclose(found[0], V, rtol=1e-4, atol=1e-5)  # float32 data, condition < 100
    np.testing.assert_allclose(found[1], c, rtol=1e-4, atol=1e-5)


def test_least_squares_decoder_of_many_samples_beside_numpy(randn):
    a, x = randn(9000, 4) + 2, randn(9000, 3, seed=1) + 5  # more than fit in one part, or in two
    x[5000:] += a[5000:] @ randn(4, 3, seed=2)
    reference = np.linalg.lstsq(np.column_stack([a, np.ones(9000)]), x, rcond=None)[0]
    # Condition number of the normal equations below 1e3, and sums of 9000.
    np.testing.assert_allclose(torch.cat([part.reshape(-1, 3) for part in metrics.least_squares_decoder(a, x)]),
                               reference, rtol=1e-9, atol=1e-9)


def test_moments_beside_numpy(randn):
    a, x = randn(9000, 4) + 2, randn(9000, 3, seed=1) + 5
    centred = a.numpy() - a.numpy().mean(axis=0)
    for found, expected in zip(metrics._moments(a.float(), x.float()), (
            a.numpy().mean(axis=0), x.numpy().mean(axis=0), centred.T @ centred, centred.T @ x.numpy())):
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-2)  # data rounded to float32, sums of 9000


@pytest.mark.parametrize("constant", [True, False])
def test_scaled_decoder_beside_numpy(constant, randn):
    a, x, W = randn(9, 4) + 2, randn(9, 3, seed=1) + 5, randn(4, 3, seed=2)
    regressors = (a @ W).reshape(-1, 1)  # one equation for each entry of each sample
    if constant:
        regressors = np.column_stack([regressors, np.tile(np.eye(3), (9, 1))])
    scale, *offset = np.linalg.lstsq(regressors, x.reshape(-1), rcond=None)[0]
    V, c = metrics.scaled_decoder(a, x, W, constant=constant)
    close(V, scale * W)
    close(c, offset if constant else [0, 0, 0])


def test_scaled_decoder_recovers_its_scale_and_keeps_the_dtype(randn):
    a, W, c = randn(9, 4) + 2, randn(4, 3, seed=1), randn(3, seed=2)
    found = metrics.scaled_decoder(a.float(), (0.3 * a @ W + c).float(), W.float(), constant=True)
    assert {part.dtype for part in found} == {torch.float32}
    np.testing.assert_allclose(found[0], 0.3 * W, rtol=1e-5)  # float32 data
    np.testing.assert_allclose(found[1], c, atol=1e-5)


# Probe

def test_probe_beside_sklearn(randn):
    a = randn(120, 4) * tensor([1.0, 100.0, 0.01, 1.0]) + 5
    y = (a[:, 2] + 0.005 * randn(120, seed=1) > 5).long() + (a[:, 0] > 5).long()
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(a[:80], y[:80])
    accuracy = metrics.linear_probe(a[:80], y[:80], a[80:], y[80:])
    assert accuracy == reference.score(a[80:], y[80:])
    assert 0.5 < accuracy < 1, "a case that is neither hopeless nor trivial"


def test_probe_standardises_by_the_training_set():
    y = (torch.arange(5000) >= 4096).long()  # the second class is in the second part of the codes only
    a_train = y[:, None].double() * 1e-4  # hopeless unless the codes are scaled up
    assert metrics.linear_probe(a_train, y, a_train, y) == 1
    assert metrics.linear_probe(a_train, y, a_train + 1.0, y) == 904 / 5000, "test codes far off all look alike"


# Messages and types

@pytest.mark.parametrize("name, letter", [
    ("dead_units", "a"), ("redundancy", "a"), ("near_copies", "a"),
    ("mean_squared_correlation", "a"), ("l0", "a"), ("mean_log_zero_units", "E"),
    ("responsibility_entropy", "r"), ("mean_max_responsibility", "r"), ("feature_usage", "r"),
])
def test_bad_codes_are_named(name, letter):
    metric = getattr(metrics, name)
    with pytest.raises(NonFiniteError, match=f"{letter} holds NaN"):
        metric(tensor([[nan, 1.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=f"{letter} needs at least 2 dimensions, got shape"):
        metric(torch.ones(3))
    with pytest.raises(ValueError, match=f"{letter} must be a float tensor, got torch.int64"):
        metric(torch.ones(3, 2, dtype=torch.int64))


@pytest.mark.parametrize("name", ["dead_units", "redundancy", "near_copies", "mean_squared_correlation"])
def test_one_sample_has_no_variance(name):
    with pytest.raises(ValueError, match=r"a needs at least 2 sample\(s\), got shape \(1, 2\)"):
        getattr(metrics, name)(torch.ones(1, 2))


def test_bad_reconstructions_are_named(randn):
    x, a, W = randn(4, 3), randn(4, 2), randn(2, 3)
    for metric in (metrics.mse, metrics.fvu):
        with pytest.raises(ValueError, match=r"x_hat must have width 3, got shape \(4, 2\)"):
            metric(x, a)
        with pytest.raises(NonFiniteError, match="x_hat holds NaN"):
            metric(x, x * nan)
        with pytest.raises(NonFiniteError, match="x holds NaN"):
            metric(x * nan, x)
    with pytest.raises(ValueError, match="x is constant, so its variance cannot be explained"):
        metrics.fvu(torch.ones(4, 3), x)
    with pytest.raises(ValueError, match=r"x needs at least 2 sample\(s\)"):
        metrics.fvu(x[:1], x[:1])
    with pytest.raises(ValueError, match=r"a must have width 2, got shape \(4, 3\)"):
        metrics.published_mse(x, x, W)
    with pytest.raises(NonFiniteError, match="a holds NaN"):
        metrics.least_squares_decoder(a * nan, x)
    with pytest.raises(NonFiniteError, match="x holds NaN"):
        metrics.least_squares_decoder(a, x * nan)
    with pytest.raises(ValueError, match=r"W must have width 3, got shape \(3, 2\)"):
        metrics.scaled_decoder(a, x, W.mT, constant=True)
    with pytest.raises(ValueError, match=r"a_test must have width 2, got shape \(4, 3\)"):
        metrics.linear_probe(a, torch.arange(4) % 2, x, torch.arange(4) % 2)


def test_results_are_python_numbers(randn):
    x, a, W = randn(9, 3), randn(9, 2).abs(), randn(2, 3)
    assert type(metrics.dead_units(a)) is int and type(metrics.near_copies(a)) is int
    for value in (metrics.redundancy(a), metrics.mean_squared_correlation(a), metrics.l0(a), metrics.mse(x, x), metrics.fvu(x, x),
                  metrics.published_mse(x, a, W), metrics.mean_log_zero_units(a),
                  metrics.responsibility_entropy(responsibilities(a)),
                  metrics.mean_max_responsibility(responsibilities(a))):
        assert type(value) is float
