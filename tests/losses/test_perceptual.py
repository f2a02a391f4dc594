"""Content losses: by hand, and VGG's against torchvision's own network with hooks."""

import hashlib
import pickle
import re
from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import torch
from helpers import start
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torchvision.models import VGG19_Weights, vgg19
from torchvision.transforms.functional import normalize

from gancli.checkpoint import format as checkpoint
from gancli.config import CONFIGS, build, choices, header, keys
from gancli.losses import perceptual as content
from gancli.losses.perceptual import L1, MSE, VGG

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, as torchvision documents them
FILE = "vgg19-dcbb9e9d.pth"


def pair(channels: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    """Return fake and real images, noise in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    fake, real = torch.rand(2, 2, channels, side, side, generator=generator) * 2 - 1
    return fake, real


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """torchvision's VGG19 without its classifier of 500 MB; the weights are random."""
    torch.manual_seed(0)
    with torch.device("meta"):
        network = vgg19()
    network.features.to_empty(device="cpu")
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # keeps the features' size through all layers
            nn.init.normal_(layer.bias, std=0.1)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory) -> Path:
    """Return its weights as torchvision publishes them: in torch's old format, with more than the features."""
    path = tmp_path_factory.mktemp("weights") / FILE
    state = {name: value for name, value in network.state_dict().items() if name.startswith("features.")}
    state["classifier.0.bias"] = torch.zeros(4096)
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def trusted(file, monkeypatch) -> Path:
    """Let the file pass for the published one."""
    prefix = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(content, "hash_prefix", lambda published: prefix)
    return file


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Return torch's empty cache, without a network connection."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", Mock(side_effect=URLError("no network")))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def reference_features(network: nn.Module, x: Tensor, pooling: int, convolution: int) -> Tensor:
    """phi_ij by its definition: the output of the ReLU after the j-th convolution before the i-th pooling."""
    block, count, outputs = 1, 0, []
    for k, layer in enumerate(network.features):
        if isinstance(layer, nn.MaxPool2d):
            block, count = block + 1, 0
        count += isinstance(layer, nn.Conv2d)
        if isinstance(layer, nn.Conv2d) and (block, count) == (pooling, convolution):
            relu = network.features[k + 1]
            assert isinstance(relu, nn.ReLU)
            # Cloned, because the next layers may work in place.
            hook = relu.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    network.features(normalize(x.expand(-1, 3, -1, -1) / 2 + 0.5, MEAN, STD))
    hook.remove()
    (features,) = outputs
    return features


@pytest.mark.parametrize(("loss", "expected"), [(MSE(), (0.25 + 1) / 2), (L1(), (0.5 + 1) / 2)])
def test_losses_of_pixels_by_hand(loss, expected):
    assert loss(torch.tensor([[[[0.5, -1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("layer", "position"), [("22", (2, 2)), ("54", (5, 4)), (54, (5, 4))])
def test_vgg_is_the_squared_error_of_torchvisions_features(layer, position, channels, network, trusted):
    loss = VGG(layer, weights=str(trusted))
    fake, real = pair(channels)
    features = [reference_features(network, x, *position) for x in (fake, real)]
    expected = 0.006 * mse_loss(*features)  # the factor of section 3.2
    assert expected > 1e-6
    assert torch.allclose(loss(fake, real), expected, rtol=0.03) and loss(real, real) == 0
    assert torch.allclose(loss(fake, real), mse_loss(*features) / 12.75**2, rtol=1e-4)
    assert loss(fake, real).shape == ()


@pytest.mark.parametrize(("layer", "convolutions"), [("22", 4), ("54", 16)])
def test_vgg_has_only_the_layers_it_needs_and_only_fakes_have_a_gradient(layer, convolutions, trusted):
    loss = VGG(layer, weights=trusted)
    fake, real = (x.requires_grad_() for x in pair(side=16))
    loss(fake, real).backward()
    assert fake.grad.isfinite().all() and fake.grad.abs().max() > 0 and real.grad is None
    weights = list(loss.network.parameters())
    assert len(weights) == 2 * convolutions and not any(w.requires_grad or w.grad is not None for w in weights)
    assert isinstance(loss.network[-1], nn.ReLU)


def test_the_gradient_is_that_of_finite_differences(trusted):
    loss = VGG("22", weights=trusted)
    loss.network.double()
    fake, real = (x.double() for x in pair(side=4))
    assert torch.autograd.gradcheck(loss, (fake.requires_grad_(), real), fast_mode=True)


def test_vgg_is_not_trained_not_saved_and_takes_no_random_numbers(trusted, tmp_path):
    before = torch.get_rng_state()
    loss = VGG("22", weights=trusted)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loss.network.training
    run = start(tmp_path / "run", "srgan", "trainer.steps=1")
    run.trainer.objective.content = loss
    run.train()
    trained = {id(p) for o in run.trainer.optimizers.values() for group in o.param_groups for p in group["params"]}
    assert trained.isdisjoint(map(id, loss.parameters()))
    networks = checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")["networks"]
    assert not any("content" in key for network in networks.values() for key in network["state"])


@pytest.mark.parametrize("loss", [MSE(), L1(), "vgg"])
def test_losses_move_to_a_device_and_are_averaged_in_fp32(loss, trusted):
    loss = VGG("22", weights=trusted) if loss == "vgg" else loss
    fake, real = pair()
    with torch.autocast("cpu", torch.bfloat16):
        low = loss(fake.bfloat16().requires_grad_(), real)
    low.backward()
    assert low.dtype == torch.float32 and torch.allclose(low, loss(fake, real), rtol=0.05)
    assert loss.to("meta")(fake.to("meta"), real.to("meta")).device.type == "meta"


@pytest.mark.parametrize(("layer", "least"), [("22", 2), ("54", 16)])
def test_images_below_the_smallest_size_are_refused(layer, least, trusted):
    loss = VGG(layer, weights=trusted)
    assert loss(*pair(side=least)) > 0
    with pytest.raises(ValueError, match=rf"vgg{layer} needs images of {least} .* data\.size=1; .*model/content=mse$"):
        loss(*pair(side=1))


def test_weights_that_are_not_the_published_ones_are_refused(file, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=re.escape("model.content.layer=55 is not one of 22, 54")):
        VGG("55")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    message = f"SHA-256 that begins with {digest[:8]}, not with dcbb9e9d; give torchvision's {FILE}, or type"
    with pytest.raises(ValueError, match=re.escape(message)):
        VGG("22", weights=file)
    for name in ("nothing.pth", "."):
        with pytest.raises(ValueError, match=r"model\.content\.weights=.* cannot be read \(.+\); give .*content=mse"):
            VGG("22", weights=tmp_path / name)
    # Even with the right hash a pickle runs no code.
    code = tmp_path / FILE
    code.write_bytes(pickle.dumps(print, protocol=2))
    monkeypatch.setattr(content, "hash_prefix", lambda published: "")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        VGG("22", weights=code)


@pytest.mark.parametrize(
    "error",
    [URLError("Name or service not known"), RuntimeError('invalid hash value ("dcbb")'), TimeoutError(), EOFError()],
)
def test_a_failed_download_is_reported_on_one_line(error, cache, monkeypatch, capsys):
    monkeypatch.setattr("torch.hub.download_url_to_file", Mock(side_effect=error))
    with pytest.raises(ValueError, match=re.escape(f"({str(error) or type(error).__name__})")) as raised:
        VGG("22")
    message = str(raised.value)
    for part in (VGG19_Weights.IMAGENET1K_V1.url, f"weights=FILE with that {FILE}", "content=mse"):
        assert part in message
    assert "\n" not in message and not capsys.readouterr().out


def test_torchs_cache_is_used_unless_it_is_damaged(cache, file):
    (cache / FILE).write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"could not be had from torch's cache"):
        VGG("22")
    (cache / FILE).unlink()
    (cache / FILE).symlink_to(file)
    state = torch.load(file, weights_only=True)
    assert torch.equal(VGG("22").network[0].weight, state["features.0.weight"])


def test_every_content_of_the_configs_can_be_built(trusted):
    losses = {}
    for name in choices("model/content"):
        config = OmegaConf.load(CONFIGS / "model" / "content" / f"{name}.yaml")
        if "weights" in config:
            assert config.weights == ""
            config.weights = str(trusted)
        losses[name] = build(config)
        assert "https://arxiv.org" in header(f"model/content/{name}")
        assert all(key.meaning for key in keys(f"model/content/{name}"))
    assert {name: type(loss) for name, loss in losses.items()} == {"mse": MSE, "l1": L1, "vgg22": VGG, "vgg54": VGG}
    assert (losses["vgg22"].layer, losses["vgg54"].layer) == ("22", "54")
