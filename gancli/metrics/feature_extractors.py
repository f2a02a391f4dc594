"""Frozen networks whose features the scores compare, and their preprocessing, which is part of a score.

    extractor = bundled_extractor("cifar")       # or "mnist"; inception_extractor() is what published scores use
    features, logits = extractor(images)         # (N, 128) and (N, 10) of images of any size, grey or colour
    extractor.protocol(channels=3, size=64)      # which network, and how such images are preprocessed

Scores by two networks, or with two ways of resizing, are not comparable.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gancli.config import nearest
from gancli.data.builtin import CIFAR10, DIGITS
from gancli.data.dataset import ImageDataset
from gancli.images import Size, in_pixels, to_float, to_uint8
from gancli.networks.classifier import Classifier
from gancli.runtime.bundled import verified
from gancli.runtime.files import typed_path
from gancli.runtime.hardware import in_batches
from gancli.runtime.text import one_line

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
BUNDLED = {"mnist": 1, "cifar": 3}  # name: channels it is for
CLASSES = {"mnist": DIGITS, "cifar": CIFAR10}
CHUNK = 64  # images in a forward pass: fits a processor's caches; Inception takes 1 GB
# SHA-256 of TensorFlow's weights of 2015-12-05, by which FID is defined; torch-fidelity and pytorch-fid download them.
INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


@dataclass(eq=False)
class FeatureExtractor:
    """A frozen network with its preprocessing."""

    name: str
    hash: str  # first 12 digits of the SHA-256 of the weights
    dim: int  # number of features
    channels: int  # of the network's input
    size: int  # of the network's input; 0: any, the network resizes images itself
    # uint8 (N, channels, size, size) to features (N, dim) and logits (N, classes), on the device
    forward: Callable[[Tensor], tuple[Tensor, Tensor]]
    device: torch.device
    class_names: list[str]  # of the logits

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, dim) and logits (N, classes) of images (N, C, H, H), in float32 on the CPU."""
        with full_precision(self.device):
            outputs = in_batches(lambda x: self.forward(self.preprocess(x).to(self.device)), images, size=CHUNK)
        features, logits = (torch.cat(parts).float().cpu() for parts in zip(*outputs))
        return features, logits

    def preprocess(self, images: Tensor) -> Tensor:
        """Return images as uint8 in the network's channels and size; on the CPU, so that every device sees the same."""
        check_channels(images.shape[1])
        stored = ImageDataset(to_uint8(images).cpu())
        return stored.resized(self.size or None, self.channels).images

    def protocol(self, channels: int, size: Size) -> str:
        """Return the network and the preprocessing of such images in words."""
        check_channels(channels)
        steps = ["8 bits"]
        if channels > self.channels:
            steps += ["grey by ITU-R 601 luma"]
        given = str(size) if isinstance(size, int) else in_pixels(size)
        if self.size not in (0, size):
            steps += [f"{given} to {self.size} pixels by antialiased bicubic"]
        if not self.size:
            steps += [f"{given} to 299 pixels by TensorFlow 1's bilinear"]
        if channels < self.channels:
            steps += ["grey in all three channels"]
        return f"{self.name} {self.hash}, {self.dim:,} features; {', '.join(steps)}"


def check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise ValueError(f"scores need images in grey or colour, but these have {channels} channels")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in float32 even inside a training with other precision: TF32 alone changes a score."""
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


def default_extractor(channels: int) -> str:
    """Return the name of the bundled network for images of so many channels."""
    check_channels(channels)
    return next(name for name, own in BUNDLED.items() if own == channels)


def bundled_extractor(name: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """Return "mnist", 64 features of grey 28x28 images, or "cifar", 128 features of colour 32x32 images."""
    if name not in BUNDLED:
        raise ValueError(f"there are no features {name!r}{nearest(name, BUNDLED)}; there are: {', '.join(BUNDLED)}")
    return classifier_extractor(verified(WEIGHTS / f"features-{name}.safetensors"), name, device)


def classifier_extractor(path: Path, name: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """Return the extractor of a file that benchmarks/train_features.py wrote."""
    if not path.is_file():
        raise ValueError(
            f"the network of the scores {name} is missing from this installation: {path}; install gancli again, or "
            f"type python benchmarks/train_features.py {name}"
        )
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {})["network"])
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        target = config.pop("_target_")
        if target != f"{Classifier.__module__}.{Classifier.__qualname__}":
            raise ValueError(f"it holds a {target}")
        network = Classifier(**config)
        network.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or holds no feature network: {one_line(error, 200)}") from error
    network.folded().requires_grad_(False).to(device)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        features = network.features(to_float(x).contiguous(memory_format=torch.channels_last))
        return features, network.head(features)

    digest, device = hashlib.sha256(path.read_bytes()).hexdigest()[:12], torch.device(device)
    return FeatureExtractor(name, digest, network.dim, network.channels, network.size, forward, device, CLASSES[name])


def inception_extractor(path: str | Path = "", device: torch.device | str = "cpu") -> FeatureExtractor:
    """Return the Inception v3 of FID: 2,048 features, and logits of 1,008 classes without bias, as for IS.

    Heusel et al. 2017, https://arxiv.org/abs/1706.08500, in the implementation of torch-fidelity, which resizes as
    TensorFlow 1 does.

    Args:
        path: of the weights, 96 MB; "" downloads them once into torch's download folder.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ImportError:
        raise ValueError(
            "scores by Inception need the package torch-fidelity; type pip install torch-fidelity, or leave metrics= "
            "out for the scores of a bundled network"
        ) from None
    file = typed_path(path) if path else _download(URL_INCEPTION_V3)
    if not file.is_file():
        raise ValueError(f"there are no Inception weights in {file}; download {URL_INCEPTION_V3} and name that file")
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != INCEPTION:  # the package opens it as a pickle, which may run code
        raise ValueError(
            f"{file} is not the Inception of FID and was not opened: its SHA-256 begins with {digest[:12]}, not with "
            f"{INCEPTION[:12]}; remove it, or download {URL_INCEPTION_V3} and name that file"
        )
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=io.BytesIO(content)
    )
    return FeatureExtractor("inception", digest[:12], 2048, 3, 0, network.to(device), torch.device(device), [])


def _download(url: str) -> Path:
    """Return the file of `url` in torch's download folder, which torch-fidelity uses too; download it if missing."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), INCEPTION)
        except (OSError, RuntimeError) as error:  # no network, full disk, or another file than expected
            raise ValueError(
                f"the Inception weights could not be downloaded ({one_line(error, 200)}); put {url} into "
                f"{file.parent}, type inception=FILE, or leave metrics= out for the scores of a bundled network"
            ) from error
    return file
