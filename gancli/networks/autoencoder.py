"""Generators with an encoder.

G(z, c) is the decoder, and `encode(x, c)` returns latents. Both are parts of one G, so that one optimizer trains them,
one average is taken, and a checkpoint's G has both.
"""

from torch import Tensor, nn

from gancli.networks.likelihood import Likelihood


class Autoencoder(nn.Module):
    """Autoencoder whose latents pass batch norm without gain and bias.

    The norm gives every latent dimension the mean and variance of the noise, without a weight to choose.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.z_dim, self.classes = int(decoder.z_dim), int(decoder.classes)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm2d(self.z_dim, affine=False)

    def encode(self, x: Tensor, c: Tensor) -> Tensor:
        """Return latents (N, z_dim) of images x (N, C, H, H) in [-1, 1] of classes c (N, classes)."""
        return self.norm(self.encoder(x, c)[:, :, None, None]).flatten(1)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.decoder(z, c)


class VariationalAutoencoder(nn.Module):
    """VAE: q(z | x) = N(mean, variance) by the encoder, p(x | z) by the decoder and a likelihood, p(z) = N(0, I).

    Kingma and Welling 2014, https://arxiv.org/abs/1312.6114. The encoder returns 2 z_dim values: means and log
    variances. The decoder's `raw` is the input of the likelihood; G(z, c) is the mean image.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood):
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.z_dim, self.classes = int(decoder.z_dim), int(decoder.classes)  # type: ignore[arg-type]

    def posterior(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), (N, z_dim) each."""
        mean, log_variance = self.encoder(x, c).chunk(2, 1)
        # Variances from e^-15 to e^15 pass; beyond them an untrained layer would overflow.
        return mean, log_variance.clamp(-15, 15)

    def encode(self, x: Tensor, c: Tensor) -> Tensor:
        """Return the mean of q(z | x), (N, z_dim)."""
        return self.posterior(x, c)[0]

    def log_likelihood(self, x: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """Return log p(x | z), (N,), in nats."""
        return self.likelihood(self.decoder.raw(z, c), x)  # type: ignore[operator]

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.likelihood.image(self.decoder.raw(z, c))  # type: ignore[operator]
