"""Feature extractors: preprocessing and its protocol, the bundled networks, Inception, and their training."""

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import ROOT
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from gancli.checkpoint import format as checkpoint
from gancli.data.builtin import cifar10, mnist
from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.metrics import feature_extractors as features
from gancli.networks.classifier import Classifier

SCRIPT = ROOT / "benchmarks" / "train_features.py"
SHAPES = {"mnist": (1, 28, 64), "cifar": (3, 32, 128)}  # channels, size, features
FILES = {name: features.WEIGHTS / f"features-{name}.safetensors" for name in SHAPES}


def some(n: int, channels: int, size: int, seed: int = 0) -> torch.Tensor:
    """uint8 (n, channels, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


def written(path: Path, channels: int, size: int, width: int, seed: int = 0) -> Path:
    """Write a network of random weights as the bundled ones are stored."""
    torch.manual_seed(seed)
    config = {"_target_": "gancli.networks.classifier.Classifier", "channels": channels, "size": size, "width": width}
    network = Classifier(channels, size, width).half()
    save_file(network.state_dict(), path, {"network": json.dumps(config)})
    return path


@pytest.fixture
def random(tmp_path, monkeypatch):
    for name, (channels, size, dim) in SHAPES.items():
        written(tmp_path / f"features-{name}.safetensors", channels, size, dim // 4)
    monkeypatch.setattr(features, "WEIGHTS", tmp_path)
    return tmp_path


# --- the networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_bundled_architectures_are_small(name):
    channels, size, dim = SHAPES[name]
    network = Classifier(channels, size, dim // 4)
    x = to_float(some(2, channels, size))
    assert network.features(x).shape == (2, dim) == (2, network.dim) and network(x).shape == (2, 10)
    assert torch.equal(network.eval()(x), network.head(network.features(x))) and network.features(x).min() >= 0
    numbers = sum(t.numel() for t in network.state_dict().values())
    assert sum(p.numel() for p in network.parameters()) == {"mnist": 118_938, "cifar": 473_450}[name]
    assert 2 * numbers < 960_000, "in 16 bits, with room for the file's header"


# --- preprocessing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, 50), (1, 8)])
def test_features_do_not_depend_on_chunks(random, monkeypatch, name, channels, size):
    see = features.bundled_extractor(name)
    images = some(7, channels, size)
    found, logits = see(images)
    assert found.shape == (7, SHAPES[name][2]) == (7, see.dim) and logits.shape == (7, 10)
    assert found.dtype == logits.dtype == torch.float32 and not found.requires_grad
    monkeypatch.setattr(features, "CHUNK", 3)
    for whole, parts in zip((found, logits), see(images)):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    alone, _ = see(images[4:5])
    torch.testing.assert_close(alone, found[4:5], rtol=1e-4, atol=1e-5)
    nothing, logits = see(images[:0])
    assert nothing.shape == (0, see.dim) and logits.shape == (0, 10)


def test_floats_are_rounded_to_8_bits(random):
    see = features.bundled_extractor("cifar")
    images = some(4, 3, 32)
    noise = (torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.9 / 127.5
    for whole, near in zip(see(images), see(to_float(images) + noise)):
        assert torch.equal(whole, near)


def test_grey_is_luma_and_colour_is_repetition(random):
    digits, things = features.bundled_extractor("mnist"), features.bundled_extractor("cifar")
    images = some(4, 3, 28)
    pictures = [Image.fromarray(image).convert("L") for image in images.permute(0, 2, 3, 1).numpy()]
    luma = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))[:, None]
    assert torch.equal(digits.preprocess(images), luma) and torch.equal(digits(images)[0], digits(luma)[0])
    grey = some(4, 1, 32)
    assert torch.equal(things(grey)[0], things(grey.expand(-1, 3, -1, -1))[0])


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 64), (1, 100)])
def test_images_are_resized_as_data_sets_are(random, name, channels, size):
    see, images = features.bundled_extractor(name), some(3, channels, size)
    own = ImageDataset(images).resized(see.size, see.channels).images
    assert torch.equal(see.preprocess(images), own) and own.shape == (3, see.channels, see.size, see.size)
    assert torch.equal(see(images)[1], see(own)[1])


@pytest.mark.parametrize(
    ("name", "channels", "size", "steps"),
    [
        ("mnist", 1, 28, "8 bits"),
        ("mnist", 3, 28, "8 bits, grey by ITU-R 601 luma"),
        ("mnist", 3, 64, "8 bits, grey by ITU-R 601 luma, 64 to 28 pixels by antialiased bicubic"),
        ("cifar", 3, 32, "8 bits"),
        ("cifar", 1, 32, "8 bits, grey in all three channels"),
        ("cifar", 1, 28, "8 bits, 28 to 32 pixels by antialiased bicubic, grey in all three channels"),
    ],
)
def test_the_protocol_names_network_and_preprocessing(random, name, channels, size, steps):
    see = features.bundled_extractor(name)
    digest = hashlib.sha256((random / f"features-{name}.safetensors").read_bytes()).hexdigest()
    assert see.name == name and see.hash == digest[:12]
    assert see.protocol(channels, size) == f"{name} {digest[:12]}, {see.dim} features; {steps}"


@pytest.mark.parametrize("shape", [(5, 2, 1, 1), (5, 4, 8, 8), (5, 3, 8, 9)])
def test_other_images_are_refused(random, shape):
    with pytest.raises(ValueError, match="square images in grey or colour"):
        features.bundled_extractor("cifar")(torch.zeros(shape))


def test_training_options_do_not_change_features(random):
    see, images = features.bundled_extractor("cifar"), some(4, 3, 32)
    alone, cudnn = see(images), torch.backends.cudnn
    before = cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("high")
        with torch.autocast("cpu", torch.bfloat16):
            within = see(images)
            assert torch.is_autocast_enabled("cpu")
        assert cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    finally:
        cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
    assert all(torch.equal(a, b) for a, b in zip(alone, within))


# --- which network ------------------------------------------------------------------------------------------------


def test_the_default_network(random):
    assert features.default_extractor(1) == "mnist" and features.default_extractor(3) == "cifar"
    with pytest.raises(ValueError, match="grey or colour"):
        features.default_extractor(2)
    with pytest.raises(ValueError, match="no features 'minst'; did you mean mnist"):
        features.bundled_extractor("minst")


def test_missing_and_damaged_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match=r"scores mnist .* type python benchmarks/train_features.py mnist$"):
        features.bundled_extractor("mnist")
    file = tmp_path / "features-mnist.safetensors"
    whole = written(file, 1, 28, 16).read_bytes()
    for content in (b"", whole[:-9], b"nothing"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged, or holds no feature network"):
            features.bundled_extractor("mnist")
    save_file({"x": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="is damaged, or holds no feature network"):
        features.bundled_extractor("mnist")
    other = next(file for file in FILES["mnist"].parent.iterdir() if file.name.startswith("sr_compact"))
    with pytest.raises(ValueError, match="holds no feature network"):
        features.classifier_extractor(other, "mnist")


# --- Inception ----------------------------------------------------------------------------------------------------


class Stub(nn.Module):
    """Stands for torch-fidelity's: takes what it takes, gives what it gives."""

    def __init__(self, name, features_list, feature_extractor_weights_path):
        super().__init__()
        assert features_list == ["2048", "logits_unbiased"]
        self.content = feature_extractor_weights_path.read()

    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1] == 3 and len(x) <= 64
        f = x.double().mean((2, 3)).repeat(1, 683)[:, :2048]
        return f, f[:, :1008]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package torch-fidelity, whose weights are these bytes."""
    outer, inner = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    inner.URL_INCEPTION_V3 = "https://example.invalid/inception.pth"
    inner.FeatureExtractorInceptionV3 = Stub
    monkeypatch.setitem(sys.modules, outer.__name__, outer)
    monkeypatch.setitem(sys.modules, inner.__name__, inner)
    monkeypatch.setattr(features, "INCEPTION", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / "inception.pth"


def test_inception_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match="type pip install torch-fidelity"):
        features.inception_extractor()


def test_inception_of_a_file_or_of_torchs_own_folder(package, tmp_path, monkeypatch):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(ValueError, match=r"could not be downloaded \(no network\); put https"):
        features.inception_extractor()
    mine = tmp_path / "mine.pth"
    with pytest.raises(ValueError, match=r"no Inception weights in .*mine.pth"):
        features.inception_extractor(mine)
    mine.write_bytes(b"unknown")
    with pytest.raises(ValueError, match="was not opened: its SHA-256 begins with"):
        features.inception_extractor(mine)
    package.write_bytes(b"weights")
    mine.write_bytes(b"weights")
    for see in (features.inception_extractor(), features.inception_extractor(mine)):
        assert see.forward.content == b"weights" and (see.name, see.hash) == ("inception", features.INCEPTION[:12])
        found, logits = see(some(70, 1, 20))
        assert found.shape == (70, 2048) and logits.shape == (70, 1008) and found.dtype == torch.float32
        steps = "8 bits, 20 to 299 pixels by TensorFlow 1's bilinear, grey in all three channels"
        assert see.protocol(1, 20) == f"inception {features.INCEPTION[:12]}, 2,048 features; {steps}"


def test_inception_is_downloaded_once_and_checked(package, monkeypatch):
    asked = []

    def download(url: str, to: str, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        Path(to).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    features.inception_extractor()
    features.inception_extractor()
    assert asked == [("https://example.invalid/inception.pth", features.INCEPTION)] and package.is_file()


# --- training -----------------------------------------------------------------------------------------------------


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_features", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_training_command_at_tiny_size(tmp_path, monkeypatch, capsys):
    x, y = some(256, 1, 28)[:, 0].numpy(), np.arange(256) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    train = script()
    monkeypatch.setitem(train.RECIPES, "mnist", train.RECIPES["mnist"]._replace(width=4, epochs=2))
    found = []
    for out in ("a", "b"):
        words = ["train_features.py", "mnist", "--root", str(tmp_path), "--out", str(tmp_path / out)]
        monkeypatch.setattr(sys, "argv", words)
        train.main()
        found.append(capsys.readouterr())
    assert "features-mnist.safetensors: " in found[0].out and found[0].err.count("of the test images") == 2
    first, again = (
        features.classifier_extractor(tmp_path / out / "features-mnist.safetensors", "mnist") for out in ("a", "b")
    )
    assert torch.equal(first(some(3, 1, 28))[1], again(some(3, 1, 28))[1]), "same seed, same network"
    with safe_open(tmp_path / "a" / "features-mnist.safetensors", framework="pt") as file:
        told = file.metadata()
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16, torch.int64}  # noqa: SIM118
    assert told["trained"].startswith("4 steps of 128 images of mnist") and "--root" in told["command"]
    right = (first(some(256, 1, 28))[1].argmax(1).numpy() == y).mean()
    assert float(told["accuracy"]) == pytest.approx(right, abs=1e-4)
    assert json.loads(told["versions"]) == checkpoint.versions() and told["machine"]


def test_training_images_are_shifted_and_rotated():
    train, x = script(), to_float(some(64, 3, 32))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(train.jitter(x, 0.0, 0, generator), x)
    moved = train.jitter(x, 0.0, 4, generator)
    inner = x[:, :, 8:24, 8:24]
    shifts = [(i, j) for i in range(4, 13) for j in range(4, 13)]
    which = [[torch.equal(m[:, i : i + 16, j : j + 16], o) for i, j in shifts] for m, o in zip(moved, inner)]
    assert all(sum(row) == 1 for row in which), "by whole pixels, up to 4, one way each"
    assert len({row.index(True) for row in which}) > 30
    even = torch.full((4, 1, 28, 28), 0.25)
    torch.testing.assert_close(train.jitter(even, 12.0, 2, generator), even)


# --- bundled ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("name", "data", "least"), [("mnist", mnist, 0.993), ("cifar", cifar10, 0.90)])
def test_the_bundled_networks_know_the_real_test_images(name, data, least):
    test = data(os.environ["GAN_DATA"], split="test")
    _, logits = features.bundled_extractor(name)(test.images)
    right = float((logits.argmax(1) == test.labels).double().mean())
    assert right >= least
    with safe_open(FILES[name], framework="pt") as file:
        assert float(file.metadata()["accuracy"]) == pytest.approx(right, abs=5e-4)


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_bundled_networks_are_small(name):
    assert FILES[name].stat().st_size <= 1_000_000
    see = features.bundled_extractor(name)
    assert (see.channels, see.size, see.dim) == SHAPES[name]
