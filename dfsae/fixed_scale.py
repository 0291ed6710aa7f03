"""The paper's encoder with the scale of its units fixed, so that its objective has minimisers."""

from torch import Tensor

from dfsae.encoder import DecoderFreeSAE, energies, reconstruct


class FixedScaleSAE(DecoderFreeSAE):
    """Eq. 9 with every row of the weights at norm ``radius``, whatever W is; trained by Eq. 7.

    The energies are radius * phi((w_j x + b_j) / ||w_j||), so for ReLU ``radius`` is the
    inverse temperature of Eq. 1, and Eq. 4 and 5 choose directions only. Further
    parameters as in :class:`dfsae.encoder.DecoderFreeSAE`. Raises ``ValueError`` unless
    ``radius`` is finite and > 0.
    """

    def __init__(self, D: int, K: int, *, radius: float, **options):
        super().__init__(D, K, **options)
        if not 0 < radius < float("inf"):
            raise ValueError(f"radius must be finite and > 0, got {radius}")
        self.radius = radius

    def scaled(self) -> tuple[Tensor, Tensor]:
        """The weights and biases that are in effect: ``(K, D)`` and ``(K,)``."""
        factor = self.radius / self.W.norm(dim=-1)
        return self.W * factor[..., None], self.b * factor

    def encode(self, x: Tensor) -> Tensor:
        """Energies of inputs x: ``(B, D) -> (B, K)``."""
        return energies(x, *self.scaled(), self.activation)

    def decode(self, a: Tensor) -> Tensor:
        """Eq. 12 with the weights in effect: ``(B, K) -> (B, D)``."""
        return reconstruct(a, self.scaled()[0])
