"""The equations: by hand, beside NumPy and SciPy, under their own algebra, at their limits."""

from functools import partial
from math import exp, inf, log, nan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp, softmax
from torch.utils._python_dispatch import TorchDispatchMode

from dfsae.objective import (
    EPS, Lambdas, NonFiniteError, _DecorrelationPenalty, _DecorrelationPenaltyWide, all_finite, check_lambdas,
    check_tensor, correlation, decorrelation_penalty, energy_to_activation, log_det_volume, log_sum_exp, objective,
    responsibilities, variance_penalty, weight_penalty,
)

# Below 1e3 float64 operations, each good to 1e-16: a margin of 1e3 for another CPU.
close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
SQUARE = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]  # uncorrelated, variances 4/3
MIXED = Lambdas(lse=0.5, var=2.0, tc=3.0, wr=0.25)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def loss(E, W, lambdas=MIXED, reduction="sum", eps=EPS):
    return objective(E, W, lambdas=lambdas, reduction=reduction, eps=eps)


# By hand

@pytest.mark.parametrize("E, expected", [
    ([3.0, 3.0], 3 - log(2)), ([2.0], 2.0), ([0.0] * 4, -log(4)), ([0.0, log(3)], -log(4 / 3)),
])
def test_eq1_by_hand(E, expected):
    close(log_sum_exp(tensor(E)), expected)


@pytest.mark.parametrize("E, expected", [
    ([3.0, 3.0], [1 / 2, 1 / 2]), ([0.0, log(3)], [3 / 4, 1 / 4]), ([5.0], [1.0]),
])
def test_eq2_by_hand(E, expected):
    close(responsibilities(tensor(E)), expected)


@pytest.mark.parametrize("A, eps, expected", [
    ([[0.0, 0.0], [2.0, 4.0]], 0.0, -log(2 * 8)),  # variances 2 and 8: divided by B - 1
    ([[0.0, 0.0], [2.0, 4.0]], 1.0, -log(3 * 9)),
    ([[7.0, 7.0, 7.0]] * 5, 1e-6, -3 * log(1e-6)),  # collapsed: finite only because of eps
    ([[7.0], [7.0]], 0.0, inf),
])
def test_eq4_by_hand(A, eps, expected):
    close(variance_penalty(tensor(A), eps=eps), expected)


@pytest.mark.parametrize("A, eps, expected", [
    (SQUARE, 0.0, 0.0),
    ([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]], 0.0, 0.5),  # correlation 1/2, counted twice
    ([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]], 1.0, 0.125),  # eps = variance halves it
    ([[1.0, 2.0, -3.0], [2.0, 4.0, -6.0]], 0.0, 3 * 2),  # copies up to sign and scale: K (K - 1)
    ([[1.0, 5.0], [2.0, 5.0]], 1e-6, 0.0),  # a constant unit correlates with nothing
])
def test_eq5_by_hand(A, eps, expected):
    close(decorrelation_penalty(tensor(A), eps=eps), expected)


@pytest.mark.parametrize("A, eps, expected", [
    (SQUARE, 0.0, 2 * log(4 / 3)), (SQUARE, 1.0, 2 * log(7 / 3)),
    ([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]], 0.0, log(3 / 4)),  # det of [[1, 1/2], [1/2, 1]]
    ([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], 0.0, -inf),
])
def test_eq6_by_hand(A, eps, expected):
    close(log_det_volume(tensor(A), eps=eps), expected)


@pytest.mark.parametrize("W, expected", [
    ([[1.0, 0.0], [0.0, 1.0]], 0.0), ([[2.0, 0.0], [0.0, 2.0]], 18.0),
    ([[1.0, 0.0]], 1.0),  # K = 1 < D = 2: W W^T is the identity, W^T W is not
    ([[1.0], [1.0]], 1.0),  # K = 2 > D = 1
    ([[1.0, 1.0], [0.0, 0.0]], 2.0),
])
def test_eq8_by_hand(W, expected):
    close(weight_penalty(tensor(W)), expected)


def test_eq11_by_hand():
    close(energy_to_activation(tensor([[1.0, 3.0, 2.0], [0.0, 0.0, -4.0]])), [[2, 0, 1], [0, 0, 4]])


@pytest.mark.parametrize("lambdas", [Lambdas(), MIXED, Lambdas(0, 1, 1), Lambdas(0, 0, 0, 0)])
def test_eq7_by_hand(lambdas):
    E, W = tensor([[0.0, 0.0], [2.0, 4.0]]), 2 * torch.eye(2, dtype=torch.float64)
    by_hand = (-log(2) + 2 - log(1 + exp(-2)), -log(2 * 8), 2, 18 if lambdas.wr else 0)
    terms = loss(E, W, lambdas, eps=0.0)
    close(terms[:4], by_hand)
    close(terms.total, np.dot(lambdas, by_hand))


def test_the_paper_fixes_the_default_weights():
    assert Lambdas() == (1, 1, 1, 0) and EPS == 1e-6


# Beside independent implementations

@pytest.mark.parametrize("B, K", [(2, 1), (7, 3), (5, 9)])
def test_parity_with_numpy_and_scipy(B, K, randn):
    E, W, eps = 3 * randn(B, K) + 1, randn(K, 4, seed=1), 1e-3
    e, w = E.numpy(), W.numpy()
    off = ~np.eye(K, dtype=bool)
    shrunk = np.sqrt(np.var(e, axis=0, ddof=1) + eps)
    cov = np.atleast_2d(np.cov(e, rowvar=False))
    close(log_sum_exp(E), -logsumexp(-e, axis=1))
    close(responsibilities(E), softmax(-e, axis=1))
    close(variance_penalty(E, eps=eps), -np.log(np.var(e, axis=0, ddof=1) + eps).sum())
    close(correlation(E, eps=0.0), np.atleast_2d(np.corrcoef(e, rowvar=False)))
    close(correlation(E, eps=eps), cov / np.outer(shrunk, shrunk))
    close(decorrelation_penalty(E, eps=eps), ((cov / np.outer(shrunk, shrunk))[off] ** 2).sum())
    close(log_det_volume(E, eps=eps), np.linalg.slogdet(cov + eps * np.eye(K))[1])
    close(weight_penalty(W), np.linalg.norm(w.T @ w - np.eye(4), "fro") ** 2)
    close(energy_to_activation(E), e.max(axis=1, keepdims=True) - e)


# Gradients

@pytest.mark.parametrize("function", [
    log_sum_exp, responsibilities, partial(variance_penalty, eps=EPS), partial(correlation, eps=EPS),
    partial(decorrelation_penalty, eps=EPS), partial(log_det_volume, eps=0.1), weight_penalty,
    energy_to_activation,
    lambda E: loss(E, E, reduction="sum").total, lambda E: loss(E, E, reduction="mean").total,
])
@pytest.mark.parametrize("shape", [(5, 3), (4, 4), (2, 3, 5)])
def test_gradcheck(function, shape, randn):
    assert torch.autograd.gradcheck(function, randn(*shape).requires_grad_())


def test_eq2_is_the_gradient_of_eq1(randn):
    E = randn(6, 5).requires_grad_()
    log_sum_exp(E).sum().backward()
    close(E.grad, responsibilities(E.detach()))


def test_no_terms_still_have_a_gradient_of_zero(randn):
    E = randn(6, 3).requires_grad_()
    loss(E, randn(3, 2), Lambdas(0, 0, 0, 0)).total.backward()
    close(E.grad, 0)


def plain_eq1(E, eps):
    return -torch.log(torch.exp(-E).sum(dim=-1))


def plain_eq4(A, eps):
    return -torch.log(A.var(dim=-2, correction=1) + eps).sum(dim=-1)


def plain_eq5(A, eps):
    centred = A - A.mean(dim=-2, keepdim=True)
    Z = centred / (A.var(dim=-2, correction=1, keepdim=True) + eps).sqrt()
    C = torch.einsum("...bi,...bj->...ij", Z, Z) / (A.shape[-2] - 1)
    return (C * (1 - torch.eye(A.shape[-1], dtype=A.dtype))).square().sum(dim=(-2, -1))


@pytest.mark.parametrize("B, K", [(7, 3), (5, 5), (4, 9)])
@pytest.mark.parametrize("eps", [EPS, 0.3])
@pytest.mark.parametrize("function, plain", [
    (lambda E, eps: log_sum_exp(E), plain_eq1), (lambda A, eps: variance_penalty(A, eps=eps), plain_eq4),
    (_DecorrelationPenalty.apply, plain_eq5), (_DecorrelationPenaltyWide.apply, plain_eq5),
], ids=["eq1", "eq4", "eq5", "eq5 wide"])
def test_closed_forms_beside_autograd_of_the_formula(function, plain, eps, B, K, randn):
    A = randn(2, 3, B, K) + 1
    A[:, :2, :, 1] = 5.0  # a dead unit in some of the batches
    A.requires_grad_()
    value, expected = function(A, eps), plain(A, eps)
    close(value.detach(), expected.detach())
    upstream = randn(*value.shape, seed=1)  # another factor for every batch
    found, by_autograd = (torch.autograd.grad(result, A, upstream)[0] for result in (value, expected))
    close(found, by_autograd)


@pytest.mark.parametrize("B, K", [(50, 4), (4, 50), (10, 10)])
def test_eq5_forms_no_matrix_larger_than_the_batch(B, K, randn):
    class Sizes(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            self.largest = max(self.largest, result.numel() if isinstance(result, torch.Tensor) else 1)
            return result

    A = randn(B, K).requires_grad_()
    with Sizes() as sizes:
        decorrelation_penalty(A, eps=EPS).backward()
    assert sizes.largest == B * K


def test_the_second_derivative_of_eq1(randn):
    E = randn(2, 5)
    hessian = torch.autograd.functional.hessian(lambda E: log_sum_exp(E).sum(), E)
    for n, r in enumerate(softmax(-E.numpy(), axis=1)):
        close(hessian[n, :, n], np.outer(r, r) - np.diag(r))
        close(hessian[n, :, 1 - n], 0)


@pytest.mark.parametrize("function, K", [(variance_penalty, 3), (decorrelation_penalty, 3), (decorrelation_penalty, 9)])
def test_a_second_derivative_of_the_penalties_is_refused(function, K, randn):
    A = randn(5, K).requires_grad_()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(function(A, eps=EPS), A, create_graph=True)


@pytest.mark.parametrize("function", [
    partial(variance_penalty, eps=EPS), partial(decorrelation_penalty, eps=EPS), lambda E: loss(E, E).total])
def test_a_hessian_with_a_penalty_in_it_is_refused(function, randn):
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.functional.hessian(function, randn(5, 3))


# Properties

ENERGIES = arrays(float, st.tuples(st.integers(2, 6), st.integers(1, 5)),
                  elements=st.floats(-100, 100)).map(torch.from_numpy)
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.floats(0.01, 100) | st.floats(-100, -0.01)


def sample(seed, B=7, K=3):
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(ENERGIES, st.floats(-100, 100))
def test_a_shift_of_all_energies_moves_eq1_and_nothing_else(E, shift):
    close(log_sum_exp(E + shift), log_sum_exp(E) + shift)
    close(responsibilities(E + shift), responsibilities(E))
    close(energy_to_activation(E + shift), energy_to_activation(E))


@given(ENERGIES)
def test_eq1_lies_between_min_minus_log_K_and_min(E):
    low, L = E.amin(dim=1), log_sum_exp(E)
    assert (L <= low + 1e-10).all() and (L >= low - log(E.shape[1]) - 1e-10).all()


@given(ENERGIES)
def test_responsibilities_are_probabilities_that_favour_low_energy(E):
    r = responsibilities(E)
    assert (r >= 0).all()
    close(r.sum(dim=1), 1)
    close(r.amax(dim=1), r.gather(1, E.argmin(dim=1, keepdim=True))[:, 0])


@given(ENERGIES)
def test_eq11_gives_the_lowest_energy_the_highest_score_and_the_highest_none(E):
    s = energy_to_activation(E)
    close(s.amin(dim=1), 0)
    close(s.amax(dim=1), s.gather(1, E.argmin(dim=1, keepdim=True))[:, 0])


@given(SEEDS, SCALES)
def test_scale_laws(seed, c):
    A, K = sample(seed), 3
    close(variance_penalty(c * A, eps=0.0), variance_penalty(A, eps=0.0) - 2 * K * log(abs(c)))
    close(log_det_volume(c * A, eps=0.0), log_det_volume(A, eps=0.0) + 2 * K * log(abs(c)))
    close(variance_penalty(c * A, eps=c * c * EPS) + 2 * K * log(abs(c)), variance_penalty(A, eps=EPS))


@given(SEEDS, st.tuples(SCALES, SCALES, SCALES), st.permutations(range(3)))
def test_eq5_ignores_scale_sign_offset_and_order_of_units(seed, scales, order):
    A = sample(seed)
    changed = (A * tensor(scales) + 3.0)[:, order]
    # Scales differ by up to 1e4 and the offset costs up to 3 / 0.01: 1e-16 * 1e4 * 300.
    np.testing.assert_allclose(decorrelation_penalty(changed, eps=0.0),
                               decorrelation_penalty(A, eps=0.0), rtol=1e-8)


@given(SEEDS, st.integers(2, 6), st.integers(1, 5))
def test_bounds(seed, B, K):
    A = sample(seed, B, K)
    C = correlation(A, eps=0.0)
    close(C, C.T)
    close(C.diagonal(), 1)
    assert C.abs().max() <= 1 + 1e-10
    assert -1e-10 <= decorrelation_penalty(A, eps=EPS) <= K * (K - 1)
    assert decorrelation_penalty(A, eps=1.0) <= decorrelation_penalty(A, eps=0.0)
    # Hadamard: correlation only takes volume away, so Eq. 6 holds as an inequality.
    assert log_det_volume(A, eps=EPS) <= -variance_penalty(A, eps=EPS) + 1e-8
    # The rank of W^T W is at most K: the other D - K directions cost one each.
    assert weight_penalty(A.T[:, :K]) >= 0 and weight_penalty(A) >= K - B - 1e-10


@given(SEEDS)
def test_eq6_is_eq4_when_units_are_uncorrelated(seed):
    Q = torch.linalg.qr(sample(seed, 7, 4) + tensor([[3.0, 0, 0, 0]]))[0]
    A = (Q - Q.mean(dim=0))[:, :3]
    A = torch.linalg.qr(A)[0] * tensor([1.0, 2.0, 3.0])  # centred, orthogonal, unequal variances
    close(log_det_volume(A, eps=EPS), -variance_penalty(A, eps=EPS))


@given(SEEDS, st.tuples(*[st.floats(0, 100)] * 4))
def test_eq7_is_linear_in_its_weights(seed, weights):
    E, W = sample(seed), sample(seed + 1, 3, 4)
    every = loss(E, W, Lambdas(1, 1, 1, 1))
    close(loss(E, W, Lambdas(*weights)).total, sum(w * t for w, t in zip(weights, every[:4])))


@given(SEEDS, st.permutations(range(3)), st.permutations(range(7)))
def test_eq7_ignores_the_order_of_units_and_samples(seed, units, samples):
    E, W = sample(seed), sample(seed + 1, 3, 4)
    close(loss(E[samples][:, units], W[units]), loss(E, W))


# Limits

@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-6), (torch.float64, 1e-14)])  # ~10 ulp
def test_energies_of_ten_thousand(dtype, rtol):
    near = partial(np.testing.assert_allclose, rtol=rtol)
    E = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4] * 3], dtype=dtype, requires_grad=True)
    L = log_sum_exp(E)
    near(L.detach(), [-1e4, 1e4 - log(3), -1e4 - log(3)])
    near(responsibilities(E.detach()), [[0, 1, 0], [1 / 3] * 3, [1 / 3] * 3])
    near(energy_to_activation(E.detach())[0], [0, 2e4, 1e4])
    L.sum().backward()
    near(E.grad, responsibilities(E.detach()))
    A = (1e4 * torch.tensor(SQUARE, dtype=dtype)).requires_grad_()
    terms = objective(A, A, lambdas=Lambdas(0, 1, 1), reduction="sum", eps=EPS)
    near(terms.var.detach(), -2 * log(4e8 / 3))
    near(log_det_volume(A.detach(), eps=EPS), 2 * log(4e8 / 3))
    assert terms.tc.abs() <= 1e-12
    terms.total.backward()
    near(A.grad, -2 * A.detach() / 4e8, atol=1e-4 * rtol)  # -2 (A - mean) / ((B - 1) Var)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_offset_does_not_spoil_the_statistics(dtype):
    A = torch.tensor(SQUARE, dtype=dtype)[:3] * torch.tensor([2.0, 4.0], dtype=dtype)
    for function in (variance_penalty, decorrelation_penalty, log_det_volume):
        # Integers below 2^24 are exact; means of three are good to 1e4 * 2^-24.
        np.testing.assert_allclose(function(A + 1e4, eps=EPS), function(A, eps=EPS), rtol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype, randn):
    E, W = randn(6, 3, dtype=dtype), randn(3, 4, dtype=dtype)
    results = [log_sum_exp(E), responsibilities(E), correlation(E, eps=EPS), log_det_volume(E, eps=EPS),
               energy_to_activation(E), *loss(E, W)]
    assert {result.dtype for result in results} == {dtype}


def test_leading_dimensions_equal_a_loop(randn):
    E, W = randn(2, 4, 6, 3), randn(2, 4, 3, 5, seed=1)
    terms = loss(E, W)
    for at in np.ndindex(2, 4):
        close([term[at] for term in terms], loss(E[at], W[at]))
        for function in (log_sum_exp, responsibilities, energy_to_activation,
                         partial(correlation, eps=EPS), partial(log_det_volume, eps=EPS)):
            close(function(E)[at], function(E[at]))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_each_leading_index_may_have_weights_of_its_own(reduction, randn):
    sets = [Lambdas(1, 0, 0), MIXED, Lambdas(0, 1, 1), Lambdas(0, 0, 0, 0), Lambdas(wr=1.0)]
    E, W = randn(5, 6, 3).requires_grad_(), randn(5, 3, 4, seed=1).requires_grad_()
    terms = loss(E, W, sets, reduction)
    slopes = torch.autograd.grad(terms.total.sum(), (E, W))
    for m, lambdas in enumerate(sets):
        apart = [part[m].detach().requires_grad_() for part in (E, W)]
        alone = loss(*apart, lambdas, reduction)
        close([term[m].item() for term in terms], [term.item() for term in alone])
        for slope, expected in zip(slopes, torch.autograd.grad(alone.total, apart, materialize_grads=True)):
            close(slope[m], expected)


@pytest.mark.parametrize("lambdas", [Lambdas(2, 0, 0), [Lambdas(2, 0, 0), Lambdas(2, 0, 0, 1)]])
def test_terms_without_a_weight_may_be_infinite(lambdas, randn):
    E, W = randn(2, 6, 3), randn(2, 3, 4, seed=1)
    E[..., 1] = 5.0  # a constant unit, and no eps
    E.requires_grad_()
    terms = loss(E, W, lambdas, eps=0.0)
    assert terms.var.isposinf().all() and terms.tc.isnan().all()
    expected = 2 * log_sum_exp(E).sum(dim=1) + tensor([0, terms.wr[1].item()])
    close(terms.total.detach(), expected.detach())
    close(torch.autograd.grad(terms.total.sum(), E)[0], 2 * responsibilities(E.detach()))


@pytest.mark.parametrize("B", [2, 128])
def test_sum_is_B_times_mean_for_eq1_and_for_nothing_else(B, randn):
    E, W = randn(B, 3), randn(3, 4)
    by_sum, by_mean = loss(E, W, reduction="sum"), loss(E, W, reduction="mean")
    close(by_sum.lse, B * by_mean.lse)
    close(by_sum[1:4], by_mean[1:4])
    close(by_mean.lse, log_sum_exp(E).mean())
    close(by_sum.total - by_mean.total, MIXED.lse * (B - 1) * by_mean.lse)


def test_eps_reaches_both_penalties(randn):
    E, W = randn(6, 3), randn(3, 4)
    terms = loss(E, W, eps=0.5)
    close(terms.var, variance_penalty(E, eps=0.5))
    close(terms.tc, decorrelation_penalty(E, eps=0.5))


# Messages

TENSOR_FUNCTIONS = {
    "E": [log_sum_exp, responsibilities, energy_to_activation],
    "A": [partial(function, eps=EPS) for function in
          (variance_penalty, correlation, decorrelation_penalty, log_det_volume)],
    "W": [weight_penalty],
}
NAMED = [pytest.param(name, function, id=getattr(function, "func", function).__name__)
         for name, functions in TENSOR_FUNCTIONS.items() for function in functions]


@pytest.mark.parametrize("name, function", NAMED)
def test_bad_tensors_are_named(name, function):
    with pytest.raises(ValueError, match=f"{name} must be a float tensor, got torch.int64"):
        function(torch.ones(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"{name} must be a float tensor, got ndarray"):
        function(np.ones((3, 2)))
    for bad in (nan, inf, -inf):
        with pytest.raises(NonFiniteError, match=f"{name} holds NaN or infinite values; clean the data"):
            function(tensor([[1.0, 2.0], [bad, 3.0]]))
    needed = 1 if name == "E" else 2
    with pytest.raises(ValueError, match=rf"{name} needs at least {needed} dimensions, got shape \("):
        function(torch.ones((2,) * (needed - 1)))


@pytest.mark.parametrize("name, function", [case for case in NAMED if case.values[0] == "A"])
def test_a_batch_of_one_has_no_variance(name, function):
    with pytest.raises(ValueError, match=r"A needs at least 2 sample\(s\), got shape \(1, 3\)"):
        function(torch.ones(1, 3))


@pytest.mark.parametrize("values, finite", [
    ([1.0, -2.0], True), ([3e38, 3e38], True),  # finite, though their sum is not
    ([3e38, 3e38, -inf], False), ([1.0, nan], False), ([inf, 1.0], False), ([inf, -inf], False), ([-inf], False),
])
def test_all_finite(values, finite):
    assert all_finite(torch.tensor(values, dtype=torch.float32)) is finite


def test_check_tensor_returns_what_it_accepts_and_names_a_wrong_width():
    x = torch.ones(2, 3)
    assert check_tensor("x", x, width=3, rows=2) is x
    assert check_tensor("x", torch.ones(3), rank=1).shape == (3,)
    assert issubclass(NonFiniteError, ValueError)
    with pytest.raises(ValueError, match=r"x must have width 4, got shape \(2, 3\)"):
        check_tensor("x", x, width=4)
    with pytest.raises(ValueError, match=r"x must have width 2, got shape \(2, 3\)"):
        check_tensor("x", x, width=2)
    with pytest.raises(ValueError, match=r"x needs at least 1 sample\(s\), got shape \(0, 3\)"):
        check_tensor("x", torch.ones(0, 3))


@pytest.mark.parametrize("weight", [-1.0, -1e-9, nan, inf])
@pytest.mark.parametrize("name", Lambdas._fields)
def test_bad_weights_are_named(name, weight, randn):
    lambdas = Lambdas()._replace(**{name: weight})
    for call in (lambda: check_lambdas(lambdas), lambda: loss(randn(3, 2), randn(2, 2), lambdas)):
        with pytest.raises(ValueError, match=f"lambda_{name} must be finite and >= 0, got {weight}"):
            call()


@pytest.mark.parametrize("weight", [0, 1e-9, 1e9])
def test_weights_from_zero_up_are_accepted(weight):
    check_lambdas(Lambdas(weight, weight, weight, weight))


def test_unknown_reduction_is_named(randn):
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'avg'"):
        loss(randn(3, 2), randn(2, 2), reduction="avg")


def test_objective_refuses_a_batch_of_one_and_bad_energies(randn):
    with pytest.raises(ValueError, match="at least 2 sample"):
        loss(randn(1, 2), randn(2, 2))
    with pytest.raises(NonFiniteError, match="E holds NaN"):
        loss(randn(3, 2) * nan, randn(2, 2))
