"""Super-resolution: the networks of the papers, and the objective in its two phases."""

import json

import pytest
import torch
from helpers import config, start
from torch import nn

import gancli
from gancli.images import enlarge
from gancli.networks.sr import Compact, Discriminator, PatchDiscriminator, SRResNet
from gancli.transforms.degradation import Degradation

NETWORKS = [(Compact, {"depth": 3}), (SRResNet, {"depth": 2})]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def run_network(network: nn.Module, c: torch.Tensor) -> torch.Tensor:
    return network(torch.zeros(len(c), 0), c)


def awake(network: nn.Module) -> nn.Module:
    """In eval mode, with nothing zero, so that everything a layer reaches has a say."""
    for p in network.parameters():
        nn.init.uniform_(p, 0.01, 0.1)
    return network.eval()


def test_the_networks_have_the_sizes_of_the_papers():
    """Counted from figure 4: SRResNet x4 1.55 million; D at 96 pixels 23.56 million."""
    assert count(SRResNet()) == 1_547_350
    assert count(Discriminator()) == 23_563_649
    assert count(Compact(depth=11)) == 116_496


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("network", "options"), NETWORKS)
def test_any_size_is_enlarged_exactly(network, options, scale):
    G = network(width=4, scale=scale, **options).eval()
    for h, w in ((1, 1), (1, 7), (5, 3)):
        assert run_network(G, torch.rand(2, 3, h, w)).shape == (2, 3, scale * h, scale * w)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("network", "options"), NETWORKS)
def test_reach_is_as_far_as_a_pixel_has_a_say(network, options, scale):
    """The gradient of an output pixel: nothing beyond `halo`, something at it."""
    G = awake(network(width=4, scale=scale, **options))
    side = 2 * G.halo + 7
    c = torch.rand(1, 3, side, side, requires_grad=True)
    middle = side // 2
    y = run_network(G, c)[:, :, middle * scale : (middle + 1) * scale, middle * scale : (middle + 1) * scale]
    (slope,) = torch.autograd.grad(y.sum(), c)
    rows = slope.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() == middle - G.halo and rows.max() == middle + G.halo


def test_the_untrained_compact_network_is_bicubic():
    """Pillow's, which is Matlab's; PyTorch's without antialias is another."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(64, 192, (9, 12, 3), dtype=np.uint8))
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    for scale in (2, 3, 4):
        made = run_network(Compact(scale=scale), x)
        assert torch.equal(made, enlarge(x, scale))
        theirs = np.asarray(picture.resize((12 * scale, 9 * scale), Image.Resampling.BICUBIC)).astype(float)
        ours = ((made[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).detach().numpy()
        assert abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pixel_shuffle_begins_without_checkerboard(scale):
    """A constant picture stays constant in the middle, out of reach of the borders."""
    torch.manual_seed(0)
    G = SRResNet(width=8, depth=1, scale=scale).eval()
    side = 2 * G.halo + 3
    y = run_network(G, torch.full((1, 3, side, side), 0.3))[:, :, G.halo * scale : -G.halo * scale]
    y = y[..., G.halo * scale : -G.halo * scale]
    assert y.std((2, 3)).max() < 1e-6


def test_the_patch_discriminator_sees_what_was_given():
    D, x, c = PatchDiscriminator(width=4, scale=2), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 8, 8)
    assert D(x, c).logits.shape == (2, 4, 4)
    assert not torch.allclose(D.eval()(x, c).logits, D(x, torch.zeros_like(c)).logits)


def test_g_plays_alone_first_then_against_d(tmp_path):
    run = start(tmp_path / "run", "srgan", "model.pretrain=0.5", "trainer.log_every=1")
    run.train()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    terms = [("G/content" in row, "D/adversarial" in row, "G/adversarial" in row) for row in rows if "lr" in row]
    assert terms == [(True, False, False)] * 3 + [(True, True, True)] * 3
    # The last half of the second phase is played at a tenth of the rate.
    assert [row["lr"] for row in rows if "lr" in row] == pytest.approx([1e-4] * 5 + [1e-5])
    psnr = [row["psnr"] for row in rows if "psnr" in row]
    assert len(psnr) == 2 and all(5 < value < 60 for value in psnr)


def test_the_second_phase_is_content_and_a_thousandth_of_ds_opinion(tmp_path):
    run = start(tmp_path / "run", "srgan", "model.pretrain=0")
    objective = run.trainer.objective
    x, none = run.trainer.next_batch()
    _, fakes = objective.discriminator_loss(x, none, keep_fakes=True)
    _, c, made = fakes
    assert torch.equal(c, Degradation(4)(x)), "D and G are given what was made of x"
    objective.D.eval()
    terms, _ = objective.generator_loss(x, none, fakes)
    assert torch.allclose(terms["G/content"], (made - x).square().mean())
    assert torch.allclose(terms["G/adversarial"], 1e-3 * nn.functional.softplus(-objective.D(made, c).logits).mean())


def test_a_run_starts_from_anothers_weights(tmp_path):
    start(tmp_path / "first", "sr_compact").train()
    first = gancli.load(tmp_path / "first").network
    second = start(tmp_path / "second", "sr_compact_gan", f"trainer.start={tmp_path / 'first'}")
    for G in (second.trainer.objective.G, second.trainer.ema.network):
        assert all(torch.equal(a, b) for a, b in zip(G.parameters(), first.parameters()))
    with pytest.raises(ValueError, match=r"the G of .*last\.safetensors, a sr_compact, does not fit this model's"):
        start(tmp_path / "third", "sr_compact", f"trainer.start={tmp_path / 'first'}", "model.width=6")
    with pytest.raises(ValueError, match="there is no checkpoint"):
        start(tmp_path / "fourth", "sr_compact", "trainer.start=nowhere.safetensors")


def test_a_preview_shows_bicubic_ours_and_the_real_one(tmp_path):
    run = start(tmp_path / "run", "sr_compact")
    z, c, x = run.preview.inputs
    shown = run.trainer.objective.preview(run.trainer.ema.network, z, c, x)
    assert shown.shape == (len(x), 3, 16, 48)
    assert torch.equal(shown[..., :16], enlarge(c, 4)) and torch.equal(shown[..., 32:], x)


@pytest.mark.parametrize(
    ("model", "override", "message"),
    [
        ("srresnet", "model.scale=5", "model.scale=5"),
        ("srresnet", "model.scale=3", r"data\.size=16 is not a multiple of model\.scale=3; type data\.size=15"),
        ("srgan", "model.pretrain=2", r"model\.pretrain=2 .* type model\.pretrain=0\.5"),
        ("srgan", "model.norm=spectral", "model.norm=spectral is not one of batch, none"),
        ("sr_compact", "model.depth=0", "model.depth=10"),
    ],
)
def test_what_does_not_fit_is_refused(model, override, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        start(tmp_path / "run", model, override)


def test_grey_images_are_enlarged_too(tmp_path):
    run = start(tmp_path / "run", "srgan", "data.channels=1")
    run.train()
    assert run.trainer.objective.G(torch.zeros(2, 0), torch.zeros(2, 1, 4, 4)).shape == (2, 1, 16, 16)


def test_sampling_from_noise_is_refused(tmp_path):
    start(tmp_path / "run", "sr_compact").train()
    with pytest.raises(ValueError, match="gan upscale"):
        gancli.load(tmp_path / "run").sample(4)


def test_every_content_can_be_chosen():
    assert config("model=srgan", "model/content=vgg54").model.content.layer == "54"
