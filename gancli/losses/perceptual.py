"""How far a made image is from the one it should be, as objects: the term of an upscaler that knows the answer.

made, real: (N, C, H, W) in [-1, 1]. Every loss is a scalar. None of them is a module: what is frozen hangs outside the
players, so that no optimizer and no checkpoint ever holds it.
"""

import contextlib
import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

LAYERS = {"22": 9, "54": 36}  # of VGG19: how many of torchvision's layers, which are convolutions, ReLUs and poolings


class Content:
    """Called as content(made, real), it gives a scalar; `to` brings what it needs to the device."""

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        raise NotImplementedError

    def to(self, device: torch.device) -> Self:
        return self


class MSE(Content):
    """The mean squared difference of values in [-1, 1]: Ledig et al. 2017, equation 4, https://arxiv.org/abs/1609.04802.

    Its minimum is the mean of all sharp answers, the best PSNR there is, and soft.
    """

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        return mse_loss(made, real)


class L1(Content):
    """The mean absolute difference of values in [-1, 1]: Lim et al. 2017, section 4.2, https://arxiv.org/abs/1707.02921."""

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        return l1_loss(made, real)


class VGG(Content):
    """The mean squared difference of features of VGG19: Ledig et al. 2017, equation 5, https://arxiv.org/abs/1609.04802.

    layer: "ij" for phi_ij, what comes out of the j-th convolution and its ReLU before the i-th pooling: "22" sees edges
    and colours, "54" textures and parts. The features are scaled by 1/12.75, the loss by 0.006, which makes it about as
    large as MSE's. Grey is seen as colour.

    weights: torchvision's file, whose hash is checked; "" takes them from torchvision itself. Departures from the
    paper: these weights were trained anew, on inputs normalised by ImageNet's mean and standard deviation; the error
    is the mean over channels too, where the equation names only places.
    """

    def __init__(self, layer: str | int = "54", weights: str | Path = ""):
        from torchvision.models import VGG19_Weights, vgg19  # takes more than a second

        self.layer = str(layer)  # Hydra reads model.content.layer=22 as a number
        if self.layer not in LAYERS:
            raise ValueError(f"model.content.layer={layer} is not one of {', '.join(LAYERS)}; type model/content=vgg54")
        published = VGG19_Weights.IMAGENET1K_V1
        with torch.device("meta"):  # no memory and no chance spent on what the weights replace or nobody needs
            network = vgg19().features[: LAYERS[self.layer]]
        state = read(weights, published) if weights else fetch(published)
        state = {name: state[f"features.{name}"] for name in network.state_dict()}
        network.load_state_dict(state, assign=True)
        self._network = network.requires_grad_(False).eval()
        transform = published.transforms()
        self._mean, self._std = (torch.tensor(t).view(1, 3, 1, 1) for t in (transform.mean, transform.std))

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(real)
        return mse_loss(self.features(made), wanted) / 12.75**2

    def features(self, x: Tensor) -> Tensor:
        """phi_ij of images (N, 1 or 3, H, W), unscaled."""
        least = 2 ** (int(self.layer[0]) - 1)  # each pooling before halves the size
        if min(x.shape[-2:]) < least:
            raise ValueError(
                f"VGG{self.layer} sees images of {least} pixels or more, but data.size={min(x.shape[-2:])}; "
                f"type data.size={least}, or model/content=mse"
            )
        return self._network(((x + 1) / 2 - self._mean) / self._std)  # a grey x is repeated by broadcasting


def hash_prefix(published: Any) -> str:
    """How the SHA-256 of torchvision's published weights begins: it stands in their file's name."""
    return Path(published.url).stem.rpartition("-")[2]


def read(weights: str | Path, published: Any) -> dict[str, Tensor]:
    """A person's copy of torchvision's published weights; ValueError where it is none."""
    path, prefix = Path(str(weights)).expanduser(), hash_prefix(published)
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


def fetch(published: Any) -> dict[str, Tensor]:
    """The published weights by torchvision's own loader: from torch's cache, or downloaded to it, 548 MB."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it says there what it downloads; ours is for what a command made
            return published.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # no network, wrong hash, damaged cache
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"VGG19's weights could not be had from torch's cache or {published.url} ({reason}); "
            f"type model.content.weights=FILE with that {Path(published.url).name}, or model/content=mse, which needs "
            "no weights"
        ) from error
