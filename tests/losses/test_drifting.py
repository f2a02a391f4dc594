"""Drifting against a loop over pairs, and as an optimiser of points."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from gancli.losses.drifting import TEMPERATURES, drifting

CLASSES = torch.arange(12) % 3


def target(x: torch.Tensor, y: torch.Tensor, classes: list[int]) -> torch.Tensor:
    """Return where the field moves fakes x (N, pixels), one pair at a time: algorithm 2 of the paper."""
    n, pixels = x.shape
    pairs = [(i, j) for i in range(n) for j in range(n) if classes[i] == classes[j]]
    mean = sum(math.dist(x[i], y[j]) for i, j in pairs) / len(pairs)
    scale, moved = math.sqrt(pixels) / mean, x.clone() * math.sqrt(pixels) / mean
    for temperature in TEMPERATURES:
        kernel = torch.zeros(n, 2 * n, dtype=x.dtype)
        for i, j in pairs:
            kernel[i, j] = math.exp(-math.dist(x[i], y[j]) / mean / temperature)
            kernel[i, n + j] = math.exp(-math.dist(x[i], x[j]) / mean / temperature) if i != j else 0
        kernel = (kernel / kernel.sum(0, keepdim=True).clamp_min(1e-300) * kernel / kernel.sum(1, keepdim=True)).sqrt()
        field = torch.zeros_like(x)
        for i in range(n):
            real, fake = kernel[i, :n], kernel[i, n:]
            for j in range(n):
                field[i] += scale * (real[j] * fake.sum() * (y[j] - x[i]) - fake[j] * real.sum() * (x[j] - x[i]))
        moved += field / field.square().mean().sqrt()
    return moved / scale


@pytest.mark.parametrize("conditional", [True, False])
def test_the_loss_and_its_gradient_are_those_of_a_loop_over_pairs(conditional):
    torch.manual_seed(0)
    fake, real = torch.rand(12, 1, 2, 3, requires_grad=True), torch.rand(12, 1, 2, 3)
    c = one_hot(CLASSES, 3).float() if conditional else torch.zeros(12, 0)
    classes = CLASSES.tolist() if conditional else [0] * 12
    loss = drifting(fake, real, c)
    (gradient,) = torch.autograd.grad(loss, fake)
    x, y = fake.detach().flatten(1).double(), real.flatten(1).double()
    away = x - target(x, y, classes)
    scale = away.square().mean().sqrt() / loss.detach().double().sqrt()
    assert torch.allclose(gradient.flatten(1).double(), 2 * away / away.numel() / scale.square(), rtol=1e-3, atol=1e-6)


def test_points_drift_to_every_mode_of_their_class():
    """Class 0 has modes at -2 and 2, class 1 one at 1; all fakes start around 0."""
    torch.manual_seed(0)
    classes = torch.arange(128) % 2
    real = torch.where(classes == 0, torch.tensor([-2.0, 2.0]).repeat_interleave(64), torch.tensor(1.0))
    real = (real + 0.1 * torch.randn(128)).reshape(128, 1, 1, 1)
    fake = (0.1 * torch.randn(128, 1, 1, 1)).requires_grad_()
    optimizer = torch.optim.Adam([fake], 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        drifting(fake, real, one_hot(classes, 2).float()).backward()
        optimizer.step()
    x = fake.detach().flatten()
    assert (x[classes == 1] - 1).abs().max() < 0.8
    near = [int(((x[classes == 0] - mode).abs() < 0.5).sum()) for mode in (-2, 2)]
    assert min(near) > 20 and sum(near) > 55, near


def test_autocast_does_not_round_the_field():
    torch.manual_seed(0)
    fake, real, c = torch.rand(8, 1, 4, 4), torch.rand(8, 1, 4, 4), torch.zeros(8, 0)
    exact = drifting(fake, real, c)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(drifting(fake, real, c), exact)
