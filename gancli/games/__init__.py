"""Who plays, and for what. A game owns the networks and says what each side wants; the trainer owns time."""

from gancli.games.gan import GAN

__all__ = ["GAN"]
