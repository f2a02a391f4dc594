"""Minibatch layers against the papers' formulas, convolutions of other sizes against two steps."""

import pytest
import torch

from gancli.networks.layers import DoublingConv, HalvingConv, MinibatchDiscrimination, MinibatchStd


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


@pytest.mark.parametrize("layer", [DoublingConv, HalvingConv])
@pytest.mark.parametrize("size", [(12, 16), (13, 17)])
def test_a_merged_convolution_has_the_values_and_gradients_of_two_steps(layer, size):
    torch.manual_seed(0)
    convolution = layer(3, 4).double()
    x = torch.randn(16, 3, *size, dtype=torch.float64, requires_grad=True)
    assert convolution.merges(x.shape[2] * x.shape[3] // 4, x)
    results = {}
    for training in (True, False):
        y = convolution.train(training)(x)
        gradients = torch.autograd.grad(y.square().sum(), [x, *convolution.parameters()], create_graph=True)
        penalty = gradients[0].square().sum()
        results[training] = [y, *gradients, *torch.autograd.grad(penalty, [x, *convolution.parameters()])]
    for merged, two_steps in zip(results[True], results[False], strict=True):
        torch.testing.assert_close(merged, two_steps, rtol=1e-11, atol=1e-9)


def test_a_convolution_of_few_pixels_is_not_merged():
    x = torch.randn(1, 3, 4, 4)
    assert not DoublingConv(3, 4).merges(16, x)
