"""Who plays, and for what. A game owns the networks and says what each side wants; the trainer owns time."""

from gancli.games.acgan import ACGAN
from gancli.games.gan import GAN
from gancli.games.srgan import SRGAN, SuperResolution
from gancli.games.unrolled import Unrolled

__all__ = ["ACGAN", "GAN", "SRGAN", "SuperResolution", "Unrolled"]
