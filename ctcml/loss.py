"""What training minimises: reconstruction + beta x cross-entropy + an L2 penalty on the latents.

The paper writes the sum without naming its reductions. Our reading: the reconstruction error is SUMMED over the pixels of
an image, weighted a plane; beta times its cross-entropy and `latent_l2` times the sum of its squared latents are added; and
the mean is taken over the batch. With the sum, beta = 10 to 100 balances both parts; with a mean over pixels the
reconstruction would be worth a thousandth and every beta above 0 would mean "classifier only". The error itself is the
binary cross-entropy of each pixel, for which the sigmoid outputs were made, or the squared error.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

Reconstruction = Literal["bce", "sse"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The numbers of the loss of one phase; each method gives one value an image, (N,)."""

    reconstruction: Reconstruction
    beta: float
    latent_l2: float
    channel_weights: Tensor  # (3,)
    class_weights: Tensor  # (classes,)

    def rebuilding(self, logits: Tensor, x: Tensor) -> Tensor:
        """Decoder logits (N, 3, H, W) against the images they stand for, in 0..1."""
        if self.reconstruction == "bce":
            errors = binary_cross_entropy_with_logits(logits, x, reduction="none")
        else:
            errors = (logits.sigmoid() - x).square()
        return errors.sum((2, 3)) @ self.channel_weights

    def classifying(self, entropy: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropies (N,) of the labels (N,), weighted."""
        return self.beta * self.class_weights[targets] * entropy

    def settling(self, latent: Tensor) -> Tensor:
        """The penalty that keeps latents (N, 50) from running away."""
        return self.latent_l2 * latent.square().sum(1)
