"""What D and G minimise, as objects that see logits only; the sigmoid lives in the loss.

D(x) means sigmoid(logit). Losses take logits (N,) and return a scalar.
"""

from torch import Tensor
from torch.nn.functional import softplus


class NonSaturating:
    """The loss that trains: D minimises -log D(x) - log(1 - D(G(z))), G minimises -log D(G(z)).

    Goodfellow et al. 2014, equation 1 and the remark at the end of section 3, https://arxiv.org/abs/1406.2661.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        # -log sigmoid(t) = softplus(-t) and -log(1 - sigmoid(t)) = softplus(t), without overflow.
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return softplus(-fake).mean()


class Minimax(NonSaturating):
    """The textbook's game: as above for D, but G minimises log(1 - D(G(z))).

    Same equation 1, taken literally. While D wins, the slope is D(G(z)), next to nothing: G learns slowly or not at
    all. It is here so that the difference can be seen.
    """

    def generator(self, fake: Tensor) -> Tensor:
        return -softplus(fake).mean()
