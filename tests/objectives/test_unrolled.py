"""G's gradient through D's virtual steps, against the same steps written out and against finite differences."""

import copy

import pytest
import torch
from torch import nn

from gancli.losses.adversarial import NonSaturating, Relativistic
from gancli.networks import dcgan, mlp
from gancli.objectives import GAN, Unrolled
from gancli.objectives.base import sample_noise

X, C = torch.randn(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 0)


class Shift(nn.Module):
    """G(z) = z + theta, the smallest generator there is."""

    z_dim, classes = 16, 0
    theta = torch.full((16,), 0.1, dtype=torch.float64)

    def forward(self, z, c):
        return (z.double() + self.theta).view(-1, 1, 4, 4)


def unrolled(unroll: int, loss=None) -> Unrolled:
    torch.manual_seed(0)
    D = mlp.Discriminator(1, 4, width=2).double()
    return Unrolled(Shift(), D, loss or NonSaturating(), unroll=unroll, rate=0.3)


def adversarial(objective: GAN) -> torch.Tensor:
    torch.manual_seed(1)
    return objective.generator_loss(X, C)[0]["G/adversarial"]


@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic()])
@pytest.mark.parametrize("unroll", [0, 1, 3])
def test_the_gradient_is_that_of_finite_differences(unroll, loss):
    objective = unrolled(unroll, loss)

    def value(theta):
        objective.G.theta = theta
        return adversarial(objective)

    assert torch.autograd.gradcheck(value, torch.linspace(-0.5, 0.5, 16, dtype=torch.float64, requires_grad=True))


def test_the_steps_are_gradient_descent_on_the_loss_of_d():
    objective = unrolled(2)
    value = adversarial(objective)
    torch.manual_seed(1)
    fake, D = objective.G(sample_noise(objective.G, C), C), copy.deepcopy(objective.D)
    for _ in range(2):
        descent = torch.optim.SGD(D.parameters(), lr=0.3)
        descent.zero_grad()
        objective.loss.discriminator(D(X, C).logits, D(fake, C).logits).backward()
        descent.step()
    assert value.item() == pytest.approx(objective.loss.generator(D(fake, C).logits).item())


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_parameters_and_buffers_of_d_do_not_change(norm):
    D = dcgan.Discriminator(1, 8, width=2, norm=norm)
    objective = Unrolled(dcgan.Generator(5, 1, 8, width=2), D, NonSaturating(), unroll=3, rate=0.01)
    before = copy.deepcopy(D.state_dict())
    objective.generator_loss(torch.randn(4, 1, 8, 8), C)[0]["G/adversarial"].backward()
    assert before.keys() == D.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in D.state_dict().items())


def test_without_virtual_steps_it_is_the_gan():
    objective = unrolled(0)
    assert torch.equal(adversarial(objective), adversarial(GAN(objective.G, objective.D, objective.loss)))
