"""Content losses: the distance of generated images from the real ones that they should equal.

fake, real: (N, C, H, W) in [-1, 1]. Every loss is a scalar. A content loss is no part of G or D, so no optimizer and no
checkpoint holds its frozen weights.
"""

import contextlib
import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gancli.runtime.checks import check_choice
from gancli.runtime.files import typed_path
from gancli.runtime.text import one_line

LAYERS = {"22": 9, "54": 36}  # of VGG19: number of torchvision's layers, which are convolutions, ReLUs and poolings


class MSE(nn.MSELoss):
    """Mean squared error of values in [-1, 1]: Ledig et al. 2017, equation 4, https://arxiv.org/abs/1609.04802.

    It maximises PSNR. Its minimum is the mean of all sharp answers, which is blurred.
    """


class L1(nn.L1Loss):
    """Mean absolute error of values in [-1, 1]: Lim et al. 2017, section 4.2, https://arxiv.org/abs/1707.02921."""


class VGG(nn.Module):
    """Mean squared error of VGG19's features: Ledig et al. 2017, equation 5, https://arxiv.org/abs/1609.04802.

    The features are scaled by 1/12.75 (the loss by 0.006), so that the loss has about the size of MSE's. Departures
    from the paper: these weights were trained anew, on inputs normalised by ImageNet's mean and standard deviation; and
    the error is averaged over channels too, where the equation names only positions.

    Args:
        layer: "ij" for phi_ij, the ReLU of the j-th convolution before the i-th pooling: "22" responds to edges and
            colours, "54" to textures and parts.
        weights: torchvision's file; "" loads it through torchvision.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layer: str | int = "54", weights: str | Path = ""):
        super().__init__()
        from torchvision.models import VGG19_Weights, vgg19  # takes more than a second

        self.layer = check_choice("model.content.layer", str(layer), LAYERS)  # Hydra reads 22 as a number
        published = VGG19_Weights.IMAGENET1K_V1
        with torch.device("meta"):  # no memory and no random numbers for weights that are loaded below
            network = vgg19().features[: LAYERS[self.layer]]
        state = read_weights(weights, published) if weights else fetch_weights(published)
        state = {name: state[f"features.{name}"] for name in network.state_dict()}
        network.load_state_dict(state, assign=True)
        self.network = network.requires_grad_(False).eval()
        transform = published.transforms()
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(transform, name)).view(1, 3, 1, 1))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(real)
        return mse_loss(self.features(fake), wanted) / 12.75**2

    def features(self, x: Tensor) -> Tensor:
        """Return phi_ij of images (N, 1 or 3, H, W), unscaled; grey images count as colour."""
        least = 2 ** (int(self.layer[0]) - 1)  # each pooling before halves the size
        if min(x.shape[-2:]) < least:
            raise ValueError(
                f"model/content=vgg{self.layer} needs images of {least} pixels or more, but "
                f"data.size={min(x.shape[-2:])}; type data.size={least}, or model/content=mse"
            )
        return self.network(((x + 1) / 2 - self.mean) / self.std)  # a grey x is repeated by broadcasting


def hash_prefix(published: Any) -> str:
    """Return the beginning of the SHA-256 of torchvision's weights, which is part of their file name."""
    return Path(published.url).stem.rpartition("-")[2]


def read_weights(weights: str | Path, published: Any) -> dict[str, Tensor]:
    """Return torchvision's weights from a user's copy of the file, whose hash is checked."""
    path, prefix = typed_path(str(weights)), hash_prefix(published)
    instead = f"give torchvision's {Path(published.url).name}, or type model/content=mse, which needs no weights"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"model.content.weights={path} cannot be read ({error.strerror}); {instead}") from None
    if not digest.startswith(prefix):
        raise ValueError(
            f"model.content.weights={path} has a SHA-256 that begins with {digest[: len(prefix)]}, not with {prefix}; "
            f"{instead}"
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def fetch_weights(published: Any) -> dict[str, Tensor]:
    """Return the weights by torchvision's loader, from torch's cache or downloaded to it (548 MB)."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            return published.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # no network, wrong hash, damaged cache
        reason = one_line(error, 200)
        raise ValueError(
            f"VGG19's weights could not be had from torch's cache or {published.url} ({reason}); "
            f"type model.content.weights=FILE with that {Path(published.url).name}, or model/content=mse, which needs "
            "no weights"
        ) from error
