"""G's gradient through D's virtual steps, against the same steps written out and against finite differences."""

import copy

import pytest
import torch
from torch import nn

from gancli.losses.adversarial import NonSaturating
from gancli.losses.penalties import R1, R2, Discriminated, GradientPenalty, NoPenalty, WeightClipping
from gancli.networks import dcgan, mlp
from gancli.objectives import GAN, Unrolled
from gancli.objectives.base import sample_noise

X, C = torch.randn(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 0)


class Shift(nn.Module):
    """G(z) = z + theta, the smallest generator there is."""

    z_dim, classes = 16, 0
    theta = torch.full((16,), 0.1, dtype=torch.float64, requires_grad=True)

    def forward(self, z, c):
        return (z.double() + self.theta).view(-1, 1, 4, 4)


def unrolled(unroll: int, loss=None) -> Unrolled:
    torch.manual_seed(0)
    D = mlp.Discriminator(1, 4, width=2).double()
    return Unrolled(Shift(), D, loss or NonSaturating(), unroll=unroll, rate=0.3)


def adversarial(objective: GAN) -> torch.Tensor:
    torch.manual_seed(1)
    return objective.generator_loss(X, C)[0]["G/adversarial"]


@pytest.mark.parametrize("penalty", [R1(2.0), R2(2.0, every=4), GradientPenalty(2.0)])
def test_the_steps_minimise_the_penalty_too(penalty):
    objective = unrolled(1)
    objective.penalty = penalty
    (*_, update) = objective.updates(1, 0.0)
    torch.manual_seed(1)
    value = update.loss(X, C, None)[0]["G/adversarial"]
    torch.manual_seed(1)
    fake, D = objective.G(sample_noise(objective.G, C), C), copy.deepcopy(objective.D)
    real, fake = X.clone().requires_grad_(), fake.clone().requires_grad_()
    real_logits, fake_logits = D(real, C).logits, D(fake, C).logits
    loss = objective.loss.discriminator(real_logits, fake_logits)
    loss += 2 * penalty(
        lambda x, c: D(x, c).logits, Discriminated(real, real_logits), Discriminated(fake, fake_logits), C
    )
    loss.backward()
    torch.optim.SGD(D.parameters(), lr=0.3).step()
    assert value.item() == pytest.approx(objective.loss.generator(D(fake, C).logits).item(), rel=1e-9)
    assert value.item() != pytest.approx(adversarial(unrolled(1)).item(), rel=1e-5)


def test_the_gradient_through_a_penalised_step_is_that_of_finite_differences():
    objective = unrolled(2)
    objective.penalty = GradientPenalty(2.0)

    def value(theta):
        objective.G.theta = theta
        torch.manual_seed(1)
        return objective.generator_loss(X, C, penalty_weight=2.0)[0]["G/adversarial"]

    assert torch.autograd.gradcheck(value, torch.linspace(-0.5, 0.5, 16, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    ("norm", "penalty", "message"),
    [("spectral", NoPenalty(), "type model.norm=batch or none"), ("none", WeightClipping(), "type model/penalty=r1")],
)
def test_what_has_no_gradient_through_a_step_is_refused(norm, penalty, message):
    G, D = dcgan.Generator(5, 1, 8, width=2), dcgan.Discriminator(1, 8, width=2, norm=norm)
    with pytest.raises(ValueError, match=message):
        Unrolled(G, D, NonSaturating(), penalty, unroll=1)
    assert Unrolled(G, D, NonSaturating(), penalty, unroll=0).unroll == 0


def test_parameters_and_buffers_of_d_do_not_change():
    D = dcgan.Discriminator(1, 8, width=2)
    objective = Unrolled(dcgan.Generator(5, 1, 8, width=2), D, NonSaturating(), unroll=3, rate=0.01)
    before = copy.deepcopy(D.state_dict())
    objective.generator_loss(torch.randn(4, 1, 8, 8), C)[0]["G/adversarial"].backward()
    assert before.keys() == D.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in D.state_dict().items())


def test_without_virtual_steps_it_is_the_gan():
    objective = unrolled(0)
    assert torch.equal(adversarial(objective), adversarial(GAN(objective.G, objective.D, objective.loss)))
