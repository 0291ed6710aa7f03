"""How the scale of a layer moves under the paper's objective, and what its loss owes to it.

A ReLU unit is homogeneous in its parameters theta_j = (W_j, b_j): E_j(c theta_j) = c E_j(theta_j).
Eq. 4 then falls by 2 log c for every unit that is scaled by c, Eq. 5 does not change, and
the radial part of the gradient is known in closed form.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dfsae.objective import check_tensor, responsibilities


def squared_norms(W: Tensor, b: Tensor) -> Tensor:
    """||theta_j||^2 = ||w_j||^2 + b_j^2 of every unit: ``(K, D), (K,) -> (K,)``."""
    return W.square().sum(dim=-1) + b.square()


def scale_part(W: Tensor, b: Tensor) -> Tensor:
    """-sum_j log ||theta_j||^2: what Eq. 4 owes to the scale of the parameters alone; a scalar, in nats.

    The rest of Eq. 4 is its value for units of norm one.
    """
    return -squared_norms(W, b).log().sum()


def radial_pull(E: Tensor) -> Tensor:
    """R_j = sum_b r_bj E_bj: the rate at which Eq. 1, summed over the batch, shrinks each unit.

    ``(B, K) -> (K,)``. By Euler's theorem R_j = <theta_j, dL_LSE/dtheta_j>.
    """
    check_tensor("E", E)
    return (responsibilities(E) * E).sum(dim=-2)


def stop_epoch(losses: Sequence[float], *, change: float = 1.0, window: int = 5) -> int:
    """The published stopping rule: where the first ``window`` changes in a row are each below ``change``.

    The result is the index, from 0, of the first of these changes among all changes;
    ``len(losses)`` if there are none. Raises ``ValueError`` for a loss that is not finite.
    """
    if not all(map(math.isfinite, losses)):
        raise ValueError("losses must be finite")
    small = [abs(later - earlier) < change for earlier, later in zip(losses, losses[1:])]
    starts = (start for start in range(len(small) - window + 1) if all(small[start:start + window]))
    return next(starts, len(losses))
