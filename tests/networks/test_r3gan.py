"""R3GAN's networks: no normalisation, blocks that begin as zero, resampling that keeps constants."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, pad, softplus

from gancli.networks.r3gan import Block, Discriminator, Down, Generator, Up, blur

NOTHING = torch.zeros(2, 0)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape) * 2 - 1


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def wake(network: nn.Module) -> None:
    """The zeros that blocks begin with become numbers, so that every layer has a say."""
    for block in network.modules():
        if isinstance(block, Block):
            nn.init.normal_(block.project.weight, 0.0, 0.1)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [8, 16, 28, 32, 33])
def test_any_size_is_made_and_read(size, classes):
    G, D = Generator(10, 3, size, 4, classes), Discriminator(3, size, 4, classes)
    c = torch.eye(max(classes, 2))[:2, :classes]
    x = G(torch.randn(2, 10), c)
    assert (G.z_dim, G.classes, G.size) == (10, classes, size)
    assert x.shape == (2, 3, size, size)
    assert D(x, c).features.shape == (2, 4) and D(x, c).logits.shape == (2,)


def test_at_32_and_768_it_is_the_papers():
    with torch.device("meta"):
        G, D = Generator(64, 3, 32, 768), Discriminator(3, 32, 768)
    block = 2 * 768 * 1536 + 1536 * 16 * 9 + 2 * 1536
    assert G.layers[0].mix.groups == 96
    assert count(G) == 8 * block + 64 * 768 + 768 * 16 + 768 * 3 == 20_732_160
    assert count(D) == 8 * block + 3 * 768 + 768 * 16 + 768 == 20_683_776
    assert [type(m) for m in G.layers] == [Block, Block, Up, Block, Block, Up, Block, Block, Up, Block, Block]
    assert not any("norm" in type(m).__name__.lower() for m in [*G.modules(), *D.modules()])


@pytest.mark.parametrize(("width", "groups"), [(4, 1), (8, 1), (12, 1), (16, 2), (20, 2), (28, 2), (128, 16)])
def test_groups_are_of_16_channels_or_more(width, groups):
    assert Block(width, 1).mix.groups == groups


def test_blocks_begin_as_their_shortcuts_and_scaled_by_depth():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 6, 6)
    one, many = Block(64, 1), Block(64, 16)
    assert torch.equal(one(x), x)
    expand, mix = (one.expand(x), one.mix(torch.randn(2, 128, 32, 32)))
    # He's gain: the mean square of what leaves a LeakyReLU is 1 (at the edges, zeros are seen: less).
    assert nn.functional.leaky_relu(expand, 0.2).square().mean().item() == pytest.approx(1, rel=0.1)
    assert nn.functional.leaky_relu(mix, 0.2).square().mean().item() == pytest.approx(1, rel=0.1)
    for layer in ("expand", "mix"):
        ratio = getattr(many, layer).weight.std() / getattr(one, layer).weight.std()
        assert ratio.item() == pytest.approx(16 ** (-1 / 4), rel=0.05)


def test_the_first_step_is_as_long_however_many_blocks_there_are():
    """What L^(-1/4) is for: of gradient descent's first step the output moves by rate * |gradient|^2."""
    torch.manual_seed(0)
    x, g = torch.randn(4, 32, 8, 8), torch.randn(4, 32, 8, 8)
    moves = []
    for blocks in (1, 4, 16):
        stack = nn.Sequential(*[Block(32, blocks) for _ in range(blocks)])
        (stack(x) * g).sum().backward()
        moves.append(sum(p.grad.square().sum().item() for p in stack.parameters()))
    assert moves == pytest.approx([moves[0]] * 3, rel=0.1)


def test_a_constant_stays_a_constant_at_the_edges_too():
    x = torch.full((1, 2, 5, 7), 3.0)
    for resample, shape in ((blur, (5, 7)), (Up(), (10, 14)), (Down(), (2, 3))):
        y = resample(x)
        assert y.shape == (1, 2, *shape) and torch.allclose(y, torch.full_like(y, 3.0))


def test_blur_is_the_convolution_with_1_2_1():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 7, 8)
    kernel = torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1])) / 16
    expected = conv2d(pad(x, (1, 1, 1, 1), mode="replicate"), kernel[None, None])
    assert torch.allclose(blur(x), expected, atol=1e-6)
    assert torch.allclose(Up()(x), interpolate(x, scale_factor=2, mode="bilinear"), atol=1e-6)
    # Down is [1, 3, 3, 1] / 8 at every second place.
    kernel = torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])) / 64
    expected = conv2d(pad(x, (1, 1, 1, 1), mode="replicate"), kernel[None, None], stride=2)
    assert torch.allclose(Down()(x), expected, atol=1e-6)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_images_and_logits_are_of_a_sane_size_at_first(size):
    torch.manual_seed(0)
    G, D = Generator(64, 3, size, 32), Discriminator(3, size, 32)
    with torch.no_grad():
        x = G(torch.randn(64, 64), torch.zeros(64, 0))
        logits = D(x, torch.zeros(64, 0)).logits
    assert 0.1 < x.std() < 1.5
    assert logits.isfinite().all() and 0.01 < logits.std() < 10


def test_the_logit_is_the_way_in_the_direction_of_the_class():
    torch.manual_seed(0)
    D = Discriminator(1, 16, 8, classes=3)
    wake(D)
    x, c = noise(3, 1, 16, 16), torch.eye(3)
    logits, f, _ = D(x, c)
    expected = torch.stack([D.linear.weight @ f[i] @ D.embed.weight[:, i] for i in range(3)])
    assert torch.allclose(logits, expected, atol=1e-5)
    plain = Discriminator(1, 16, 8)
    logits, f, _ = plain(x, torch.zeros(3, 0))
    assert torch.allclose(logits, f @ plain.linear.weight[0], atol=1e-6)


def test_classes_change_images_and_logits():
    torch.manual_seed(0)
    G, D = Generator(10, 1, 16, 8, classes=3), Discriminator(1, 16, 8, classes=3)
    x = G(torch.randn(1, 10).expand(3, -1), torch.eye(3))
    assert not torch.allclose(x[0], x[1])
    assert len(set(D(x[:1].expand(3, -1, -1, -1), torch.eye(3)).logits.tolist())) == 3


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_two_rounds_move_every_parameter_and_the_first_all_that_is_not_behind_a_zero(norm, classes):
    torch.manual_seed(0)
    G, D = Generator(10, 3, 16, 8, classes), Discriminator(3, 16, 8, classes, norm=norm)
    both = nn.ModuleList([G, D])
    optimizers = {player: torch.optim.Adam(player.parameters(), 2e-4, (0.0, 0.99)) for player in (D, G)}
    z, x = torch.randn(8, 10), noise(8, 3, 16, 16)
    c = torch.eye(max(classes, 1))[torch.arange(8) % max(classes, 1), :classes]
    before = {name: p.detach().clone() for name, p in both.named_parameters()}

    def play() -> set[str]:
        for player, sign in ((D, -1), (G, 1)):
            optimizers[player].zero_grad()
            loss = softplus(sign * (D(x, c).logits - D(G(z, c), c).logits)).mean()
            loss.backward(inputs=list(player.parameters()))
            optimizers[player].step()
        return {name for name, p in both.named_parameters() if torch.equal(p, before[name])}

    still = play()
    asleep = {name for name in before if ".expand." in name or ".mix." in name}
    assert still == (asleep if norm == "none" else {name for name in asleep if name.startswith("0.")})
    assert not play()


@pytest.mark.parametrize(("kind", "extra"), [("none", 0), ("std", 1), ("discrimination", 16)])
def test_the_minibatch_layer_stands_before_the_last(kind, extra):
    D = Discriminator(1, 16, 4, classes=3, minibatch=kind)
    logits, f, _ = D(noise(3, 1, 16, 16), torch.eye(3))
    assert f.shape == (3, 4 + extra) and logits.shape == (3,)


def test_spectral_norm_holds_every_layer_at_one():
    torch.manual_seed(0)
    D = Discriminator(3, 16, 8, norm="spectral")
    for _ in range(30):
        logits = D(noise(2, 3, 16, 16), NOTHING).logits
    assert logits.isfinite().all()
    for layer in D.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item() == pytest.approx(1, abs=0.02)


def test_d_can_be_differentiated_twice():
    torch.manual_seed(0)
    D = Discriminator(1, 8, 2, blocks=1).double()
    wake(D)
    x = noise(2, 1, 8, 8).double().requires_grad_()
    names, weights = zip(*((name, p.detach().requires_grad_()) for name, p in D.named_parameters()))

    def judge(x, *weights):
        return torch.func.functional_call(D, dict(zip(names, weights)), (x, NOTHING)).logits

    assert torch.autograd.gradcheck(judge, (x, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(judge, (x, *weights), fast_mode=True)


def test_what_cannot_be_is_said_in_a_sentence():
    with pytest.raises(ValueError, match=r"model.norm=batch is not one of none, spectral"):
        Discriminator(3, 32, 4, norm="batch")
    with pytest.raises(ValueError, match=r"data.size=7; type model=mlp"):
        Generator(10, 3, 7)
