"""Energies with a normaliser beside scikit-learn's mixture, and EM beside gradients."""

from functools import partial
from math import inf, log, nan, pi

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from dfsae.mixture import em_step, gaussian_energies, linear_form
from dfsae.objective import log_sum_exp, responsibilities

close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)  # float64, a few hundred terms


@pytest.fixture
def problem(randn):
    return randn(40, 5), randn(3, 5), 0.7


def reference(mu, s):
    """scikit-learn's mixture with these centres, equal weights and covariance s^2 I."""
    mixture = GaussianMixture(len(mu), covariance_type="spherical")
    mixture.weights_, mixture.means_ = np.full(len(mu), 1 / len(mu)), mu.numpy()
    mixture.covariances_ = np.full(len(mu), s ** 2)
    mixture.precisions_cholesky_ = np.full(len(mu), 1 / s)
    return mixture


def test_energies_by_hand():
    found = gaussian_energies(torch.tensor([[3.0, 0.0]]).double(), torch.tensor([[0.0, 4.0], [3.0, 2.0]]).double(), 2.0)
    close(found, [[25 / 8 + log(8 * pi) + log(2), 4 / 8 + log(8 * pi) + log(2)]])


def test_eq1_is_the_negative_log_likelihood_and_eq2_the_posterior(problem):
    x, mu, s = problem
    E, mixture = gaussian_energies(x, mu, s), reference(mu, s)
    close(log_sum_exp(E), -mixture.score_samples(x.numpy()))
    close(responsibilities(E), mixture.predict_proba(x.numpy()))


def test_the_linear_form_has_the_same_responsibilities(problem):
    x, mu, s = problem
    W, b = linear_form(mu, s)
    close(responsibilities(x @ W.T + b), responsibilities(gaussian_energies(x, mu, s)))
    close(b, s ** 2 * W.square().sum(dim=1) / 2)


def test_an_em_step_is_a_gradient_step_of_its_own_size_for_each_component(problem):
    x, mu, s = problem
    moved = mu.clone().requires_grad_()
    E = gaussian_energies(x, moved, s)
    slope, = torch.autograd.grad(log_sum_exp(E).sum(), moved)
    size = s ** 2 / responsibilities(E).sum(dim=0).detach()
    step = em_step(x, mu, s)
    close(step.mu, mu - size[:, None] * slope)
    close(step.lse, log_sum_exp(E).mean().item())
    assert em_step(x, step.mu, s).lse < step.lse and em_step(x, step.mu, step.s).lse < step.lse


def test_the_scale_is_the_mean_squared_distance_to_the_new_centres(problem):
    x, mu, s = problem
    r, step = responsibilities(gaussian_energies(x, mu, s)), em_step(x, mu, s)
    distances = ((x[:, None] - step.mu) ** 2).sum(dim=2)
    close(step.s, np.sqrt((r * distances).sum().item() / 40 / 5))


def test_a_component_without_responsibility_stays(randn):
    x, mu = randn(10, 2), torch.tensor([[0.0, 0.0], [1e6, 0.0]], dtype=torch.float64)
    found = em_step(x, mu, 0.1).mu
    assert torch.equal(found[1], mu[1]) and torch.isfinite(found).all()
    close(found[0], x.mean(dim=0))


def test_a_component_with_less_than_a_normal_number_stays():
    x, mu = torch.zeros(1, 1).double(), torch.tensor([[0.0], [1440 ** 0.5]], dtype=torch.float64)
    assert 0 < responsibilities(gaussian_energies(x, mu, 1.0))[0, 1] < torch.finfo(torch.float64).tiny  # e^-720
    assert torch.equal(em_step(x, mu, 1.0).mu, mu)


@pytest.mark.parametrize("seed", range(10))
def test_a_scale_of_zero_is_not_rounded_to_the_root_of_a_negative_number(seed):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert 0 <= em_step(x, x, 0.01).s < 1e-6


@pytest.mark.parametrize("s", [0.0, -1.0, inf, nan])
def test_a_bad_s_is_named(s, randn):
    with pytest.raises(ValueError, match="s must be finite and > 0, got"):
        gaussian_energies(randn(4, 3), randn(2, 3), s)


@pytest.mark.parametrize("x, message", [(torch.ones(4, 2), "x must have width 3"), (torch.full((4, 3), nan), "x holds NaN")])
def test_bad_data_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        em_step(x, torch.ones(2, 3), 1.0)
