"""The residual networks of SN-GAN, projection and WGAN-GP."""

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from gancli.networks.resnet import BatchNorm, ClassBatchNorm, Discriminator, DownBlock, Generator, UpBlock

NOTHING = torch.zeros(2, 0)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape) * 2 - 1


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [8, 16, 28, 32, 33])
def test_any_size_is_made_and_read(size, classes):
    G = Generator(10, 3, size, 4, classes)
    D = Discriminator(3, size, 4, classes, projection=classes > 0, auxiliary=classes > 0)
    c = torch.eye(max(classes, 2))[:2, :classes]
    x = G(torch.randn(2, 10), c)
    assert (G.z_dim, G.classes, G.size) == (10, classes, size)
    assert x.shape == (2, 3, size, size) and x.abs().max() <= 1
    logits, features, class_logits = D(x, c)
    assert logits.shape == (2,) and features.shape == (2, 4)
    assert class_logits.shape == (2, classes) if classes else class_logits is None


def test_at_32_it_is_the_papers():
    with torch.device("meta"):
        G, D = Generator(128, 3, 32), Discriminator(3, 32, norm="none")
        conditional = Generator(128, 3, 32, classes=10), Discriminator(3, 32, classes=10, norm="none", projection=True)
    # By hand: z to 4x4x256; per block two 3x3, one 1x1, two norms; norm and 3x3 to the image.
    assert count(G) == 129 * 4096 + 3 * (2 * 9 * 256**2 + 256**2 + 4 * 256) + 512 + 9 * 256 * 3 + 3 == 4_274_435
    # 3x3 and 1x1 from the image, then seven 3x3 and one 1x1 of 128 to 128 with biases, then linear.
    assert count(D) == (27 + 3 + 2) * 128 + (7 * 9 + 1) * 128**2 + 8 * 128 + 128 == 1_053_824
    assert count(conditional[0]) - count(G) == 7 * 2 * 256 * 9  # ten gains and biases where there was one
    assert count(conditional[1]) - count(D) == 10 * 128
    assert [type(block) for block in G.blocks] == [UpBlock] * 3
    assert [block.halve for block in D.blocks] == [True, True, False, False]
    assert [block.first for block in D.blocks] == [True, False, False, False]


@pytest.mark.parametrize(("size", "side"), [(8, 4), (16, 8), (28, 14), (32, 8), (64, 8)])
def test_d_halves_until_less_than_16_pixels_remain(size, side):
    D = Discriminator(1, size, 2)
    assert D.blocks(noise(1, 1, size, size)).shape == (1, 2, side, side)


def test_up_block_is_the_sum_of_its_two_ways():
    torch.manual_seed(0)
    block, x = UpBlock(3, 4, 0).eval(), torch.randn(2, 3, 5, 5)
    twice = nn.UpsamplingNearest2d(scale_factor=2)
    way = block.conv2(relu(block.norm2(block.conv1(twice(relu(block.norm1(x, NOTHING)))), NOTHING)))
    assert torch.allclose(block(x, NOTHING), way + block.shortcut(twice(x)), atol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_down_block_is_the_sum_of_its_two_ways(first):
    torch.manual_seed(0)
    block, x = DownBlock(3, 4, first), torch.randn(2, 3, 6, 6)
    halve = nn.AvgPool2d(2)
    way = halve(block.conv2(relu(block.conv1(x if first else relu(x)))))
    assert torch.allclose(block(x), way + halve(block.shortcut(x)), atol=1e-6)
    plain = DownBlock(3, 3, halve=False)
    assert torch.allclose(plain(x), plain.conv2(relu(plain.conv1(relu(x)))) + x, atol=1e-6)


def test_class_batch_norm_normalises_and_then_gives_each_class_its_own_gain_and_bias():
    torch.manual_seed(0)
    norm, x = ClassBatchNorm(4, 3), 2 + 5 * torch.randn(64, 4, 6, 6)
    nn.init.normal_(norm.table)
    y = norm(x, torch.eye(3)[torch.zeros(64, dtype=torch.long)])
    gain, bias = norm.table[0].detach().chunk(2)
    assert torch.allclose(y.mean((0, 2, 3)), bias, atol=1e-4)
    assert torch.allclose(y.std((0, 2, 3), correction=0), (1 + gain).abs(), atol=1e-4)
    assert torch.allclose(norm.running_mean, 0.1 * x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * x.var((0, 2, 3)), rtol=1e-4)


def test_half_of_two_classes_lies_half_way_between_them():
    torch.manual_seed(0)
    norm, x = ClassBatchNorm(4, 3).eval(), torch.randn(1, 4, 6, 6)
    nn.init.normal_(norm.table)
    a, b, half = (norm(x, torch.tensor([c])) for c in ([1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]))
    assert not torch.allclose(a, b) and torch.allclose(half, (a + b) / 2, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_classes_change_images(train):
    torch.manual_seed(0)
    G = Generator(10, 1, 16, 8, classes=3).train(train)
    z = torch.randn(1, 10).expand(3, -1)
    a, b, half = G(z, torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]]))
    assert not torch.allclose(a, b) and not torch.allclose(a, half) and not torch.allclose(b, half)
    assert (half - a).norm() < (b - a).norm() and (half - b).norm() < (b - a).norm()


def test_without_classes_c_is_ignored_and_the_norm_has_a_gain_of_its_own():
    G = Generator(10, 1, 16, 4)
    assert sum(isinstance(m, BatchNorm) for m in G.modules()) == 5
    assert not any(isinstance(m, ClassBatchNorm) for m in G.modules())


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_projection_adds_the_embedding_times_the_features(norm):
    torch.manual_seed(0)
    D = Discriminator(1, 16, 8, classes=3, norm=norm, projection=True).eval()
    x, c = noise(3, 1, 16, 16), torch.eye(3)
    logits, f, _ = D(x, c)
    expected = torch.stack([f[i] @ D.linear.weight[0] + f[i] @ D.embed.weight[:, i] for i in range(3)])
    assert torch.allclose(logits, expected, atol=1e-5)
    assert len(set(D(x[:1].expand(3, -1, -1, -1), c).logits.tolist())) == 3


def test_features_are_summed_or_averaged_over_the_places():
    D = Discriminator(1, 16, 8)
    mean = Discriminator(1, 16, 8, pool="mean")
    mean.load_state_dict(D.state_dict())
    D.eval(), mean.eval()
    x = noise(2, 1, 16, 16)
    c = torch.zeros(2, 0)
    assert torch.allclose(D(x, c).features, 64 * mean(x, c).features, rtol=1e-4)


@pytest.mark.parametrize(("kind", "extra"), [("none", 0), ("std", 1), ("discrimination", 16)])
def test_the_minibatch_layer_stands_behind_pooling(kind, extra):
    D = Discriminator(1, 16, 4, classes=3, projection=True, auxiliary=True, minibatch=kind)
    logits, f, class_logits = D(noise(3, 1, 16, 16), torch.eye(3))
    assert f.shape == (3, 4 + extra) and logits.shape == (3,) and class_logits.shape == (3, 3)


def test_spectral_norm_holds_every_layer_at_one():
    torch.manual_seed(0)
    D = Discriminator(3, 32, 8, classes=4, projection=True, auxiliary=True)
    for _ in range(30):
        D(noise(4, 3, 32, 32), torch.eye(4))
    layers = [m for m in D.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 8 + 2 + 3  # 3x3, 1x1, and behind the pooling
    for layer in layers:
        assert torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item() == pytest.approx(1, abs=0.02)
    without = Discriminator(3, 16, 8, norm="none")
    assert not any(hasattr(m, "parametrizations") for m in without.modules())


def test_xavier_gains():
    torch.manual_seed(0)
    D = Discriminator(3, 32, 64, norm="none")
    conv, shortcut = D.blocks[1].conv1.weight, D.blocks[1].shortcut.weight
    assert conv.std().item() == pytest.approx((2 * 2 / (2 * 64 * 9)) ** 0.5, rel=0.02)
    assert shortcut.std().item() == pytest.approx((2 / (2 * 64)) ** 0.5, rel=0.03)
    assert all(not p.any() for name, p in D.named_parameters() if name.endswith("bias"))


def test_the_critic_can_be_differentiated_twice():
    torch.manual_seed(0)
    D = Discriminator(1, 8, 2, norm="none", pool="mean").double()
    x = noise(2, 1, 8, 8).double().requires_grad_()
    names, weights = zip(*((name, p.detach().requires_grad_()) for name, p in D.named_parameters()))

    def judge(x, *weights):
        return torch.func.functional_call(D, dict(zip(names, weights)), (x, NOTHING)).logits

    assert torch.autograd.gradcheck(judge, (x, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(judge, (x, *weights), fast_mode=True)


def test_what_cannot_be_is_said_in_a_sentence():
    with pytest.raises(ValueError, match=r"^projection needs classes, but data.classes=0; .* or model=sngan$"):
        Discriminator(3, 32, 4, projection=True)
    with pytest.raises(ValueError, match=r"^acgan needs classes, but data.classes=0; .* or model=dcgan$"):
        Discriminator(3, 32, 4, auxiliary=True)
    with pytest.raises(ValueError, match=r"model.norm=batch is not one of spectral, none"):
        Discriminator(3, 32, 4, norm="batch")
    with pytest.raises(ValueError, match=r"model.pool=max is not one of sum, mean"):
        Discriminator(3, 32, 4, pool="max")
    with pytest.raises(ValueError, match=r"data.size=7; type model=mlp"):
        Generator(10, 3, 7)
