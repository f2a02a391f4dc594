"""The masked autoencoder: what it sees, what its error counts, and that it learns."""

import pytest
import torch

from gancli.losses.drifting import map_features
from gancli.networks.masked_autoencoder import MaskedAutoencoder


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, [32, 48]), (1, 10)])
def test_maps_halve_the_size_and_any_size_has_an_error(channels, size):
    E = MaskedAutoencoder(channels, size, width=4)
    height, width = (size, size) if isinstance(size, int) else size
    x = torch.rand(3, channels, height, width) * 2 - 1
    maps = E.features(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(4 << i, height >> i + 1, width >> i + 1) for i in range(len(maps))]
    assert E(x).isfinite() and [f.shape[1] for f in map_features(maps)] == [3] * 4 * len(maps)


def test_the_error_is_that_of_hidden_pixels_which_the_encoder_does_not_see(monkeypatch):
    E = MaskedAutoencoder(1, 8, width=4, patch=4, masked=0.5)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.tensor([[0.9, 0.1], [0.9, 0.9]]).expand(shape))
    x = torch.randn(2, 1, 8, 8)
    hidden, shown = x.clone(), x.clone()
    hidden[..., :4, 4:] += 1
    shown[..., 4:, :4] += 1
    outputs = []
    E.decoder.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    errors = [E(images).item() for images in (x, hidden, shown)]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    assert errors[0] == pytest.approx((outputs[0] - x)[..., :4, 4:].square().mean().item(), rel=1e-5)
    assert errors[1] == pytest.approx((outputs[0] - hidden)[..., :4, 4:].square().mean().item(), rel=1e-5)


def test_it_learns_to_continue_stripes():
    torch.manual_seed(0)
    E = MaskedAutoencoder(1, 16, width=8)
    optimizer = torch.optim.Adam(E.parameters(), 5e-3)
    stripes = torch.where(torch.arange(16) % 4 < 2, 1.0, -1.0)
    errors = []
    for step in range(90):
        x = stripes.roll(step).expand(16, 1, 16, 16)
        x = torch.where(torch.arange(16).reshape(16, 1, 1, 1) < 8, x, x.transpose(2, 3))
        errors.append(E(x))
        optimizer.zero_grad()
        errors[-1].backward()
        optimizer.step()
    assert errors[-1] < 0.3 * errors[0]


def test_features_of_maps_are_means_of_places_and_the_deviation():
    one = torch.randn(5, 3, 8, 8)
    whole, quarters, sixteenths, deviation = map_features([one])
    assert torch.allclose(whole[0], one.mean((2, 3))) and torch.allclose(quarters[1], one[:, :, :4, 4:].mean((2, 3)))
    assert sixteenths.shape == (16, 5, 3) and torch.allclose(
        deviation[0], one.flatten(2).std(2, correction=0), atol=1e-3
    )
