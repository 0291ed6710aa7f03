"""Other controls of volume in place of Eq. 4 and 5: the exact log-determinant, and a hinge on the deviations."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import check_tensor, decorrelation_penalty, log_det_volume, log_sum_exp


class VolumeTerms(NamedTuple):
    """Terms of :class:`VolumeSAE`, unweighted, and their weighted sum; each of shape ``(...)``."""

    lse: Tensor
    """Eq. 1, summed over the batch."""
    volume: Tensor
    """What stands in the place of Eq. 4."""
    tc: Tensor
    """Eq. 5."""
    total: Tensor
    """lambda_lse * lse + lambda_var * volume + lambda_tc * tc."""


def log_det_penalty(A: Tensor, *, eps: float) -> Tensor:
    """Eq. 6 with its sign turned: -log det(Cov(A) + eps I), in float64.

    ``(..., B, K) -> (...)``, in nats. It is Eq. 4 minus log det Corr(A), so it holds a decorrelation penalty.
    """
    check_tensor("A", A, rows=2)
    return -log_det_volume(A.double(), eps=eps).to(A.dtype)


def hinge_penalty(A: Tensor, *, eps: float) -> Tensor:
    """The variance term of VICReg (Bardes et al., 2022): sum_j max(0, 1 - sqrt(Var(A_j) + eps)).

    ``(..., B, K) -> (...)``; a sum, as Eq. 4 is, where VICReg takes the mean over j. The gradient
    is not defined for a constant component with eps = 0.
    """
    check_tensor("A", A, rows=2)
    return torch.relu(1 - (A.var(dim=-2) + eps).sqrt()).sum(dim=-1)


VOLUMES: dict[str, Callable[..., Tensor]] = {"log-det": log_det_penalty, "hinge": hinge_penalty}


class VolumeSAE(FixedScaleSAE):
    """Eq. 9 trained by Eq. 1, a control of volume weighted by lambda_var, and Eq. 5.

    Parameters
    ----------
    volume : "log-det" or "hinge"
    radius : norm of the rows of the weights; None leaves it free
    options : of :class:`dfsae.encoder.DecoderFreeSAE`; the reduction must be "sum" and lambda_wr 0

    Raises
    ------
    ValueError
        For another volume or reduction, a weight on Eq. 8, or a radius that is not finite and > 0.
    """

    def __init__(self, D: int, K: int, *, volume: str, radius: float | None = None, **options):
        super().__init__(D, K, radius=1.0 if radius is None else radius, **options)
        if volume not in VOLUMES:
            raise ValueError(f"volume must be one of {sorted(VOLUMES)}, got {volume!r}")
        if self.reduction != "sum" or self.lambdas.wr:
            raise ValueError("VolumeSAE sums Eq. 1 over the batch and has no Eq. 8: "
                             "use reduction='sum' and lambdas with wr = 0")
        self.volume, self.free = volume, radius is None

    def scaled(self) -> tuple[Tensor, Tensor]:
        """The weights and biases that are in effect: ``(K, D)`` and ``(K,)``."""
        return (self.W, self.b) if self.free else super().scaled()

    def loss(self, x: Tensor) -> VolumeTerms:
        """The weighted sum on a batch x ``(B, D)``, with its terms."""
        E = self.encode(x)
        terms = (log_sum_exp(E).sum(dim=-1), VOLUMES[self.volume](E, eps=self.eps),
                 decorrelation_penalty(E, eps=self.eps))
        weights = E.new_tensor(self.lambdas)[..., :3]
        return VolumeTerms(*terms, (torch.stack(terms, dim=-1) * weights).sum(dim=-1))
