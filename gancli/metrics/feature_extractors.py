"""What scores see of images: the features of a frozen network, and its logits. Which network is a part of the score.

    see = extractor("cifar")             # or "mnist"; both came along. inception() is what other people's scores use
    features, logits = see(images)       # (N, 128) and (N, 10) of images of any size, grey or colour
    see.protocol(channels=3, size=64)    # which network, and what became of such images before it saw them

The numbers of two networks, or of one after two ways of resizing, are no more comparable than metres and feet: so each
goes by the network's name, with its protocol beside it.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gancli.checkpoint.rebuild import restore
from gancli.config import nearest
from gancli.data.builtin import CIFAR10, DIGITS
from gancli.data.dataset import ImageDataset
from gancli.images import to_float, to_uint8
from gancli.networks.classifier import Classifier
from gancli.runtime.text import one_line

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
BUNDLED = {"mnist": 1, "cifar": 3}  # and the channels each is for
CLASSES = {"mnist": DIGITS, "cifar": CIFAR10}
CHUNK = 64  # images seen at a time: a processor's caches hold their maps, and of Inception they take 1 GB
# Of the weights that torch-fidelity downloads, and pytorch-fid too: TensorFlow's own of 2015-12-05, which FID is by.
INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class FeatureExtractor:
    """A frozen network that is shown images as it knows them.

    name, hash: which one; the hash is the first 12 hexadecimal digits of the SHA-256 of its file. dim: how many
    features. channels, size: of what it knows; size 0 is any, which it resizes itself. class_names: of its logits.
    look: uint8 (N, channels, size, size) on the device to features (N, dim) and logits (N, classes).
    """

    def __init__(
        self,
        name: str,
        hash: str,
        dim: int,
        channels: int,
        size: int,
        look: Callable[[Tensor], tuple[Tensor, Tensor]],
        device: torch.device | str,
        class_names: list[str],
    ):
        self.name, self.hash, self.dim, self.channels, self.size = name, hash[:12], dim, channels, size
        self.look, self.device, self.class_names = look, torch.device(device), class_names

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, dim) and logits (N, classes), on the CPU, of images (N, C, H, H), uint8 or float in [-1, 1]."""
        with exact(self.device):
            seen = [self.look(self.shown(part).to(self.device)) for part in images.split(CHUNK)]
        features, logits = (torch.cat(parts).float().cpu() for parts in zip(*seen))
        return features, logits

    def shown(self, images: Tensor) -> Tensor:
        """What the network is shown of images: 8 bits, its own channels and size. On the CPU, alike for any device."""
        check(*images.shape[1:])
        stored = ImageDataset(to_uint8(images).cpu(), torch.zeros(len(images), dtype=torch.int64))
        return stored.resized(self.size or None, self.channels).images

    def protocol(self, channels: int, size: int) -> str:
        """Which network, and what became of images of so many channels and pixels a side before it saw them."""
        check(channels, size, size)
        steps = ["8 bits"]
        if channels > self.channels:
            steps += ["grey by ITU-R 601 luma"]
        if self.size not in (0, size):
            steps += [f"{size} to {self.size} pixels by antialiased bicubic"]
        if not self.size:
            steps += [f"{size} to 299 pixels by TensorFlow 1's bilinear"]
        if channels < self.channels:
            steps += ["grey in all three channels"]
        return f"{self.name} {self.hash}, {self.dim:,} features; {', '.join(steps)}"


def check(channels: int, height: int, width: int) -> None:
    """ValueError for images that no network here is shown."""
    if channels not in (1, 3) or height != width:
        raise ValueError(
            f"scores are of square pictures in grey or colour, but these are of {channels} channels and "
            f"{width}x{height} pixels"
        )


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Within `with`, float32 is float32, whatever a training around it has chosen: TF32 alone moves a score."""
    cudnn, precision = torch.backends.cudnn, torch.get_float32_matmul_precision()
    tf32 = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision(precision)


# --- our own ------------------------------------------------------------------------------------------------------


def for_images(channels: int) -> str:
    """The name of the bundled network that suits images of so many channels."""
    check(channels, 1, 1)
    return next(name for name, own in BUNDLED.items() if own == channels)


def extractor(name: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """The bundled network "mnist", 64 features of grey 28x28, or "cifar", 128 features of colour 32x32."""
    if name not in BUNDLED:
        raise ValueError(f"there are no features {name!r}{nearest(name, BUNDLED)}; there are: {', '.join(BUNDLED)}")
    return opened(WEIGHTS / f"features-{name}.safetensors", name, device)


def opened(path: Path, name: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """The network of a file that benchmarks/train_features.py has written."""
    if not path.is_file():
        raise ValueError(
            f"the network of the scores {name} is not in this installation, where it is {path}; install gancli anew, "
            f"or type python benchmarks/train_features.py {name}"
        )
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {})["network"])
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        network = restore(config, state).eval().requires_grad_(False)
        if not isinstance(network, Classifier):
            raise ValueError(f"it holds a {type(network).__name__}")
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or no network of features: {one_line(error, 200)}") from error

    network.to(device)

    def look(x: Tensor) -> tuple[Tensor, Tensor]:
        features = network.features(to_float(x).contiguous(memory_format=torch.channels_last))
        return features, network.head(features)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FeatureExtractor(name, digest, network.dim, network.channels, network.size, look, device, CLASSES[name])


# --- Inception ----------------------------------------------------------------------------------------------------


def inception(path: str | Path = "", device: torch.device | str = "cpu") -> FeatureExtractor:
    """The Inception v3 that FID is by: 2,048 features, logits of 1,008 classes without their bias, as IS has them.

    Heusel et al. 2017, https://arxiv.org/abs/1706.08500, as the package torch-fidelity has it, which resizes as
    TensorFlow 1 did. path: of its weights, 96 MB; without one where torch keeps downloads, whither they are downloaded
    once. ValueError where package or weights are not there, or the weights are others: no other network takes the name.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ImportError:
        raise ValueError(
            "scores by Inception need the package torch-fidelity; type pip install torch-fidelity, or leave metrics= "
            "out for the scores of a network that came along"
        ) from None
    file = Path(path).expanduser() if path else downloaded(URL_INCEPTION_V3)
    if not file.is_file():
        raise ValueError(f"there are no weights of Inception in {file}; give the file that {URL_INCEPTION_V3} is")
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != INCEPTION:  # the package opens it as a pickle, which may run code
        raise ValueError(
            f"{file} is not the Inception of FID and was not opened: its SHA-256 begins with {digest[:12]}, not with "
            f"{INCEPTION[:12]}; remove it, or give the file that {URL_INCEPTION_V3} is"
        )
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=io.BytesIO(content)
    )
    return FeatureExtractor("inception", digest, 2048, 3, 0, network.to(device), device, [])


def downloaded(url: str) -> Path:
    """The file of `url` where torch keeps such files, torch-fidelity's too; downloaded where it is not there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), INCEPTION)
        except (OSError, RuntimeError) as error:  # no network, a full disk; another file than was expected
            raise ValueError(
                f"the weights of Inception could not be downloaded ({one_line(error, 200)}); put the file that "
                f"{url} is into {file.parent}, type inception=FILE where you have it, or leave metrics= out for "
                f"the scores of a network that came along"
            ) from error
    return file
