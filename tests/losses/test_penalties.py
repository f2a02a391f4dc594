"""Penalties against closed forms on a D of known gradient, and their own gradients against finite differences."""

import pytest
import torch

from gancli.losses.penalties import DRAGAN, R1, R1R2, Discriminated, GradientPenalty, WeightClipping
from gancli.networks import dcgan, mlp

N, GRADIENT = 6, torch.tensor([0.3, -1.2, 2.0, 0.5], dtype=torch.float64)
C = torch.zeros(N, 0)


def linear(x, c):
    return x.flatten(1) @ GRADIENT


def real_and_fake(discriminate):
    x = torch.randn(2, N, 1, 2, 2, dtype=torch.float64) * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1, 1)
    return [Discriminated(images, discriminate(images, C)) for images in (part.clone().requires_grad_() for part in x)]


def test_the_gradient_penalty_is_between_real_and_fake_and_dragan_around_the_real_images():
    points = []

    def discriminate(x, c):
        points.append(x.detach())
        return linear(x, c)

    real, fake = real_and_fake(linear)
    GradientPenalty(10.0)(discriminate, real, fake, C)
    fraction = ((points[0] - real.images) / (fake.images - real.images)).flatten(1)
    assert torch.allclose(fraction, fraction[:, :1].expand_as(fraction))  # the same for all pixels of an image
    assert (fraction >= 0).all() and (fraction <= 1).all() and fraction.std() > 0.1
    DRAGAN(10.0, spread=1e-6)(discriminate, real, fake, C)
    assert torch.allclose(points[1], real.images, atol=1e-4)


def test_packed_images_share_a_point_between_real_and_fake():
    points = []

    def packed(x, c):
        points.append(x.detach())
        return linear(x, c).view(-1, 2).sum(1)

    real, fake = real_and_fake(packed)
    points.clear()
    GradientPenalty(10.0)(packed, real, fake, C)
    fraction = ((points[0] - real.images) / (fake.images - real.images)).flatten(1)[:, 0]
    assert torch.allclose(fraction[::2], fraction[1::2]) and fraction[::2].std() > 0.1


def test_a_lazy_penalty_has_a_greater_weight_in_fewer_steps():
    weights = [R1(0.5, every=4).weight_at(step, 0.0) for step in range(8)]
    assert weights == [2.0, 0, 0, 0, 2.0, 0, 0, 0]
    falling = R1(lambda progress: 1 - progress)
    assert [falling.weight_at(3, p) for p in (0.0, 0.25)] == [1.0, 0.75]


NETWORKS = {
    "mlp": lambda: mlp.Discriminator(1, 4, width=3),
    "mlp, spectral": lambda: mlp.Discriminator(1, 4, width=3, norm="spectral"),
    "mlp, std": lambda: mlp.Discriminator(1, 4, width=3, minibatch="std"),
    "dcgan": lambda: dcgan.Discriminator(1, 8, width=2, norm="none"),
    "dcgan, batch, std": lambda: dcgan.Discriminator(1, 8, width=2, minibatch="std"),
}


@pytest.mark.parametrize(
    "penalty", [R1(1.0), R1R2(1.0), GradientPenalty(1.0), DRAGAN(1.0)], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_gradients_of_penalties_are_those_of_finite_differences(name, penalty):
    """Through D's own gradient, by D's weights, in float64."""
    # Eval mode because spectral norm's power iteration is a state; its weights are still functions of the parameters.
    network = NETWORKS[name]().double().train("batch" in name)
    size = 8 if "dcgan" in name else 4
    x, y = torch.randn(2, 4, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    c = torch.zeros(4, 0, dtype=torch.float64)
    # The last bias does not change D's gradient, and autograd then has nothing to check.
    weights = {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters() if n != "last.bias"}

    def value(*weights_now):
        def discriminate(images, c):
            return torch.func.functional_call(network, dict(zip(weights, weights_now)), (images, c)).logits

        torch.manual_seed(2)
        real, fake = (i.clone().requires_grad_() for i in (x, y))
        real, fake = (Discriminated(i, discriminate(i, c)) for i in (real, fake))
        return penalty(discriminate, real, fake, c)

    assert torch.autograd.gradcheck(value, list(weights.values()), eps=1e-6, atol=1e-5, rtol=1e-3)


def test_weight_clipping_acts_after_the_step():
    D, penalty = mlp.Discriminator(1, 4, width=3), WeightClipping(0.05)
    assert penalty.weight_at(0, 0.0) == 0
    penalty.after_step(D)
    assert max(float(p.detach().abs().max()) for p in D.parameters()) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: R1(0.0), "model.penalty.weight=0.0 is out of range, it must be above 0"),
        (lambda: GradientPenalty(10.0, every=0), "model.penalty.every=0 is out of range, it must be 1 or more"),
        (lambda: WeightClipping(-1), "model.penalty.limit=-1 is out of range"),
    ],
)
def test_impossible_penalties_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
