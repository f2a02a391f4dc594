"""Feature extractors: preprocessing and its protocol, the bundled networks, Inception, and their training."""

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import ROOT
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save, save_file
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


def images_of(n: int, channels: int, size: int) -> torch.Tensor:
    """Return random images, uint8 (n, channels, size, size)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


def write_random(path: Path, channels: int, size: int, width: int) -> Path:
    """Write a network of random weights as the bundled ones are stored."""
    config = {"_target_": "gancli.networks.classifier.Classifier", "channels": channels, "size": size, "width": width}
    save_file(Classifier(channels, size, width).half().state_dict(), path, {"network": json.dumps(config)})
    return path


@pytest.fixture
def random(tmp_path, monkeypatch):
    """Let networks of random weights stand for the bundled ones; return their folder."""
    for name, (channels, size, dim) in SHAPES.items():
        write_random(tmp_path / f"features-{name}.safetensors", channels, size, dim // 4)
    monkeypatch.setattr(features, "WEIGHTS", tmp_path)
    return tmp_path


# --- bundled networks and preprocessing ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), [("mnist", 118_938), ("cifar", 473_450)])
def test_the_bundled_networks_are_small(name, parameters):
    assert FILES[name].stat().st_size <= 1_000_000
    extractor = features.bundled_extractor(name)
    assert (extractor.channels, extractor.size, extractor.dim) == SHAPES[name]
    channels, size, dim = SHAPES[name]
    network, x = Classifier(channels, size, dim // 4).eval(), to_float(images_of(2, channels, size))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.features(x).shape == (2, dim) == (2, network.dim) and network(x).shape == (2, 10)
    assert torch.equal(network(x), network.head(network.features(x))) and network.features(x).min() >= 0


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (3, 64)])
def test_features_do_not_depend_on_chunks_and_images_are_resized_as_data_sets_are(
    random, monkeypatch, name, channels, size
):
    extractor, images = features.bundled_extractor(name), images_of(7, channels, size)
    outputs = extractor(images)
    assert [t.shape for t in outputs] == [(7, SHAPES[name][2]), (7, 10)]
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in outputs)
    monkeypatch.setattr(features, "CHUNK", 3)
    for together, apart, alone in zip(outputs, extractor(images), extractor(images[4:5])):
        torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone, together[4:5], rtol=1e-4, atol=1e-5)
    assert [t.shape for t in extractor(images[:0])] == [(0, extractor.dim), (0, 10)]
    own = ImageDataset(images, torch.zeros(7, dtype=torch.int64)).resized(extractor.size, extractor.channels).images
    assert torch.equal(extractor.preprocess(images), own) and own.shape == (7, *extractor.preprocess(images).shape[1:])
    assert own.shape[1:] == (extractor.channels, extractor.size, extractor.size)


def test_floats_are_rounded_grey_is_luma_and_colour_is_repetition(random):
    digits, things = features.bundled_extractor("mnist"), features.bundled_extractor("cifar")
    images = images_of(4, 3, 32)
    noise = (torch.rand(images.shape) - 0.5) * 0.9 / 127.5
    assert torch.equal(things(images)[0], things(to_float(images) + noise)[0])
    images = images_of(4, 3, 28)
    grey = [np.asarray(Image.fromarray(image).convert("L")) for image in images.permute(0, 2, 3, 1).numpy()]
    luma = torch.from_numpy(np.stack(grey))[:, None]
    assert torch.equal(digits.preprocess(images), luma) and torch.equal(digits(images)[0], digits(luma)[0])
    grey = images_of(4, 1, 32)
    assert torch.equal(things(grey)[0], things(grey.expand(-1, 3, -1, -1))[0])


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
    extractor = features.bundled_extractor(name)
    digest = hashlib.sha256((random / f"features-{name}.safetensors").read_bytes()).hexdigest()
    assert extractor.name == name and extractor.hash == digest[:12]
    assert extractor.protocol(channels, size) == f"{name} {digest[:12]}, {extractor.dim} features; {steps}"


def test_training_options_do_not_change_features(random, monkeypatch):
    extractor, images = features.bundled_extractor("cifar"), images_of(4, 3, 32)
    expected, before = extractor(images), torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    try:
        torch.set_float32_matmul_precision("high")
        with torch.autocast("cpu", torch.bfloat16):
            outputs = extractor(images)
            assert torch.is_autocast_enabled("cpu")
        assert torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(torch.equal(a, b) for a, b in zip(expected, outputs))


def test_unknown_networks_and_shapes_are_refused(random):
    assert features.default_extractor(1) == "mnist" and features.default_extractor(3) == "cifar"
    with pytest.raises(ValueError, match="grey or colour"):
        features.default_extractor(2)
    with pytest.raises(ValueError, match="no features 'minst'; did you mean mnist"):
        features.bundled_extractor("minst")
    for shape in ((5, 2, 1, 1), (5, 4, 8, 8)):
        with pytest.raises(ValueError, match="images in grey or colour"):
            features.bundled_extractor("cifar")(torch.zeros(shape))


def test_missing_and_damaged_weights_are_refused(tmp_path, monkeypatch):
    other = next(file for file in FILES["mnist"].parent.iterdir() if file.name.startswith("sr_")).read_bytes()
    monkeypatch.setattr(features, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match=r"scores mnist .* type python benchmarks/train_features.py mnist$"):
        features.bundled_extractor("mnist")
    file = tmp_path / "features-mnist.safetensors"
    intact = write_random(file, 1, 28, 16).read_bytes()
    for content in (b"", intact[:-9], b"nothing", save({"x": torch.zeros(2)}), other):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged, or holds no feature network"):
            features.bundled_extractor("mnist")


# --- Inception ----------------------------------------------------------------------------------------------------


class Stub(nn.Module):
    """Stub of torch-fidelity's network: the same arguments and the same shapes."""

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
    """Install a stub of torch-fidelity, whose weights are these bytes; return the path of its download."""
    outer, inner = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    inner.URL_INCEPTION_V3 = "https://example.invalid/inception.pth"
    inner.FeatureExtractorInceptionV3 = Stub
    monkeypatch.setitem(sys.modules, outer.__name__, outer)
    monkeypatch.setitem(sys.modules, inner.__name__, inner)
    monkeypatch.setattr(features, "INCEPTION", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / "inception.pth"


def test_inception_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match="type pip install torch-fidelity"):
        features.inception_extractor()


def test_inception_from_a_file_or_from_torchs_own_folder(package, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", Mock(side_effect=OSError("no network")))
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
    for extractor in (features.inception_extractor(), features.inception_extractor(mine)):
        assert extractor.forward.content == b"weights"
        assert (extractor.name, extractor.hash) == ("inception", features.INCEPTION[:12])
        outputs = extractor(images_of(70, 1, 20))
        assert [t.shape for t in outputs] == [(70, 2048), (70, 1008)] and outputs[0].dtype == torch.float32
        steps = "8 bits, 20 to 299 pixels by TensorFlow 1's bilinear, grey in all three channels"
        assert extractor.protocol(1, 20) == f"inception {features.INCEPTION[:12]}, 2,048 features; {steps}"


def test_inception_is_downloaded_once_and_checked(package, monkeypatch):
    download = Mock(side_effect=lambda url, to, hash_prefix: Path(to).write_bytes(b"weights"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    features.inception_extractor()
    features.inception_extractor()
    download.assert_called_once_with("https://example.invalid/inception.pth", str(package), features.INCEPTION)


# --- training -----------------------------------------------------------------------------------------------------


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_features", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_training_command_at_tiny_size(script, tmp_path, monkeypatch, capsys):
    x, y = images_of(256, 1, 28)[:, 0].numpy(), np.arange(256) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.setitem(script.RECIPES, "mnist", script.RECIPES["mnist"]._replace(width=4, epochs=2))
    logits = []
    for out in ("a", "b"):
        words = ["train_features.py", "mnist", "--root", str(tmp_path), "--out", str(tmp_path / out)]
        monkeypatch.setattr(sys, "argv", words)
        script.main()
        output = capsys.readouterr()
        assert "features-mnist.safetensors: " in output.out and output.err.count("of the test images") == 2
        extractor = features.classifier_extractor(tmp_path / out / "features-mnist.safetensors", "mnist")
        logits.append(extractor(images_of(256, 1, 28))[1])
    assert torch.equal(*logits), "same seed, same network"
    with safe_open(tmp_path / "a" / "features-mnist.safetensors", framework="pt") as file:
        metadata = file.metadata()
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16, torch.int64}  # noqa: SIM118
    assert metadata["trained"].startswith("4 steps of 128 images of mnist") and "--root" in metadata["command"]
    accuracy = (logits[0].argmax(1).numpy() == y).mean()
    assert float(metadata["accuracy"]) == pytest.approx(accuracy, abs=1e-4)
    assert json.loads(metadata["versions"]) == checkpoint.versions() and metadata["machine"]


def test_training_images_are_shifted_and_rotated(script):
    x, generator = to_float(images_of(64, 3, 32)), torch.Generator().manual_seed(0)
    assert torch.equal(script.jitter(x, 0.0, 0, generator), x)
    shifted = script.jitter(x, 0.0, 4, generator)
    inner = x[:, :, 8:24, 8:24]
    shifts = [(i, j) for i in range(4, 13) for j in range(4, 13)]
    equal = [[torch.equal(m[:, i : i + 16, j : j + 16], o) for i, j in shifts] for m, o in zip(shifted, inner)]
    assert all(sum(row) == 1 for row in equal), "by up to 4 whole pixels, each image by its own shift"
    assert len({row.index(True) for row in equal}) > 30
    even = torch.full((4, 1, 28, 28), 0.25)
    torch.testing.assert_close(script.jitter(even, 12.0, 2, generator), even)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("name", "data", "least"), [("mnist", mnist, 0.993), ("cifar", cifar10, 0.90)])
def test_the_bundled_networks_classify_the_real_test_images(name, data, least):
    test = data(os.environ["GAN_DATA"], split="test")
    _, logits = features.bundled_extractor(name)(test.images[::4])
    accuracy = float((logits.argmax(1) == test.labels[::4]).double().mean())
    assert accuracy >= least
    with safe_open(FILES[name], framework="pt") as file:
        assert float(file.metadata()["accuracy"]) == pytest.approx(accuracy, abs=0.01)
