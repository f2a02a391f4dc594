"""FastGAN's networks: every size, the gates of G, the reconstructions of D."""

import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from gancli.networks.fastgan import DecoderInputs, Discriminator, Generator, quarters


def networks(size: int, channels: int = 3, classes: int = 0) -> tuple[Generator, Discriminator]:
    return Generator(16, channels, size, 4, classes), Discriminator(channels, size, 4, classes)


@pytest.mark.parametrize(("size", "patches"), [(16, 5), (28, 11), (32, 5), (48, 9), (64, 5), (256, 5)])
def test_any_size_is_generated_and_discriminated(size, patches):
    G, D = networks(size)
    x = G(torch.randn(2, 16), torch.zeros(2, 0))
    assert x.shape == (2, 3, size, size) and x.abs().max() <= 1
    assert D(x, torch.zeros(2, 0)).logits.shape == (2, patches, patches)


def test_a_small_map_gates_the_channels_of_a_large_one():
    """With a gate that is shut for one channel, that channel is zero everywhere."""
    G, _ = networks(64)
    gate = G.gates["4"].gate
    x, small = torch.randn(2, 8, 64, 64), torch.randn(2, 64, 4, 4)
    expected = x * gate(adaptive_avg_pool2d(small, 4))
    assert torch.equal(G.gates["4"](x, small), expected) and gate(small).shape == (2, 8, 1, 1)
    assert list(G.gates) == ["4"] and list(networks(256)[0].gates) == ["4", "5", "6"]


def test_the_error_is_that_of_the_whole_image_and_of_a_quarter():
    _, D = networks(32, channels=1)
    image = torch.zeros(2, 1, 32, 32)
    image[:, :, 16:, 16:] = 1
    inputs = DecoderInputs(image, torch.zeros(2, 16, 16, 16), torch.zeros(2, 32, 8, 8))
    for decoder in (D.whole, D.part):
        nn.init.zeros_(decoder.layers[-1].weight)
        nn.init.zeros_(decoder.layers[-1].bias)
    # Of grey images the error of the whole is 1/4, and that of the quarter 1 in one case of four.
    errors = {round(D.reconstruction_error(inputs).item(), 6) for _ in range(40)}
    assert errors == {0.25, 1.25}
    assert torch.equal(quarters(image)[3], image[:, :, 16:, 16:]) and not quarters(image)[:3].any()


def test_each_map_reconstructs_its_own_part_of_the_image():
    D = Discriminator(1, 32, 4, norm="none")
    x = torch.randn(2, 1, 32, 32)
    D.reconstruction_error(D(x, torch.zeros(2, 0)).decoder_inputs).backward()
    assert all(p.grad is not None and p.grad.any() for d in (D.whole, D.part) for p in d.parameters())
    assert D.stem[0].weight.grad.any() and D.last[-1].weight.grad is None


def test_spectral_norm_bounds_every_layer_but_the_decoders():
    D = Discriminator(3, 32, 4, norm="spectral")
    weights = [name for name, _ in D.named_parameters() if name.endswith("parametrizations.weight.original")]
    assert weights and not any(name.startswith(("whole", "part")) for name in weights)
    convolutions = [m for part in (D.stem, D.downs, D.last) for m in part.modules() if isinstance(m, nn.Conv2d)]
    assert len(weights) == len(convolutions)


def test_small_images_are_refused():
    with pytest.raises(ValueError, match=r"16 pixels or more, but data\.size=8; type model=dcgan"):
        Discriminator(3, 8)
