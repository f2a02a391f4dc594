"""G's gradient through D's virtual steps, against the same steps written out and against finite differences."""

import copy

import pytest
import torch
from torch import nn

from gancli.losses.adversarial import NonSaturating, Relativistic
from gancli.networks import dcgan, mlp
from gancli.objectives import GAN, Unrolled
from gancli.objectives.base import sample_noise


class Shift(nn.Module):
    """G(z) = z + theta, the smallest generator there is."""

    z_dim, classes = 16, 0

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.full((16,), 0.1, dtype=torch.float64))

    def forward(self, z, c):
        return (z.double() + self.theta).view(-1, 1, 4, 4)


def played(unroll: int, rate: float = 0.3, loss=None, **options) -> tuple[Unrolled, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    D = mlp.Discriminator(1, 4, width=2, **options).double()
    x = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    return Unrolled(Shift(), D, loss or NonSaturating(), unroll=unroll, rate=rate), x, torch.zeros(4, 0)


@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic()])
@pytest.mark.parametrize("unroll", [0, 1, 3])
def test_the_gradient_is_that_of_finite_differences(unroll, loss):
    objective, x, c = played(unroll, loss=loss)

    def value(theta):
        objective.G.theta = nn.Parameter(theta)
        torch.manual_seed(1)
        del objective.G._parameters["theta"]
        objective.G.theta = theta
        return objective.generator_loss(x, c)[0]["G/adversarial"]

    theta = torch.linspace(-0.5, 0.5, 16, dtype=torch.float64, requires_grad=True)
    objective.G.theta = nn.Parameter(theta.detach())
    assert torch.autograd.gradcheck(value, theta)


def test_the_steps_are_gradient_descent_on_ds_loss():
    objective, x, c = played(2)
    torch.manual_seed(1)
    made = objective.generator_loss(x, c)[0]["G/adversarial"]
    torch.manual_seed(1)
    fake, D = objective.G(sample_noise(objective.G, c), c).detach(), copy.deepcopy(objective.D)
    for _ in range(2):
        descent = torch.optim.SGD(D.parameters(), lr=0.3)
        descent.zero_grad()
        objective.loss.discriminator(D(x, c).logits, D(fake, c).logits).backward()
        descent.step()
    assert made.item() == pytest.approx(objective.loss.generator(D(fake, c).logits).item())


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_d_is_as_it_was(norm):
    torch.manual_seed(0)
    D = dcgan.Discriminator(1, 8, width=2, norm=norm)
    objective = Unrolled(dcgan.Generator(5, 1, 8, width=2), D, NonSaturating(), unroll=3, rate=0.01)
    before = copy.deepcopy(D.state_dict())
    objective.generator_loss(torch.randn(4, 1, 8, 8), torch.zeros(4, 0))[0]["G/adversarial"].backward()
    assert before.keys() == D.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in D.state_dict().items())


def test_without_steps_it_is_the_gan():
    objective, x, c = played(0)
    plain = GAN(objective.G, objective.D, objective.loss)
    for one in (objective, plain):
        torch.manual_seed(1)
        one.value = one.generator_loss(x, c)[0]["G/adversarial"].item()
    assert objective.value == plain.value


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match=r"model.unroll=-1"):
        played(-1)
