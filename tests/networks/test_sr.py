"""Super-resolution: the networks of the papers, and the two phases of the objective."""

import json

import numpy as np
import pytest
import torch
from helpers import start
from PIL import Image
from torch import nn

import gancli
from gancli.images import enlarge
from gancli.networks.sr import Attentive, Compact, Discriminator, PatchDiscriminator, SRResNet
from gancli.transforms.degradation import Degradation

NETWORKS = [(Compact, {"depth": 3}), (SRResNet, {"depth": 2}), (Attentive, {"depth": 1})]


def run_network(network: nn.Module, c: torch.Tensor) -> torch.Tensor:
    return network(torch.zeros(len(c), 0), c)


@pytest.mark.parametrize(
    ("network", "parameters"), [(SRResNet(), 1_547_350), (Discriminator(), 23_563_649), (Compact(depth=11), 116_496)]
)
def test_parameter_counts_are_the_papers(network, parameters):
    """Counted from figure 4: SRResNet x4 1.55 million; D at 96 pixels 23.56 million."""
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("network", "options"), NETWORKS)
def test_any_size_is_enlarged_and_halo_is_the_radius_of_the_receptive_field(network, options, scale):
    """The gradient of an output pixel is zero beyond `halo` and not zero at it."""
    G = network(width=4, scale=scale, **options).eval()
    for h, w in ((1, 1), (1, 7), (5, 3)):
        assert run_network(G, torch.rand(2, 3, h, w)).shape == (2, 3, scale * h, scale * w)
    for p in G.parameters():
        nn.init.uniform_(p, 0.01, 0.1)  # the zeros of the start would hide inputs
    side = 2 * G.halo + 7
    c = torch.rand(1, 3, side, side, requires_grad=True)
    middle = side // 2
    y = run_network(G, c)[:, :, middle * scale : (middle + 1) * scale, middle * scale : (middle + 1) * scale]
    (gradient,) = torch.autograd.grad(y.sum(), c)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() == middle - G.halo and rows.max() == middle + G.halo


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_untrained_compact_network_is_bicubic(scale):
    """Pillow's, which is Matlab's; PyTorch's without antialias is another."""
    image = Image.fromarray(np.random.default_rng(0).integers(64, 192, (9, 12, 3), dtype=np.uint8))
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    y = run_network(Compact(scale=scale), x)
    assert torch.equal(y, enlarge(x, scale))
    expected = np.asarray(image.resize((12 * scale, 9 * scale), Image.Resampling.BICUBIC)).astype(float)
    assert abs(((y[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).detach().numpy() - expected).max() <= 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pixel_shuffle_begins_without_checkerboard(scale):
    """A constant image stays constant in the middle, farther than the halo from the borders."""
    G = SRResNet(width=8, depth=1, scale=scale).eval()
    side, border = 2 * G.halo + 3, G.halo * scale
    y = run_network(G, torch.full((1, 3, side, side), 0.3))[:, :, border:-border, border:-border]
    assert y.std((2, 3)).max() < 1e-6


def test_the_patch_discriminator_depends_on_the_small_image():
    D, x, c = PatchDiscriminator(width=4, scale=2), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 8, 8)
    assert D(x, c).logits.shape == (2, 4, 4)
    assert not torch.allclose(D.eval()(x, c).logits, D(x, torch.zeros_like(c)).logits)


def test_g_trains_alone_first_and_then_against_d(tmp_path):
    run = start(tmp_path / "run", "srgan", "model.pretrain=0.5", "trainer.log_every=1")
    run.train()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    terms = [("G/content" in row, "D/adversarial" in row, "G/adversarial" in row) for row in rows if "lr" in row]
    assert terms == [(True, False, False)] * 3 + [(True, True, True)] * 3
    # The learning rate falls to a tenth in the last half of the second phase.
    assert [row["lr"] for row in rows if "lr" in row] == pytest.approx([1e-4] * 5 + [1e-5])
    psnr = [row["psnr"] for row in rows if "psnr" in row]
    assert len(psnr) == 2 and all(5 < value < 60 for value in psnr)


def test_g_minimises_content_and_a_thousandth_of_the_adversarial_loss(tmp_path):
    run = start(tmp_path / "run", "srgan", "model.pretrain=0")
    objective = run.trainer.objective
    x, none = run.trainer.next_batch()
    _, fakes = objective.discriminator_loss(x, none, keep_fakes=True)
    _, c, fake = fakes
    assert torch.equal(c, Degradation(4)(x)), "D and G have the degraded x"
    objective.D.eval()
    terms, _ = objective.generator_loss(x, none, fakes)
    assert torch.allclose(terms["G/content"], (fake - x).square().mean())
    assert torch.allclose(terms["G/adversarial"], 1e-3 * nn.functional.softplus(-objective.D(fake, c).logits).mean())


def test_a_run_starts_from_the_weights_of_another(tmp_path):
    start(tmp_path / "first", "sr_compact").train()
    first = gancli.load(tmp_path / "first").network
    second = start(tmp_path / "second", "sr_compact_gan", f"trainer.start={tmp_path / 'first'}")
    for G in (second.trainer.objective.G, second.trainer.ema.network):
        assert all(torch.equal(a, b) for a, b in zip(G.parameters(), first.parameters()))
    body = start(
        tmp_path / "x2", "sr_compact", f"trainer.start={tmp_path / 'first'}", "model.scale=2"
    ).trainer.objective.G
    assert all(torch.equal(x, first.body.state_dict()[name]) for name, x in body.body.state_dict().items())
    with pytest.raises(ValueError, match=r"the G of .*last\.safetensors, a sr_compact, does not fit this model's"):
        start(tmp_path / "third", "sr_compact", f"trainer.start={tmp_path / 'first'}", "model.width=6")
    with pytest.raises(ValueError, match="there is no checkpoint"):
        start(tmp_path / "fourth", "sr_compact", "trainer.start=nowhere.safetensors")


def test_a_preview_shows_bicubic_generated_and_real_images(tmp_path):
    run = start(tmp_path / "run", "sr_compact")
    z, c, x = run.preview.inputs
    preview = run.trainer.objective.preview(run.trainer.ema.network, z, c, x)
    assert preview.shape == (len(x), 3, 16, 48)
    assert torch.equal(preview[..., :16], enlarge(c, 4)) and torch.equal(preview[..., 32:], x)


@pytest.mark.parametrize(
    ("model", "override", "message"),
    [
        ("srresnet", "model.scale=5", "model.scale=5"),
        ("srresnet", "model.scale=3", r"data\.size=16 is not a multiple of model\.scale=3; type data\.size=15"),
        ("srgan", "model.pretrain=2", r"model\.pretrain=2 .* type model\.pretrain=0\.5"),
        ("srgan", "model.norm=spectral", "model.norm=spectral is not one of batch, none"),
        ("sr_compact", "model.depth=0", "model.depth=0 is out of range"),
    ],
)
def test_impossible_options_are_refused(model, override, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        start(tmp_path / "run", model, override)


def test_grey_images_are_enlarged_and_noise_is_refused(tmp_path):
    run = start(tmp_path / "run", "srgan", "data.channels=1")
    run.train()
    assert run.trainer.objective.G(torch.zeros(2, 0), torch.zeros(2, 1, 4, 4)).shape == (2, 1, 16, 16)
    with pytest.raises(ValueError, match="gan upscale"):
        gancli.load(tmp_path / "run").sample(4)


def test_a_merged_network_is_the_same_function_with_fewer_weights():
    """The branches of each convolution are summed in their weights."""
    torch.manual_seed(0)
    G = Attentive(width=8, depth=2)
    nn.init.normal_(G.last.weight, std=0.1)
    merged, c = G.merge(), torch.rand(2, 3, 9, 7) * 2 - 1
    assert torch.allclose(run_network(G, c), run_network(merged, c), atol=1e-5)
    assert sum(p.numel() for p in merged.parameters()) < sum(p.numel() for p in G.parameters()) / 3
