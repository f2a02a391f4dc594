"""Training objectives: which networks there are, and which loss each of them minimises."""

from gancli.objectives.acgan import ACGAN
from gancli.objectives.autoencoder import AEGAN, VAE, VAEGAN
from gancli.objectives.cyclegan import CycleGAN
from gancli.objectives.drifting import Drifting
from gancli.objectives.fastgan import FastGAN
from gancli.objectives.feature_matching import FeatureMatching
from gancli.objectives.gan import GAN
from gancli.objectives.image_to_image import ImageToImage, ImageToImageGAN
from gancli.objectives.unrolled import Unrolled

__all__ = ["ACGAN", "AEGAN", "GAN", "VAE", "VAEGAN", "CycleGAN", "Drifting", "FastGAN"]
__all__ += ["FeatureMatching", "ImageToImage", "ImageToImageGAN", "Unrolled"]
