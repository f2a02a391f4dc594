"""What D and G minimise, as objects that see D's outputs only; the sigmoid, where there is one, lives in the loss.

real, fake: D's outputs (N,) on real and on generated images. Every loss is a scalar.
"""

from torch import Tensor
from torch.nn.functional import relu, softplus


class Loss:
    """`discriminator` is what D minimises, `generator` what G does, `watch` what a person wants to see of D.

    threshold: the output above which D says "real"; None where only differences of outputs mean anything.
    paired: G's loss too looks at D's outputs on real images; they are None for the others.
    """

    threshold: float | None = 0.0
    paired = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        raise NotImplementedError

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """How real D finds either side, 0 to 1: here the share of images that it takes for real."""
        assert self.threshold is not None
        return {f"D({name})": (seen > self.threshold).float().mean() for name, seen in (("real", real), ("fake", fake))}


class NonSaturating(Loss):
    """The loss that trains: D minimises -log D(x) - log(1 - D(G(z))), G minimises -log D(G(z)).

    D(x) means sigmoid(output). Goodfellow et al. 2014, equation 1 and the remark at the end of section 3,
    https://arxiv.org/abs/1406.2661.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        # -log sigmoid(t) = softplus(-t) and -log(1 - sigmoid(t)) = softplus(t), without overflow.
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()

    def watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"D(real)": real.sigmoid().mean(), "D(fake)": fake.sigmoid().mean()}


class Minimax(NonSaturating):
    """The textbook's objective: as above for D, but G minimises log(1 - D(G(z))).

    Same equation 1, taken literally. While D wins, the slope is D(G(z)), next to nothing: G learns slowly or not at
    all. It is here so that the difference can be seen.
    """

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -softplus(fake).mean()


class LeastSquares(Loss):
    """D regresses real images to 1 and generated ones to 0, G its images to 1: far from the border still a slope.

    Mao et al. 2017, equation 9, https://arxiv.org/abs/1611.04076.
    """

    threshold = 0.5

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * ((fake - 1) ** 2).mean()


class Hinge(Loss):
    """D wants real images above 1 and generated ones below -1 and rests there; G raises D's output without end.

    Lim and Ye 2017, https://arxiv.org/abs/1705.02894; as in Miyato et al. 2018, equations 16 and 17,
    https://arxiv.org/abs/1802.05957.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Wasserstein(Loss):
    """D is a critic: minus its loss estimates the earth mover's distance, if a penalty keeps D about 1-Lipschitz.

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
    """Each generated image against one real image: D wants the real one's output above, G its own.

    A generated mode is judged against the data near it, so there is no border to crowd at: the loss has no local
    optimum where modes are dropped. Jolicoeur-Martineau 2019, https://arxiv.org/abs/1807.00734, paired as in Huang et
    al. 2024, equation 2, https://arxiv.org/abs/2501.05441. It converges with R1 and R2 (model/penalty=r1_r2).
    """

    threshold = None
    paired = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None, "a paired loss is given D's outputs on real images"
        return softplus(real - fake).mean()

    def watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"D(real over fake)": (real - fake).sigmoid().mean()}
