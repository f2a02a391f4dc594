"""Adversarial losses of D's logits.

real, fake: logits for real and for generated images, (N,) or (N, H', W') of patches. Every loss is a scalar. D has no
sigmoid; a loss that needs one contains it.
"""

from torch import Tensor
from torch.nn.functional import relu, softplus


class Loss:
    """Losses of D and of G, and what the log shows of D.

    Attributes:
        threshold: Logit above which D takes an image for real; None where only differences of logits have a meaning.
        paired: True if G's loss needs the logits for real images; they are None for the others.
    """

    threshold: float | None = 0.0
    paired = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        raise NotImplementedError

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return values from 0 to 1 for the log, here the fraction of images that D takes for real."""
        assert self.threshold is not None
        logits = {"real": real, "fake": fake}
        return {f"D({name})": (values > self.threshold).float().mean() for name, values in logits.items()}


class NonSaturating(Loss):
    """D minimises -log D(x) - log(1 - D(G(z))), G minimises -log D(G(z)), with D(x) = sigmoid(logit).

    Goodfellow et al. 2014, equation 1 and the remark at the end of section 3, https://arxiv.org/abs/1406.2661.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        # -log sigmoid(t) = softplus(-t) and -log(1 - sigmoid(t)) = softplus(t), without overflow.
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()

    def watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"D(real)": real.sigmoid().mean(), "D(fake)": fake.sigmoid().mean()}


class Minimax(NonSaturating):
    """Loss of equation 1, taken literally: D as in NonSaturating, but G minimises log(1 - D(G(z))).

    While D is winning, the gradient D(G(z)) is almost zero, and G learns slowly or not at all. The loss is here to show
    this.
    """

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -softplus(fake).mean()


class LeastSquares(Loss):
    """Regression: D's targets are 1 for real and 0 for generated images, G's is 1. The gradient does not saturate.

    Mao et al. 2017, equation 9, https://arxiv.org/abs/1611.04076.
    """

    threshold = 0.5

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * ((fake - 1) ** 2).mean()


class Hinge(Loss):
    """D minimises max(0, 1 - real) + max(0, 1 + fake), G minimises -fake.

    Lim and Ye 2017, https://arxiv.org/abs/1705.02894; as in Miyato et al. 2018, equations 16 and 17,
    https://arxiv.org/abs/1802.05957.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Wasserstein(Loss):
    """D is a critic. Its negative loss estimates the earth mover's distance, if a penalty keeps D nearly 1-Lipschitz.

    Arjovsky et al. 2017, equation 2, https://arxiv.org/abs/1701.07875.
    """

    threshold = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()

    def watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {}


class Relativistic(Loss):
    """Each generated image is compared with one real image: D raises real - fake, G lowers it.

    The loss has no local minimum where modes are dropped. It converges with R1 and R2 (model/penalty=r1_r2).
    Jolicoeur-Martineau 2019, https://arxiv.org/abs/1807.00734; paired as in Huang et al. 2024, equation 2,
    https://arxiv.org/abs/2501.05441.
    """

    threshold = None
    paired = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None, "a paired loss needs the logits for real images"
        return softplus(real - fake).mean()

    def watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"D(real over fake)": (real - fake).sigmoid().mean()}
