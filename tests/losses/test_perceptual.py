"""Content losses: by hand, and VGG's against torchvision's own network watched by hooks."""

import hashlib
import pickle
import re
from pathlib import Path
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
    """made and real, noise in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    made, real = torch.rand(2, 2, channels, side, side, generator=generator) * 2 - 1
    return made, real


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """torchvision's VGG19 without its classifier, which would be 500 MB of chance; the weights are random."""
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
    """Its weights as torchvision publishes them: in torch's old format, with more than the features."""
    path = tmp_path_factory.mktemp("weights") / FILE
    state = {name: value for name, value in network.state_dict().items() if name.startswith("features.")}
    state["classifier.0.bias"] = torch.zeros(4096)
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def trusted(file, monkeypatch) -> Path:
    """The file, taken for the published one."""
    begin = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(content, "hash_prefix", lambda published: begin)
    return file


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """torch's cache, empty, and no network."""

    def no_network(*args, **kwargs):
        raise URLError("[Errno -2] Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def seen(network: nn.Module, x: Tensor, pooling: int, convolution: int) -> Tensor:
    """phi_ij by its definition: what the ReLU after the j-th convolution before the i-th pooling puts out."""
    block, count, out = 1, 0, []
    for k, layer in enumerate(network.features):
        if isinstance(layer, nn.MaxPool2d):
            block, count = block + 1, 0
        count += isinstance(layer, nn.Conv2d)
        if isinstance(layer, nn.Conv2d) and (block, count) == (pooling, convolution):
            relu = network.features[k + 1]
            assert isinstance(relu, nn.ReLU)
            # Cloned, because the next layers may work in place.
            hook = relu.register_forward_hook(lambda module, inputs, output: out.append(output.clone()))
    network.features(normalize(x.expand(-1, 3, -1, -1) / 2 + 0.5, MEAN, STD))
    hook.remove()
    (features,) = out
    return features


def test_pixels_by_hand():
    made, real = torch.tensor([0.5, -1.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert MSE()(made, real) == (0.25 + 1) / 2
    assert L1()(made, real) == (0.5 + 1) / 2


@pytest.mark.parametrize("loss", [MSE(), L1()])
def test_pixels_slopes(loss):
    made, real = (x[..., :4, :4].double() for x in pair())
    assert torch.autograd.gradcheck(loss, (made.requires_grad_(), real))
    assert loss(real, real) == 0 and loss.to(torch.device("meta")) is loss


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("layer", "place"), [("22", (2, 2)), ("54", (5, 4)), (54, (5, 4))])
def test_vgg_is_the_squared_error_of_torchvisions_features(layer, place, channels, network, trusted):
    loss = VGG(layer, weights=str(trusted))
    made, real = pair(channels)
    expected = mse_loss(seen(network, made, *place) / 12.75, seen(network, real, *place) / 12.75)
    assert expected > 1e-6
    assert torch.allclose(loss(made, real), expected, rtol=1e-4) and loss(real, real) == 0
    assert loss(made, real).shape == ()


def test_the_papers_factor():
    assert round(1 / 12.75**2, 3) == 0.006


@pytest.mark.parametrize("layer", ["22", "54"])
def test_only_what_was_made_has_a_slope(layer, trusted):
    loss = VGG(layer, weights=trusted)
    made, real = (x.requires_grad_() for x in pair(side=16))
    loss(made, real).backward()
    assert made.grad.isfinite().all() and made.grad.abs().max() > 0 and real.grad is None
    weights = list(loss.network.parameters())
    assert weights and not any(w.requires_grad or w.grad is not None for w in weights)


def test_slope_is_that_of_the_loss(trusted):
    loss = VGG("22", weights=trusted)
    loss.network.double()
    made, real = (x.double() for x in pair(side=4))
    assert torch.autograd.gradcheck(loss, (made.requires_grad_(), real), fast_mode=True)


def test_only_the_layers_it_needs_are_kept(trusted):
    for layer, convolutions in (("22", 4), ("54", 16)):
        kept = list(VGG(layer, weights=trusted).network)
        assert sum(isinstance(k, nn.Conv2d) for k in kept) == convolutions and isinstance(kept[-1], nn.ReLU)


def test_no_optimizer_and_no_checkpoint_holds_it_and_it_takes_no_random_numbers(trusted, tmp_path):
    before = torch.get_rng_state()
    loss = VGG("22", weights=trusted)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loss.network.training
    run = start(tmp_path / "run", "srgan", "trainer.steps=1")
    run.trainer.objective.content = loss
    run.train()
    trained = {id(p) for o in run.trainer.optimizers.values() for group in o.param_groups for p in group["params"]}
    assert trained.isdisjoint(map(id, loss.parameters()))
    names = checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")["networks"]
    assert not any("content" in key for network in names.values() for key in network["state"])


def test_it_goes_to_the_device(trusted):
    loss = VGG("22", weights=trusted)
    assert loss.to(torch.device("meta")) is loss
    assert loss(*(x.to("meta") for x in pair())).device.type == "meta"


@pytest.mark.parametrize("loss", [MSE(), L1(), "vgg"])
def test_bf16_is_averaged_in_fp32(loss, trusted):
    loss = VGG("22", weights=trusted) if loss == "vgg" else loss
    made, real = pair()
    with torch.autocast("cpu", torch.bfloat16):
        low = loss(made.bfloat16().requires_grad_(), real)
    low.backward()
    assert low.dtype == torch.float32 and torch.allclose(low, loss(made, real), rtol=0.05)


@pytest.mark.parametrize(("layer", "least"), [("22", 2), ("54", 16)])
def test_smallest_images(layer, least, trusted):
    loss = VGG(layer, weights=trusted)
    assert loss(*pair(side=least)) > 0
    with pytest.raises(ValueError, match=rf"vgg{layer} needs images of {least} .* data\.size=1; .*model/content=mse$"):
        loss(*pair(side=1))


def test_unknown_layer():
    with pytest.raises(ValueError, match=re.escape("model.content.layer=55 is not one of 22, 54")):
        VGG("55")


def test_a_file_that_is_not_the_published_one_is_refused(file):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    said = f"SHA-256 that begins with {digest[:8]}, not with dcbb9e9d; give torchvision's {FILE}, or type"
    with pytest.raises(ValueError, match=re.escape(said)):
        VGG("22", weights=file)


def test_a_hash_does_not_make_code_safe(tmp_path, monkeypatch):
    bad = tmp_path / FILE
    bad.write_bytes(pickle.dumps(print, protocol=2))
    monkeypatch.setattr(content, "hash_prefix", lambda published: "")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        VGG("22", weights=bad)


@pytest.mark.parametrize("name", ["nothing.pth", "."])
def test_a_file_that_cannot_be_read_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"model\.content\.weights=.* cannot be read \(.+\); give .*model/content=mse"):
        VGG("22", weights=tmp_path / name)


def test_no_network_is_said_in_one_sentence(cache, capsys):
    with pytest.raises(ValueError) as error:
        VGG("54")
    said = str(error.value)
    for part in (VGG19_Weights.IMAGENET1K_V1.url, "Name or service", f"weights=FILE with that {FILE}", "content=mse"):
        assert part in said
    assert "\n" not in said and not capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [RuntimeError('invalid hash value (expected "dcbb9e9d")'), TimeoutError(), EOFError()]
)
def test_every_way_to_fail_is_said_so(error, cache, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(ValueError, match=re.escape(f"({str(error) or type(error).__name__})")):
        VGG("22")


def test_a_damaged_cache_is_said_so(cache):
    (cache / FILE).write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"could not be had from torch's cache"):
        VGG("22")


def test_torchs_cache_is_used(cache, file):
    (cache / FILE).symlink_to(file)
    loss = VGG("22")
    state = torch.load(file, weights_only=True)
    assert torch.equal(loss.network[0].weight, state["features.0.weight"])


def test_configs(trusted):
    made = {}
    for name in choices("model/content"):
        config = OmegaConf.load(CONFIGS / "model" / "content" / f"{name}.yaml")
        if "weights" in config:
            assert config.weights == ""
            config.weights = str(trusted)
        made[name] = build(config)
        assert "https://arxiv.org" in header(f"model/content/{name}")
        assert all(key.meaning for key in keys(f"model/content/{name}"))
    assert {name: type(loss) for name, loss in made.items()} == {"mse": MSE, "l1": L1, "vgg22": VGG, "vgg54": VGG}
    assert (made["vgg22"].layer, made["vgg54"].layer) == ("22", "54")
