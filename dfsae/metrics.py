"""Every metric of the book, defined once.

Codes ``a`` or energies ``E`` are ``(N, K)``, responsibilities ``r`` ``(N, K)``, inputs
``x`` and reconstructions ``x_hat`` ``(N, D)``; results are Python numbers unless said
otherwise. NaN, infinite or wrongly shaped input raises ``ValueError``.
"""

import torch
from sklearn.linear_model import LogisticRegression
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
    return _squared(x - x_hat) / x.numel()


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
    spread = _squared(x - x.mean(dim=0))
    if spread == 0:
        raise ValueError("x is constant, so its variance cannot be explained; fvu needs varying x")
    return _squared(x - x_hat) / spread


def _squared(error: Tensor) -> float:
    """Sum of squares: within a row in the precision of the data, over the rows in float64."""
    return float(torch.linalg.vector_norm(error, dim=-1).double().square().sum())


def least_squares_decoder(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The best affine decoder of x from codes a: V ``(K, D)`` and c ``(D,)`` with x ~ a V + c.

    The minimum-norm solution of the K x K normal equations in float64, so dead and
    duplicate units do no harm.
    """
    a_mean, x_mean, gram, cross = _moments(a, x)
    V = torch.linalg.pinv(gram, hermitian=True) @ cross
    return V.to(x.dtype), (x_mean - a_mean @ V).to(x.dtype)


def scaled_decoder(a: Tensor, x: Tensor, W: Tensor, *, constant: bool) -> tuple[Tensor, Tensor]:
    """The best multiple of a given decoder, and the best constant if asked for: V ``(K, D)``, c ``(D,)``.

    V = s W with the number s, and c (else 0), that minimise the squared error of x ~ a V + c.
    ``W (K, D)``.
    """
    check_tensor("W", W, width=x.shape[-1])
    a_mean, x_mean, gram, cross = _moments(a, x)
    if not constant:
        gram = gram + len(a) * a_mean.outer(a_mean)
        cross = cross + len(a) * a_mean.outer(x_mean)
    W64 = W.double()
    V = (cross * W64).sum() / ((gram @ W64) * W64).sum() * W64
    c = x_mean - a_mean @ V if constant else torch.zeros_like(x_mean)
    return V.to(x.dtype), c.to(x.dtype)


def _moments(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of a and x, and sums of products of the centred a with itself and with x, in float64."""
    check_tensor("a", a, rows=2)
    check_tensor("x", x, rows=2)
    # In parts, so that the float64 copies stay small.
    a_mean, x_mean = (sum(part.double().sum(dim=0) for part in whole.split(4096)) / len(whole) for whole in (a, x))
    gram, cross = 0.0, 0.0
    for a_part, x_part in zip(a.split(4096), x.split(4096), strict=True):
        centred = a_part.double() - a_mean
        gram = gram + centred.mT @ centred
        cross = cross + centred.mT @ x_part.double()
    return a_mean, x_mean, gram, cross


def linear_probe(a_train: Tensor, y_train: Tensor, a_test: Tensor, y_test: Tensor) -> float:
    """Test accuracy (0 to 1) of logistic regression on codes standardised by the training set."""
    check_tensor("a_train", a_train, rows=2)
    check_tensor("a_test", a_test, width=a_train.shape[-1])
    scaler = StandardScaler()
    for part in a_train.split(4096):  # in parts, because it makes a float64 copy
        scaler.partial_fit(part.cpu().numpy())
    probe = LogisticRegression(max_iter=5000).fit(scaler.transform(a_train.cpu().numpy()), y_train.cpu().numpy())
    return float(probe.score(scaler.transform(a_test.cpu().numpy()), y_test.cpu().numpy()))
