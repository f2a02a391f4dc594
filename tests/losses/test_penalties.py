"""Penalties against closed forms on a D whose slope is known, and their gradients against finite differences."""

import math

import pytest
import torch
from torch import nn

from gancli.losses.penalties import DRAGAN, R1, R1R2, R2, Discriminated, GradientPenalty, Penalty, WeightClipping
from gancli.networks import dcgan, mlp

N, SLOPE = 6, torch.tensor([0.3, -1.2, 2.0, 0.5], dtype=torch.float64)


def linear(x, c):
    return x.flatten(1) @ SLOPE


def seen(judge, scale=1.0, seed=0):
    x = scale * torch.randn(N, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x.requires_grad_()
    return Discriminated(x, judge(x, torch.zeros(N, 0)))


def both(judge):
    return seen(judge), seen(judge, scale=2.0, seed=1)


def test_on_a_linear_d_every_penalty_is_known():
    real, fake = both(linear)
    squared = float(SLOPE.square().sum())
    c = torch.zeros(N, 0)
    unit = (math.sqrt(squared) - 1) ** 2
    known = {R1: squared / 2, R2: squared / 2, R1R2: squared, GradientPenalty: unit, DRAGAN: unit}
    for penalty, value in known.items():
        assert penalty(10.0)(linear, real, fake, c).item() == pytest.approx(value)


def test_r1_looks_at_real_images_and_r2_at_generated_ones():
    """D(x) = |x|^2 / 2 has the slope x: the penalty is the mean of |x|^2 / 2 over those images."""

    def square(x, c):
        return x.flatten(1).square().sum(1) / 2

    real, fake = both(square)
    c = torch.zeros(N, 0)
    assert R1(1.0)(square, real, fake, c).item() == pytest.approx(float(real.images.detach().square().sum()) / 2 / N)
    assert R2(1.0)(square, real, fake, c).item() == pytest.approx(float(fake.images.detach().square().sum()) / 2 / N)


def test_the_gradient_penalty_looks_between_the_two_and_dragan_around_the_real_ones():
    looked = []

    def judge(x, c):
        looked.append(x.detach())
        return linear(x, c)

    real, fake = both(linear)
    c = torch.zeros(N, 0)
    GradientPenalty(10.0)(judge, real, fake, c)
    share = ((looked[0] - real.images) / (fake.images - real.images)).flatten(1)
    assert torch.allclose(share, share[:, :1].expand_as(share))  # one place on its line an image
    assert (share >= 0).all() and (share <= 1).all() and share.std() > 0.1
    DRAGAN(10.0, spread=1e-6)(judge, real, fake, c)
    assert torch.allclose(looked[1], real.images, atol=1e-4)


def test_a_lazy_penalty_weighs_the_more_the_less_often_it_is_due():
    factors = [R1(0.5, every=4).weight_at(step, 0.0) for step in range(8)]
    assert factors == [2.0, 0, 0, 0, 2.0, 0, 0, 0]
    falling = R1(lambda progress: 1 - progress)
    assert [falling.weight_at(3, p) for p in (0.0, 0.25)] == [1.0, 0.75]


def networks() -> dict[str, tuple[nn.Module, int]]:
    torch.manual_seed(0)
    return {
        "mlp": (mlp.Discriminator(1, 4, width=3), 4),
        "mlp, spectral": (mlp.Discriminator(1, 4, width=3, norm="spectral"), 4),
        "mlp, std": (mlp.Discriminator(1, 4, width=3, minibatch="std"), 4),
        "dcgan": (dcgan.Discriminator(1, 8, width=2, norm="none"), 8),
        "dcgan, batch, std": (dcgan.Discriminator(1, 8, width=2, minibatch="std"), 8),
    }


@pytest.mark.parametrize(
    "penalty", [R1(1.0), R1R2(1.0), GradientPenalty(1.0), DRAGAN(1.0)], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("name", networks())
def test_the_slope_of_a_penalty_is_that_of_finite_differences(name, penalty):
    """Through D's own gradient, by D's weights, in float64."""
    network, size = networks()[name]
    network.double()
    network.eval()  # spectral norm's power iteration is a state; its weights are still functions of the parameters
    if "batch" in name:
        network.train()
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(4, 1, size, size, dtype=torch.float64, generator=generator) for _ in range(2))
    c = torch.zeros(4, 0, dtype=torch.float64)
    parameters = dict(network.named_parameters())
    # The last bias has no slope in D's slope, and autograd then has nothing to check.
    names = [n for n in parameters if n != "last.bias"]

    def value(*weights):
        def judge(images, c):
            return torch.func.functional_call(network, dict(zip(names, weights)), (images, c)).logits

        torch.manual_seed(2)
        real, fake = (i.clone().requires_grad_() for i in (x, y))
        real, fake = (Discriminated(i, judge(i, c)) for i in (real, fake))
        return penalty(judge, real, fake, c)

    weights = [parameters[n].detach().clone().requires_grad_() for n in names]
    assert torch.autograd.gradcheck(value, weights, eps=1e-6, atol=1e-5, rtol=1e-3)


def test_weight_clipping_acts_after_the_step():
    D = mlp.Discriminator(1, 4, width=3)
    penalty: Penalty = WeightClipping(0.05)
    assert penalty.weight_at(0, 0.0) == 0
    penalty.after_step(D)
    assert max(float(p.detach().abs().max()) for p in D.parameters()) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: R1(0.0), "model.penalty.weight=0.0 is out of range, it must be above 0"),
        (lambda: GradientPenalty(10.0, every=0), "model.penalty.every=0 is out of range, it must be 1 or more"),
        (lambda: WeightClipping(-1), "model.penalty.limit=-1 is out of range"),
    ],
)
def test_impossible_penalties_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
