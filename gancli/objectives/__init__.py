"""Who plays, and for what. A objective owns the networks and says what each side wants; the trainer owns time."""

from gancli.objectives.acgan import ACGAN
from gancli.objectives.autoencoder import AEGAN, VAE, VAEGAN
from gancli.objectives.cyclegan import CycleGAN
from gancli.objectives.gan import GAN
from gancli.objectives.image_to_image import ImageToImage, ImageToImageGAN
from gancli.objectives.unrolled import Unrolled

__all__ = ["ACGAN", "AEGAN", "GAN", "VAE", "VAEGAN", "CycleGAN", "ImageToImage", "ImageToImageGAN", "Unrolled"]
