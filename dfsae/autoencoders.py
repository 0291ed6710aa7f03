"""Two more sparse autoencoders: with tied weights, and with the k largest activations."""

import torch
from torch import Tensor

from dfsae.baselines import StandardSAE
from dfsae.encoder import energies


class TiedSAE(StandardSAE):
    """The L1 sparse autoencoder whose encoder is its decoder transposed; half the weights.

    ``W_dec (d_sae, d_in), b_enc (d_sae,), b_dec (d_in,)``; start, loss and arguments of
    :class:`dfsae.baselines.StandardSAE`.
    """

    def __init__(self, d_in: int, d_sae: int, **options):
        super().__init__(d_in, d_sae, **options)
        del self.W_enc

    @property
    def W(self) -> Tensor:
        """The rows that encode and decode, ``(K, D)``."""
        return self.W_dec

    def encode(self, x: Tensor) -> Tensor:
        """relu(W_dec (x - b_dec) + b_enc): ``(B, d_in) -> (B, d_sae)``."""
        shift = (self.W_dec @ self.b_dec[..., None]).squeeze(-1)
        return energies(x, self.W_dec, self.b_enc - shift)


class TopKSAE(StandardSAE):
    """A sparse autoencoder that keeps the k largest activations of an input (Gao et al., 2024).

    loss = mean_i ||x_i - x_hat_i||^2, with no penalty; start and further arguments of
    :class:`dfsae.baselines.StandardSAE`. Raises ``ValueError`` unless 1 <= k <= d_sae.
    """

    def __init__(self, d_in: int, d_sae: int, *, k: int, **options):
        super().__init__(d_in, d_sae, l1=0.0, **options)
        if not 1 <= k <= d_sae:
            raise ValueError(f"k must be from 1 to d_sae = {d_sae}, got {k}")
        self.k = k

    def encode(self, x: Tensor) -> Tensor:
        """The k largest of relu((x - b_dec) W_enc + b_enc), zero elsewhere: ``(B, d_in) -> (B, d_sae)``."""
        a = super().encode(x)
        largest, units = a.topk(self.k, dim=-1)
        return torch.zeros_like(a).scatter(-1, units, largest)
