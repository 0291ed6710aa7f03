"""The objective of the paper, one pure function per numbered equation.

Shared signature. ``E`` holds energies and ``A`` activations, shape ``(..., B, K)``:
any leading dimensions, then B samples, then K components. Results keep the leading
dimensions. Every function works on float32 and float64 and on any device, is
differentiable, and raises ``ValueError`` when a tensor has the wrong rank or dtype,
holds NaN or infinity, or (where a variance is taken) has fewer than two samples.
Statistics over the batch are unbiased: they divide by B - 1.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

EPS = 1e-6
"""The constant that the published experiments add to each variance."""

Reduction = Literal["sum", "mean"]


class Lambdas(NamedTuple):
    """Weights of the four terms of the objective, all finite and >= 0."""

    lse: float = 1.0
    """Weight of Eq. 1; the paper fixes it to 1, and to 0 in configuration D."""
    var: float = 1.0
    """Weight of Eq. 4."""
    tc: float = 1.0
    """Weight of Eq. 5."""
    wr: float = 0.0
    """Weight of Eq. 8, which the paper treats as optional."""


class Terms(NamedTuple):
    """The terms of Eq. 7, unweighted, and their weighted sum; each of shape ``(...)``."""

    lse: Tensor
    """Eq. 1, reduced over the batch."""
    var: Tensor
    """Eq. 4."""
    tc: Tensor
    """Eq. 5."""
    wr: Tensor
    """Eq. 8."""
    total: Tensor
    """Eq. 7 (+ Eq. 8): what training minimises."""


class NonFiniteError(ValueError):
    """A tensor or a loss holds NaN or infinity."""


def all_finite(value: Tensor) -> bool:
    """Whether no entry is NaN or infinite."""
    # Both survive a sum, which is quicker than a look at every entry.
    return isfinite(value.detach().sum()) or bool(torch.isfinite(value).all())


def check_tensor(name: str, value: Tensor, *, rank: int = 2, width: int | None = None,
                 rows: int = 1) -> Tensor:
    """Return ``value`` if it is a finite float tensor ``(..., rows or more, width)``.

    Raises
    ------
    ValueError
        Naming what was given and what is expected; :class:`NonFiniteError`, a
        ``ValueError`` too, for NaN and infinity.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        given = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a float tensor, got {given}")
    if value.ndim < rank:
        raise ValueError(f"{name} needs at least {rank} dimensions, got shape {tuple(value.shape)}")
    if width is not None and value.shape[-1] != width:
        raise ValueError(f"{name} must have width {width}, got shape {tuple(value.shape)}")
    if rank > 1 and value.shape[-2] < rows:
        raise ValueError(f"{name} needs at least {rows} sample(s), got shape {tuple(value.shape)}")
    if not all_finite(value):
        raise NonFiniteError(f"{name} holds NaN or infinite values; clean the data before this call")
    return value


def log_sum_exp(E: Tensor) -> Tensor:
    """Eq. 1: L_LSE(x) = -log sum_j exp(-E_j(x)), per sample.

    ``(..., K) -> (...)``, in nats. Stable for any finite energies.
    """
    check_tensor("E", E, rank=1)
    return _LogSumExp.apply(E)


def responsibilities(E: Tensor) -> Tensor:
    """Eq. 2 and 10: r_j = exp(-E_j) / sum_k exp(-E_k), the softmax of -E.

    ``(..., K) -> (..., K)``; each row is a probability vector.
    """
    check_tensor("E", E, rank=1)
    return torch.softmax(-E, dim=-1)


def variance_penalty(A: Tensor, *, eps: float) -> Tensor:
    """Eq. 4: L_var = -sum_j log(Var(A_j) + eps); the paper writes it with eps = 0.

    ``(..., B, K) -> (...)``, in nats.
    """
    check_tensor("A", A, rows=2)
    return _VariancePenalty.apply(A, eps)


def correlation(A: Tensor, *, eps: float) -> Tensor:
    """Corr(A) of Eq. 5: Pearson correlations between components over the batch.

    ``(..., B, K) -> (..., K, K)``. Each variance gets ``eps`` added, so that a
    constant component correlates with nothing instead of giving 0 / 0.
    """
    check_tensor("A", A, rows=2)
    centred = A - A.mean(dim=-2, keepdim=True)
    Z = centred * torch.rsqrt(A.var(dim=-2, correction=1, keepdim=True) + eps)
    return Z.mT @ Z / (A.shape[-2] - 1)


def decorrelation_penalty(A: Tensor, *, eps: float) -> Tensor:
    """Eq. 5: L_tc = ||Corr(A) - I||_F^2.

    ``(..., B, K) -> (...)``. The diagonal of a correlation matrix is one by
    definition, so the sum runs over the off-diagonal entries, each pair twice.
    Costs 2 B K min(B, K) multiplications a training step: for K > B no K x K matrix
    is formed.
    """
    check_tensor("A", A, rows=2)
    return _decorrelation(A, eps)


def log_det_volume(A: Tensor, *, eps: float) -> Tensor:
    """Eq. 6, left-hand side: log det(Cov(A) + eps I), over the batch.

    ``(..., B, K) -> (...)``, in nats; -inf if the matrix is singular (always so
    for eps = 0 and K >= B). Equal to minus Eq. 4 only when Cov(A) is diagonal.
    """
    check_tensor("A", A, rows=2)
    centred = A - A.mean(dim=-2, keepdim=True)
    cov = centred.mT @ centred / (A.shape[-2] - 1)
    return torch.logdet(cov + eps * torch.eye(
        A.shape[-1], dtype=A.dtype, device=A.device))


def weight_penalty(W: Tensor) -> Tensor:
    """Eq. 8: ||W^T W - I_D||_F^2 of the weights W.

    ``(..., K, D) -> (...)``.
    """
    check_tensor("W", W)
    gram = W.mT @ W
    return (gram - torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
            ).square().sum(dim=(-2, -1))


def energy_to_activation(E: Tensor) -> Tensor:
    """Eq. 11: s = max_k E_k - E, per sample: the lowest energy becomes the highest score.

    ``(..., K) -> (..., K)``, every entry >= 0.
    """
    check_tensor("E", E, rank=1)
    return E.amax(dim=-1, keepdim=True) - E


def objective(E: Tensor, W: Tensor, *, lambdas: Lambdas | Sequence[Lambdas],
              reduction: Reduction, eps: float) -> Terms:
    """Eq. 7, with Eq. 8 where ``lambdas.wr`` > 0: the named terms and their weighted sum.

    Parameters
    ----------
    E : energies ``(..., B, K)``; they are also the activations A of Eq. 4 and 5.
    W : weights ``(..., K, D)``, used by Eq. 8 only.
    lambdas : the weights of the terms, or one set of weights per leading index of E.
    reduction : how Eq. 1 is reduced over the batch. The text of the paper does not
        say; its published code takes the "sum". Under the "mean" the first term
        weighs B times less against the other two, which are computed once a batch.
    eps : added to each variance.

    Raises ``ValueError`` for a negative or non-finite weight or an unknown reduction.
    """
    sets = [lambdas] if isinstance(lambdas, Lambdas) else lambdas
    for weights in sets:
        check_lambdas(weights)
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    check_tensor("E", E, rows=2)
    per_sample = _LogSumExp.apply(E)
    lse = per_sample.sum(dim=-1) if reduction == "sum" else per_sample.mean(dim=-1)
    var = _VariancePenalty.apply(E, eps)
    tc = _decorrelation(E, eps)
    # A term that has no weight anywhere is left out: it may be infinite.
    used = [number for number, column in enumerate(zip(*sets)) if any(column)]
    weights = E.new_tensor([[weights[number] for number in used] for weights in sets])
    if isinstance(lambdas, Lambdas):
        weights = weights[0]
    wr = (weight_penalty(W) * (weights[..., -1] > 0)
          if 3 in used else torch.zeros_like(var))
    terms = [(lse, var, tc, wr)[number] for number in used]
    total = (torch.stack(terms, dim=-1) * weights).sum(dim=-1) if terms else 0.0 * lse
    return Terms(lse, var, tc, wr, total)


def check_lambdas(lambdas: Lambdas) -> None:
    """Raise ``ValueError`` unless every weight is finite and >= 0."""
    for name, weight in lambdas._asdict().items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"lambda_{name} must be finite and >= 0, got {weight}")


# Closed-form gradients. Differentiating the formulas above step by step gives the same
# numbers, in about twice the time.

class _LogSumExp(Function):
    """Eq. 1; its gradient with respect to E_j is r_j (Eq. 10)."""

    @staticmethod
    def forward(ctx, E: Tensor) -> Tensor:
        lowest = E.amin(dim=-1, keepdim=True)
        r = torch.exp(lowest - E)
        total = r.sum(dim=-1, keepdim=True)
        ctx.save_for_backward(E, r.div_(total))
        return (lowest - total.log()).squeeze(-1)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        E, r = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            r = torch.softmax(-E, dim=-1)
        return g[..., None] * r


def _first_derivative_only() -> None:
    """Raise where a second derivative is asked for: the closed form of the first would pass for a constant."""
    if torch.is_grad_enabled():
        raise RuntimeError("Eq. 4 and 5 have first derivatives only; for a second one, "
                           "differentiate their formulas written with correlation() and var()")


class _VariancePenalty(Function):
    """Eq. 4; its gradient with respect to A_bj is -2 (A_bj - mean_j) / ((B - 1) (Var(A_j) + eps))."""

    @staticmethod
    def forward(ctx, A: Tensor, eps: float) -> Tensor:
        centred = A - A.mean(dim=-2, keepdim=True)
        variance = centred.square().sum(dim=-2) / (A.shape[-2] - 1) + eps
        ctx.save_for_backward(centred, variance)
        return -variance.log().sum(dim=-1)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        _first_derivative_only()
        centred, variance = ctx.saved_tensors
        slope = -2 / (centred.shape[-2] - 1) * g[..., None] / variance
        return centred * slope[..., None, :], None


def _decorrelation(A: Tensor, eps: float) -> Tensor:
    """Eq. 5 by the cheaper of two ways."""
    return (_DecorrelationPenalty if A.shape[-1] <= A.shape[-2] else _DecorrelationPenaltyWide).apply(A, eps)


class _DecorrelationPenalty(Function):
    """Eq. 5 for K <= B: with A centred, gradient 4 A S (F - diag(F F)) S.

    F = Corr(A) - I and S = diag(1 / sqrt((B - 1) (Var(A_j) + eps))).
    """

    @staticmethod
    def forward(ctx, A: Tensor, eps: float) -> Tensor:
        centred = A - A.mean(dim=-2, keepdim=True)
        F = centred.mT @ centred
        diagonal = F.diagonal(dim1=-2, dim2=-1)
        scale = (diagonal + (A.shape[-2] - 1) * eps).rsqrt()
        F.mul_(scale[..., :, None]).mul_(scale[..., None, :])
        diagonal.zero_()
        squares = F.square().sum(dim=-1)
        diagonal.copy_(-squares)
        ctx.save_for_backward(centred, F, scale)
        return squares.sum(dim=-1)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        _first_derivative_only()
        centred, F, scale = ctx.saved_tensors
        slope = F * scale[..., :, None] * (4 * g[..., None] * scale)[..., None, :]
        return (slope @ centred.mT).mT, None  # symmetric; and laid out in memory as the energies are


class _DecorrelationPenaltyWide(Function):
    """Eq. 5 for K > B, through Z Z^T in place of Z^T Z: the two have the same Frobenius norm.

    Z = A S with A centred and S as in :class:`_DecorrelationPenalty`. The entries of
    diag(Z^T Z) are not correlations of pairs, so their squares are taken off.
    """

    @staticmethod
    def forward(ctx, A: Tensor, eps: float) -> Tensor:
        Z = A - A.mean(dim=-2, keepdim=True)
        scale = (Z.square().sum(dim=-2) + (A.shape[-2] - 1) * eps).rsqrt()
        Z *= scale[..., None, :]
        G = Z @ Z.mT
        own = Z.square().sum(dim=-2)
        ctx.save_for_backward(Z, G, own, scale)
        return G.square().sum(dim=(-2, -1)) - own.square().sum(dim=-1)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        _first_derivative_only()
        Z, G, own, scale = ctx.saved_tensors
        ZF = (Z.mT @ G).mT
        ZF -= Z * own[..., None, :]
        ZF -= Z * (Z * ZF).sum(dim=-2, keepdim=True)
        return ZF.mul_((4 * g[..., None] * scale)[..., None, :]), None
