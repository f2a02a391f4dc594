"""Who plays, and for what. A game owns the networks and says what each side wants; the trainer owns time."""

from gancli.games.acgan import ACGAN
from gancli.games.autoencoder import AEGAN, VAE, VAEGAN
from gancli.games.cyclegan import CycleGAN
from gancli.games.gan import GAN
from gancli.games.image_to_image import ImageToImage, ImageToImageGAN
from gancli.games.unrolled import Unrolled

__all__ = ["ACGAN", "AEGAN", "GAN", "VAE", "VAEGAN", "CycleGAN", "ImageToImage", "ImageToImageGAN", "Unrolled"]
