"""The architecture of Section 4.3 and the implicit decoder of Section 4.5."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfsae.objective import EPS, Lambdas, Reduction, Terms, check_lambdas, check_tensor, objective

ACTIVATIONS = {"relu": torch.relu, "softplus": F.softplus, "identity": lambda z: z}


def check_activation(activation: str) -> None:
    """Raise ``ValueError`` unless Eq. 9 knows this activation."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")


def energies(x: Tensor, W: Tensor, b: Tensor,
             activation: str | Sequence[str] = "relu") -> Tensor:
    """Eq. 9: E = phi(W x + b).

    ``x (..., B, D), W (..., K, D), b (..., K) -> (..., B, K)``; ``activation`` is one
    name, or one per leading index of W. Raises ``ValueError`` for an unknown
    activation, a width of x other than D, or data that are not finite.
    """
    names = [activation] if isinstance(activation, str) else activation
    if not isinstance(activation, str) and len(names) != len(W):
        raise ValueError("give one activation, or one for each of "
                         f"{len(W)} models; got {len(names)}")
    for name in names:
        check_activation(name)
    check_tensor("x", x, width=W.shape[-1])
    # Samples are last in memory, where PyTorch sums over them fastest; those that all
    # models share enter one wide product.
    if x.ndim == 2:
        z = torch.addmm(b.reshape(-1, 1), W.reshape(-1, W.shape[-1]),
                        x.mT).reshape(*b.shape, -1)
    else:
        z = W @ x.mT + b[..., None]
    if len(set(names)) > 1:
        return torch.stack([ACTIVATIONS[name](part) for name, part
                            in zip(names, z, strict=True)]).mT
    return ACTIVATIONS[names[0]](z).mT


def reconstruct(a: Tensor, W: Tensor) -> Tensor:
    """Eq. 12: x_hat = W^T a. ``a (..., B, K), W (..., K, D) -> (..., B, D)``."""
    check_tensor("a", a, width=W.shape[-2])
    return a @ W


def uniform_(shape: tuple[int, ...], fan_in: int, generator: torch.Generator,
             dtype: torch.dtype) -> nn.Parameter:
    """PyTorch's default initialisation of ``nn.Linear``: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in ** -0.5
    values = torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(values)


class DecoderFreeSAE(nn.Module):
    """One linear layer and a nonlinearity (Eq. 9), trained by Eq. 7: no decoder.

    Parameters
    ----------
    D : input width
    K : number of units
    reduction : reduction of Eq. 1 over the batch; see :func:`dfsae.objective.objective`
    seed : of the initialisation
    lambdas : weights of the terms of Eq. 7
    activation : the function phi of Eq. 9, "relu", "softplus" or "identity"
    eps : constant added to each variance
    """

    varied = ("lambdas", "activation")
    """Settings in which the models of a stack may differ."""

    def __init__(self, D: int, K: int, *, reduction: Reduction, seed: int,
                 lambdas: Lambdas = Lambdas(), activation: str = "relu", eps: float = EPS,
                 dtype: torch.dtype = torch.float32):
        super().__init__()
        check_lambdas(lambdas)
        check_activation(activation)
        generator = torch.Generator().manual_seed(seed)
        self.W = uniform_((K, D), D, generator, dtype)
        self.b = uniform_((K,), D, generator, dtype)
        self.lambdas, self.reduction, self.activation, self.eps = lambdas, reduction, activation, eps

    def encode(self, x: Tensor) -> Tensor:
        """Energies E (Eq. 9) of inputs x: ``(B, D) -> (B, K)``."""
        return energies(x, self.W, self.b, self.activation)

    def decode(self, a: Tensor) -> Tensor:
        """The implicit decoder (Eq. 12): ``(B, K) -> (B, D)``."""
        return reconstruct(a, self.W)

    def loss(self, x: Tensor) -> Terms:
        """Eq. 7 on a batch x ``(B, D)``."""
        return objective(self.encode(x), self.W, lambdas=self.lambdas,
                         reduction=self.reduction, eps=self.eps)
