"""R3GAN's networks: no normalisation, blocks that begin as zero, resampling that keeps constants."""

import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from gancli.networks.r3gan import Block, Discriminator, Down, Generator, Up, blur


def test_parameter_counts_at_32_and_width_768_are_the_papers():
    with torch.device("meta"):
        G, D = Generator(64, 3, 32, 768), Discriminator(3, 32, 768)
    parameters_G, parameters_D = (sum(p.numel() for p in network.parameters()) for network in (G, D))
    block = 2 * 768 * 1536 + 1536 * 16 * 9 + 2 * 1536
    assert G.layers[0].mix.groups == 96
    assert parameters_G == 8 * block + 64 * 768 + 768 * 16 + 768 * 3 == 20_732_160
    assert parameters_D == 8 * block + 3 * 768 + 768 * 16 + 768 == 20_683_776
    assert [type(m) for m in G.layers] == [Block, Block, Up, Block, Block, Up, Block, Block, Up, Block, Block]
    assert not any("norm" in type(m).__name__.lower() for m in [*G.modules(), *D.modules()])


@pytest.mark.parametrize(("width", "groups"), [(4, 1), (8, 1), (12, 1), (16, 2), (20, 2), (28, 2), (128, 16)])
def test_groups_have_16_channels_or_more(width, groups):
    assert Block(width, 1).mix.groups == groups


def test_blocks_begin_as_their_shortcuts_and_scaled_by_depth():
    x = torch.randn(2, 64, 6, 6)
    one, many = Block(64, 1), Block(64, 16)
    assert torch.equal(one(x), x)
    # He's gain: the mean square behind a LeakyReLU is 1 (less at the edges, because of zero padding).
    for outputs in (one.expand(x), one.mix(torch.randn(2, 128, 32, 32))):
        assert leaky_relu(outputs, 0.2).square().mean().item() == pytest.approx(1, rel=0.1)
    for layer in ("expand", "mix"):
        ratio = getattr(many, layer).weight.std() / getattr(one, layer).weight.std()
        assert ratio.item() == pytest.approx(16 ** (-1 / 4), rel=0.05)


def test_the_first_step_is_as_long_for_any_number_of_blocks():
    """The purpose of L^(-1/4): gradient descent's first step changes the output by rate * |gradient|^2."""
    x, g = torch.randn(4, 32, 8, 8), torch.randn(4, 32, 8, 8)
    lengths = []
    for blocks in (1, 4, 16):
        stack = nn.Sequential(*[Block(32, blocks) for _ in range(blocks)])
        (stack(x) * g).sum().backward()
        lengths.append(sum(p.grad.square().sum().item() for p in stack.parameters()))
    assert lengths == pytest.approx([lengths[0]] * 3, rel=0.1)


@pytest.mark.parametrize(("resample", "shape"), [(blur, (5, 7)), (Up(), (10, 14)), (Down(2), (2, 3))])
def test_a_constant_stays_a_constant_at_the_edges_too(resample, shape):
    y = resample(torch.full((1, 2, 5, 7), 3.0))
    assert y.shape == (1, 2, *shape) and torch.allclose(y, torch.full_like(y, 3.0))


def test_doubling_on_a_gpu_is_doubling_on_a_cpu():
    x = torch.randn(2, 3, 5, 7)
    assert torch.allclose(blur(x.repeat_interleave(2, 2).repeat_interleave(2, 3)), Up()(x), atol=1e-6)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_images_and_logits_have_a_sane_scale_at_first(size):
    G, D, c = Generator(64, 3, size, 32), Discriminator(3, size, 32), torch.zeros(64, 0)
    with torch.no_grad():
        x = G(torch.randn(64, 64), c)
        logits = D(x, c).logits
    assert 0.1 < x.std() < 1.5
    assert logits.isfinite().all() and 0.01 < logits.std() < 10


def test_the_logit_is_the_projection_on_the_direction_of_the_class():
    D, x, c = Discriminator(1, 16, 8, classes=3), torch.rand(3, 1, 16, 16) * 2 - 1, torch.eye(3)
    logits, f, *_ = D(x, c)
    expected = torch.stack([D.linear.weight @ f[i] @ D.embed.weight[:, i] for i in range(3)])
    assert torch.allclose(logits, expected, atol=1e-5)
    unconditional = Discriminator(1, 16, 8)
    logits, f, *_ = unconditional(x, torch.zeros(3, 0))
    assert torch.allclose(logits, f @ unconditional.linear.weight[0], atol=1e-6)
