"""The residual networks of SN-GAN, projection and WGAN-GP."""

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, relu

from gancli.networks.resnet import ClassBatchNorm, Discriminator, DownBlock, Generator, UpBlock


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape) * 2 - 1


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_at_32_are_the_papers():
    with torch.device("meta"):
        G, D = Generator(128, 3, 32), Discriminator(3, 32, norm="none")
        conditional = Generator(128, 3, 32, classes=10), Discriminator(3, 32, classes=10, norm="none", projection=True)
    # By hand: z to 4x4x256; per block two 3x3, one 1x1, two norms; norm and 3x3 to the image.
    assert count(G) == 129 * 4096 + 3 * (2 * 9 * 256**2 + 256**2 + 4 * 256) + 512 + 9 * 256 * 3 + 3 == 4_274_435
    # 3x3 and 1x1 from the image, then seven 3x3 and one 1x1 of 128 to 128 with biases, then linear.
    assert count(D) == (27 + 3 + 2) * 128 + (7 * 9 + 1) * 128**2 + 8 * 128 + 128 == 1_053_824
    assert count(conditional[0]) - count(G) == 7 * 2 * 256 * 9  # ten gains and biases instead of one
    assert count(conditional[1]) - count(D) == 10 * 128
    assert [type(block) for block in G.blocks] == [UpBlock] * 3
    assert [block.halve for block in D.blocks] == [True, True, False, False]
    assert [block.first for block in D.blocks] == [True, False, False, False]


@pytest.mark.parametrize(("size", "side"), [(8, 4), (16, 8), (28, 14), (32, 8), (64, 8)])
def test_d_halves_until_less_than_16_pixels_remain(size, side):
    assert Discriminator(1, size, 2).blocks(noise(1, 1, size, size)).shape == (1, 2, side, side)


def test_an_up_block_is_the_sum_of_branch_and_shortcut():
    block, x, c = UpBlock(3, 4, 0).eval(), torch.randn(2, 3, 5, 5), torch.zeros(2, 0)
    twice = nn.UpsamplingNearest2d(scale_factor=2)
    inner = conv2d(twice(relu(block.norm1(x, c))), block.conv1.weight, padding=1)
    branch = block.conv2(relu(block.norm2(inner, c)))
    assert torch.allclose(block(x, c), branch + block.shortcut(twice(x)), atol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_a_down_block_is_the_sum_of_branch_and_shortcut(first):
    block, x = DownBlock(3, 4, first), torch.randn(2, 3, 6, 6)
    inner = relu(block.conv1(x if first else relu(x)))
    branch = avg_pool2d(conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1), 2)
    assert torch.allclose(block(x), branch + avg_pool2d(block.shortcut(x), 2), atol=1e-6)
    same_size = DownBlock(3, 3, halve=False)
    assert torch.allclose(same_size(x), same_size.conv2(relu(same_size.conv1(relu(x)))) + x, atol=1e-6)


def test_class_batch_norm_gives_each_class_its_own_gain_and_bias():
    norm, x = ClassBatchNorm(4, 3), 2 + 5 * torch.randn(64, 4, 6, 6)
    nn.init.normal_(norm.table)
    y = norm(x, torch.eye(3)[torch.zeros(64, dtype=torch.long)])
    gain, bias = norm.table[0].detach().chunk(2)
    assert torch.allclose(y.mean((0, 2, 3)), bias, atol=1e-4)
    assert torch.allclose(y.std((0, 2, 3), correction=0), (1 + gain).abs(), atol=1e-4)
    assert torch.allclose(norm.running_mean, 0.1 * x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * x.var((0, 2, 3)), rtol=1e-4)
    norm.eval()
    a, b, half = (norm(x[:1], torch.tensor([c])) for c in ([1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]))
    assert not torch.allclose(a, b) and torch.allclose(half, (a + b) / 2, atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_half_of_two_classes_lies_between_them(train):
    G = Generator(10, 1, 16, 8, classes=3).train(train)
    z = torch.randn(1, 10).expand(3, -1)
    a, b, half = G(z, torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]]))
    assert 0 < (half - a).norm() < (b - a).norm() and 0 < (half - b).norm() < (b - a).norm()


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_projection_adds_the_embedding_times_the_features(norm):
    D = Discriminator(1, 16, 8, classes=3, norm=norm, projection=True, auxiliary=True).eval()
    logits, f, class_logits, _ = D(noise(3, 1, 16, 16), torch.eye(3))
    expected = torch.stack([f[i] @ D.linear.weight[0] + f[i] @ D.embed.weight[:, i] for i in range(3)])
    assert torch.allclose(logits, expected, atol=1e-5) and class_logits.shape == (3, 3)


def test_features_are_summed_or_averaged_over_positions():
    D, mean = Discriminator(1, 16, 8).eval(), Discriminator(1, 16, 8, pool="mean").eval()
    mean.load_state_dict(D.state_dict())
    x, c = noise(2, 1, 16, 16), torch.zeros(2, 0)
    assert torch.allclose(D(x, c).features, 64 * mean(x, c).features, rtol=1e-4)


def test_initial_weights_have_xavier_gains():
    D = Discriminator(3, 32, 64, norm="none")
    conv, shortcut = D.blocks[1].conv1.weight, D.blocks[1].shortcut.weight
    assert conv.std().item() == pytest.approx((2 * 2 / (2 * 64 * 9)) ** 0.5, rel=0.02)
    assert shortcut.std().item() == pytest.approx((2 / (2 * 64)) ** 0.5, rel=0.03)
    assert all(not p.any() for name, p in D.named_parameters() if name.endswith("bias"))
