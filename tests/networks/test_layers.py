"""Minibatch layers against the papers' formulas."""

import torch

from gancli.networks.layers import MinibatchDiscrimination, MinibatchStd


def test_a_collapsed_batch_has_extreme_statistics():
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
