"""Layers that let D see a batch as a whole, and spectral norm: against the papers' formulas."""

import pytest
import torch
from torch import nn

from gancli.networks import dcgan, mlp
from gancli.networks.layers import MinibatchDiscrimination, MinibatchStd, minibatch_layer


def test_minibatch_discrimination_is_the_formula():
    """o_b(i) = sum over j other than i of exp(-|M_ib - M_jb|_1), beside the features."""
    torch.manual_seed(0)
    layer, f = MinibatchDiscrimination(7, kernels=3, dims=2), torch.randn(4, 7)
    made = layer(f)
    assert made.shape == (4, 10) and torch.equal(made[:, :7], f)
    m = (f @ layer.project.weight.T).view(4, 3, 2)
    for i in range(4):
        for b in range(3):
            expected = sum(float(torch.exp(-(m[i, b] - m[j, b]).abs().sum())) for j in range(4) if j != i)
            assert made[i, 7 + b].item() == pytest.approx(expected, rel=1e-5)


def test_a_collapsed_batch_is_seen():
    layer, f = MinibatchDiscrimination(7, kernels=3), torch.randn(5, 7)
    assert torch.allclose(layer(f[:1].expand(5, 7))[:, 7:], torch.full((5, 3), 4.0))  # as near as can be to 4 others
    assert torch.allclose(MinibatchStd()(f[:1].expand(5, 7))[:, 7], torch.full((5,), 1e-4))
    maps = torch.randn(6, 2, 3, 3)
    plane = MinibatchStd()(maps)[:, 2]
    assert torch.allclose(plane, maps.std(0, correction=0).mean().expand(6, 3, 3), atol=1e-5)


def test_minibatch_discrimination_can_be_differentiated_twice():
    """Penalties do so."""
    layer = MinibatchDiscrimination(3, kernels=2, dims=2).double()
    assert torch.autograd.gradgradcheck(layer, torch.randn(4, 3, dtype=torch.float64, requires_grad=True))


def test_every_d_takes_every_minibatch_layer():
    x, c = torch.randn(4, 3, 16, 16), torch.zeros(4, 0)
    for network in (dcgan, mlp):
        for kind in ("none", "discrimination", "std"):
            D = network.Discriminator(3, 16, width=4, minibatch=kind)
            logits = D(x, c).logits
            assert logits.shape == (4,)
            alone = torch.stack([D.eval()(x[i : i + 1], c[:1]).logits[0] for i in range(4)])
            assert torch.allclose(D(x, c).logits, alone, atol=1e-5) == (kind == "none")  # the others see the batch
    with pytest.raises(
        ValueError, match=r"model.minibatch=stdd is not one of none, discrimination, std; did you mean std"
    ):
        minibatch_layer("stdd", 4)


@pytest.mark.parametrize("network", [dcgan, mlp])
def test_spectral_norm_agrees_with_a_singular_value_decomposition(network):
    torch.manual_seed(0)
    D = network.Discriminator(3, 16, width=4, norm="spectral")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in D.modules())
    for _ in range(50):
        D(torch.randn(8, 3, 16, 16), torch.zeros(8, 0))
    D.eval().requires_grad_(False)
    layers = [layer for layer in D.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert layers
    for layer in layers:
        original = layer.parametrizations.weight.original
        assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1, abs=1e-2)
        assert torch.allclose(layer.weight * torch.linalg.svdvals(original.flatten(1))[0], original, rtol=1e-2)


def test_unknown_norms_are_refused():
    with pytest.raises(ValueError, match=r"model.norm=batch is not one of none, spectral"):
        mlp.Discriminator(3, 16, norm="batch")
    with pytest.raises(ValueError, match=r"model.norm=spectrall is not one of .*did you mean spectral"):
        dcgan.Discriminator(3, 16, norm="spectrall")
