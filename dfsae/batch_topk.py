"""A sparse autoencoder that keeps the largest activations of a batch."""

import torch
from torch import Tensor

from dfsae.baselines import SAETerms, StandardSAE, squared_error


class BatchTopKSAE(StandardSAE):
    """A sparse autoencoder that keeps the B k largest activations of a batch of B (Bussmann et al., 2024).

    Inputs may use different numbers of units, k on average. To encode, an activation is kept
    if it is above :attr:`threshold`, which :meth:`calibrate` sets after training. Loss, start and
    further arguments as in :class:`dfsae.autoencoders.TopKSAE`. Raises ``ValueError`` unless
    1 <= k <= d_sae.
    """

    def __init__(self, d_in: int, d_sae: int, *, k: int, **options):
        super().__init__(d_in, d_sae, l1=0.0, **options)
        if not 1 <= k <= d_sae:
            raise ValueError(f"k must be from 1 to d_sae = {d_sae}, got {k}")
        self.k, self.threshold = k, 0.0

    def keep_largest(self, a: Tensor) -> Tensor:
        """The B k largest entries of ``(..., B, K)``, zero elsewhere."""
        flat = a.flatten(-2)
        largest, places = flat.topk(self.k * a.shape[-2], dim=-1)
        return torch.zeros_like(flat).scatter(-1, places, largest).reshape(a.shape)

    def loss(self, x: Tensor) -> SAETerms:
        """Squared error per sample of the reconstruction from the largest activations of the batch."""
        mse = squared_error(x, self.decode(self.keep_largest(super().encode(x)))) / x.shape[-2]
        return SAETerms(mse, torch.zeros_like(mse), mse)

    @torch.no_grad()
    def calibrate(self, x: Tensor, *, batch_size: int = 512) -> None:
        """Set the threshold to the mean, over whole batches of x ``(N, D)``, of the smallest activation that is kept."""
        kept = [self.keep_largest(super(BatchTopKSAE, self).encode(part)) for part in x.split(batch_size) if len(part) == batch_size]
        if not kept:
            raise ValueError(f"calibrate needs {batch_size} samples or more, got {len(x)}")
        self.threshold = sum(float(a[a > 0].min()) for a in kept) / len(kept)

    def encode(self, x: Tensor) -> Tensor:
        """Activations above the threshold, zero elsewhere: ``(B, d_in) -> (B, d_sae)``."""
        a = super().encode(x)
        return a * (a > self.threshold)
