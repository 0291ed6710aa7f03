"""Every metric of the book, defined once.

Codes ``a`` or energies ``E`` are ``(N, K)``, responsibilities ``r`` ``(N, K)``, inputs
``x`` and reconstructions ``x_hat`` ``(N, D)``; results are Python numbers unless said
otherwise. NaN, infinite or wrongly shaped input raises ``ValueError``.
"""

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dfsae.objective import check_tensor, correlation


def dead_units(a: Tensor, *, threshold: float = 0.01) -> int:
    """Number of units whose variance over the samples is below ``threshold`` (published rule)."""
    check_tensor("a", a, rows=2)
    return int((a.var(dim=0, correction=1) < threshold).sum())


def redundancy(a: Tensor) -> float:
    """Sum of squared off-diagonal correlations (Eq. 5 with eps = 0), each pair twice.

    NaN if a unit is constant: its correlations are then not defined.
    """
    check_tensor("a", a, rows=2)
    squared = correlation(a, eps=0.0).square()
    return float(squared.sum() - squared.diagonal().sum())


def mean_squared_correlation(a: Tensor) -> float:
    """Mean squared correlation over the pairs of units that vary; NaN if fewer than two do.

    With all K units varying it is the redundancy divided by K (K - 1).
    """
    check_tensor("a", a, rows=2)
    varying = a[:, a.var(dim=0) > 0]
    n = varying.shape[1]
    return redundancy(varying) / (n * (n - 1)) if n > 1 else float("nan")


def near_copies(a: Tensor, *, threshold: float = 0.9) -> int:
    """Number of units that correlate above ``threshold`` with another one; a constant unit with none."""
    check_tensor("a", a, rows=2)
    others = correlation(a, eps=1e-12) - 2 * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return int((others.amax(dim=1) > threshold).sum())


def responsibility_entropy(r: Tensor) -> float:
    """Mean over samples of -sum_j r_j log r_j, in nats: 0 for a winner, log K for a tie of all."""
    check_tensor("r", r)
    return float(torch.special.entr(r).sum(dim=1).mean())


def mean_max_responsibility(r: Tensor) -> float:
    """Mean over samples of max_j r_j: 1 for a winner, 1 / K for a tie of all."""
    check_tensor("r", r)
    return float(r.amax(dim=1).mean())


def mean_log_zero_units(E: Tensor, *, threshold: float = 0.01) -> float:
    """Mean over samples of log n0, with n0 = max(1, number of units with E_j <= ``threshold``).

    The responsibility entropy of non-negative energies tends to it as they are scaled up.
    """
    check_tensor("E", E)
    return float((E <= threshold).sum(dim=1).clamp(min=1).double().log().mean())


def feature_usage(r: Tensor) -> Tensor:
    """Mean responsibility of each component, ``(K,)``; sums to one."""
    check_tensor("r", r)
    return r.mean(dim=0)


def l0(a: Tensor, *, threshold: float = 0.01) -> float:
    """Mean number of units per sample with |a_j| > ``threshold``.

    Under the energy convention pass E itself; under the activation convention pass
    s of Eq. 11. The two count different things: see Section 4.4 of the book.
    """
    check_tensor("a", a)
    return float((a.abs() > threshold).sum(dim=1).double().mean())


def mse(x: Tensor, x_hat: Tensor) -> float:
    """Mean over all N * D entries of (x - x_hat)^2."""
    check_tensor("x", x)
    check_tensor("x_hat", x_hat, width=x.shape[-1])
    return float((x - x_hat).double().square().mean())


def published_mse(x: Tensor, a: Tensor, W_dec: Tensor) -> float:
    """The "reconstruction MSE" of the published table: :func:`mse` after two rescalings.

    x_hat = a W_dec (no bias) is scaled, sample by sample, to the norm of x, which it
    takes from the answer. Only the direction of W^T a is judged; a norm of zero
    counts as x_hat = 0. ``W_dec (K, D)``.
    """
    check_tensor("a", a, width=W_dec.shape[0])
    direction = torch.nn.functional.normalize(a, dim=1) @ W_dec
    return mse(x, torch.nn.functional.normalize(direction, dim=1) * x.norm(dim=1, keepdim=True))


def fvu(x: Tensor, x_hat: Tensor) -> float:
    """Fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean(x)|^2 over all samples.

    0 for a perfect reconstruction, 1 for predicting the mean of ``x``.
    """
    check_tensor("x", x, rows=2)
    check_tensor("x_hat", x_hat, width=x.shape[-1])
    spread = (x - x.mean(dim=0)).double().square().sum()
    if spread == 0:
        raise ValueError("x is constant, so its variance cannot be explained; fvu needs varying x")
    return float((x - x_hat).double().square().sum() / spread)


def least_squares_decoder(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The best affine decoder of x from codes a: V ``(K, D)`` and c ``(D,)`` with x ~ a V + c.

    The minimum-norm solution of the K x K normal equations in float64, so dead and
    duplicate units do no harm.
    """
    check_tensor("a", a, rows=2)
    check_tensor("x", x, rows=2)
    a64, x64 = a.double(), x.double()
    a_mean, x_mean = a64.mean(dim=0), x64.mean(dim=0)
    centred = a64 - a_mean
    gram = centred.mT @ centred
    V = torch.linalg.pinv(gram, hermitian=True) @ (centred.mT @ x64)
    return V.to(x.dtype), (x_mean - a_mean @ V).to(x.dtype)


def linear_probe(a_train: Tensor, y_train: Tensor, a_test: Tensor, y_test: Tensor) -> float:
    """Test accuracy (0 to 1) of logistic regression on codes standardised by the training set."""
    check_tensor("a_train", a_train, rows=2)
    check_tensor("a_test", a_test, width=a_train.shape[-1])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    probe.fit(a_train.numpy(), y_train.numpy())
    return float(probe.score(a_test.numpy(), y_test.numpy()))
