"""Sparse autoencoders with a decoder, to compare with; names as in SAELens.

Like the equations, the models work with leading dimensions in their parameters: a stack
of models (:func:`dfsae.training.stack`) has one loss per model.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from dfsae.encoder import energies, uniform_
from dfsae.objective import check_tensor, log_sum_exp


class SAETerms(NamedTuple):
    """Terms of an L1 sparse autoencoder's loss, each of shape ``(...)``."""

    mse: Tensor
    """Reconstruction error; its normalisation is the model's own."""
    l1: Tensor
    """Sparsity penalty, unweighted."""
    total: Tensor
    """mse + coefficient * l1."""


class ReconstructionTerms(NamedTuple):
    """Terms of :class:`ReconstructedEnergies`, summed over the batch, each of shape ``(...)``."""

    lse: Tensor
    """Eq. 1."""
    error: Tensor
    """Half the squared reconstruction error."""
    total: Tensor
    """Weighted sum."""


def squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """||x - x_hat||^2, summed over the batch: ``(B, D), (..., B, D) -> (...)``."""
    return mse_loss(x_hat, x.expand_as(x_hat), reduction="none").sum(dim=(-2, -1))


class PublishedSAE(nn.Module):
    """The "standard SAE" of the published Experiment 3, exactly, defects included.

    Untied weights, PyTorch's default initialisation, loss = mean over all entries of
    (x - x_hat)^2 + l1 * mean |a|. The decoder's norm is free, so the penalty can
    shrink at no cost by a -> a / c, W_dec -> c W_dec; many units never fire on MNIST.

    ``W_enc (d_in, d_sae), b_enc (d_sae,), W_dec (d_sae, d_in), b_dec (d_in,)``.
    """

    varied = ("l1",)

    def __init__(self, d_in: int, d_sae: int, *, seed: int, l1: float = 0.01,
                 dtype: torch.dtype = torch.float32):
        super().__init__()
        if not 0 <= l1 < float("inf"):
            raise ValueError(f"l1 must be finite and >= 0, got {l1}")
        generator = torch.Generator().manual_seed(seed)
        self.W_enc = uniform_((d_in, d_sae), d_in, generator, dtype)
        self.b_enc = uniform_((d_sae,), d_in, generator, dtype)
        self.W_dec = uniform_((d_sae, d_in), d_sae, generator, dtype)
        self.b_dec = uniform_((d_in,), d_sae, generator, dtype)
        self.l1 = l1

    @property
    def W(self) -> Tensor:
        """The encoder's rows in the paper's orientation, ``(K, D)``."""
        return self.W_enc.mT

    def encode(self, x: Tensor) -> Tensor:
        """relu(x W_enc + b_enc): ``(B, d_in) -> (B, d_sae)``."""
        return energies(x, self.W, self.b_enc)

    def decode(self, a: Tensor) -> Tensor:
        """a W_dec + b_dec: ``(B, d_sae) -> (B, d_in)``."""
        return a @ self.W_dec + self.b_dec[..., None, :]

    def loss(self, x: Tensor) -> SAETerms:
        """Mean squared error over all entries plus l1 times the mean activation."""
        a = self.encode(x)
        mse = squared_error(x, self.decode(a)) / x.shape[-2:].numel()
        l1 = a.mean(dim=(-2, -1))
        return SAETerms(mse, l1, mse + a.new_tensor(self.l1) * l1)

    @torch.no_grad()
    def start_tied(self, data_mean: Tensor) -> None:
        """Decoder rows of norm one, the encoder their transpose, the decoder's bias at ``data_mean (d_in,)``."""
        check_tensor("data_mean", data_mean, rank=1, width=len(self.b_dec))
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)
        self.W_enc.copy_(self.W_dec.mT)
        self.b_dec.copy_(data_mean)


class StandardSAE(PublishedSAE):
    """An L1 sparse autoencoder as the field trains it.

    The decoder bias, at the data mean to start with, is subtracted from the input
    (Bricken et al., 2023). The initialisation is tied, unit-norm decoder rows and the
    encoder their transpose, and the penalty weighted by norms (Conerly et al., 2024):
    loss = mean_i ||x_i - x_hat_i||^2 + l1 * mean_i sum_j a_ij ||W_dec_j||,
    which no rescaling of the decoder can evade.
    """

    def __init__(self, d_in: int, d_sae: int, *, seed: int, data_mean: Tensor, l1: float,
                 dtype: torch.dtype = torch.float32):
        super().__init__(d_in, d_sae, seed=seed, l1=l1, dtype=dtype)
        self.start_tied(data_mean)
        nn.init.zeros_(self.b_enc)

    def encode(self, x: Tensor) -> Tensor:
        """relu((x - b_dec) W_enc + b_enc): ``(B, d_in) -> (B, d_sae)``."""
        shift = (self.b_dec[..., None, :] @ self.W_enc).squeeze(-2)
        return energies(x, self.W, self.b_enc - shift)

    def loss(self, x: Tensor) -> SAETerms:
        """Squared error per sample plus l1 times the norm-weighted activation per sample."""
        a = self.encode(x)
        mse = squared_error(x, self.decode(a)) / x.shape[-2]
        l1 = (a.mean(dim=-2) * self.W_dec.norm(dim=-1)).sum(dim=-1)
        return SAETerms(mse, l1, mse + a.new_tensor(self.l1) * l1)


class ReconstructedEnergies(PublishedSAE):
    """Eq. 1 with reconstruction in place of the variance and decorrelation penalties.

    The codes are the energies, and loss = sum_i (lse * L_LSE(x_i) + ||x_i - x_hat_i||^2 / 2):
    the second term is the negative log-likelihood of a Gaussian of unit variance, up to a
    constant. Parameters are those of :class:`PublishedSAE`, with no L1 term, and so is
    their start; with ``data_mean (d_in,)`` it is that of :class:`StandardSAE`: tied
    weights, decoder rows of norm one, the decoder's bias at the mean and subtracted.
    """

    varied = ("lse",)

    def __init__(self, d_in: int, d_sae: int, *, seed: int, lse: float, data_mean: Tensor | None = None,
                 dtype: torch.dtype = torch.float32):
        super().__init__(d_in, d_sae, seed=seed, l1=0.0, dtype=dtype)
        if not 0 <= lse < float("inf"):
            raise ValueError(f"lse must be finite and >= 0, got {lse}")
        self.lse = lse
        if data_mean is not None:
            self.start_tied(data_mean)
            with torch.no_grad():
                self.b_enc.copy_(-data_mean @ self.W_enc)

    def loss(self, x: Tensor) -> ReconstructionTerms:
        """Both terms summed over the batch, as Eq. 1 is in training."""
        E = self.encode(x)
        lse = log_sum_exp(E).sum(dim=-1)
        error = squared_error(x, self.decode(E)) / 2
        return ReconstructionTerms(lse, error, E.new_tensor(self.lse) * lse + error)
