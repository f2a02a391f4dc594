"""Adversarial losses against their definitions, with an explicit sigmoid where there is one, and their gradients."""

import pytest
import torch

from gancli.losses.adversarial import Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein

LOGITS = torch.linspace(-6, 6, 25, dtype=torch.float64)
OTHERS = LOGITS.flip(0) / 2
losses = pytest.mark.parametrize(
    "loss",
    [NonSaturating(), Minimax(), LeastSquares(), Hinge(), Wasserstein(), Relativistic()],
    ids=lambda loss: type(loss).__name__,
)


def test_the_log_shows_how_d_takes_images():
    real, fake = torch.tensor([2.0, 0.4]), torch.tensor([-3.0, 0.6])
    assert Hinge().watch(real, fake) == {"D(real)": 1.0, "D(fake)": 0.5}
    assert LeastSquares().watch(real, fake) == {"D(real)": 0.5, "D(fake)": 0.5}
    assert NonSaturating().watch(real, fake)["D(fake)"] == fake.sigmoid().mean()
    assert Relativistic().watch(real, real)["D(real over fake)"] == 0.5
    assert Wasserstein().watch(real, fake) == {}


@losses
def test_gradients_are_those_of_finite_differences_and_finite_for_extreme_logits(loss):
    logits = (LOGITS + 0.01).requires_grad_()  # next to the hinge's corner
    assert torch.autograd.gradcheck(lambda t: loss.generator(t, OTHERS), logits)
    assert torch.autograd.gradcheck(lambda t: loss.discriminator(t, t * 2), logits)
    far = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(loss.discriminator(far, far.flip(0))) and torch.isfinite(loss.generator(far, far.flip(0)))


@losses
def test_each_network_lowers_or_raises_the_right_logits(loss):
    real, fake = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss.discriminator(real, fake).backward()
    outside = (LOGITS < 0.9) if isinstance(loss, Hinge | LeastSquares) else LOGITS.isfinite()
    assert (real.grad[outside] < 0).all()
    assert (fake.grad[LOGITS > 0.1] > 0).all()
    fake = LOGITS.clone().requires_grad_()
    loss.generator(fake, OTHERS).backward()
    assert (fake.grad[LOGITS < 0.9] < 0).all()


def test_the_minimax_loss_has_no_gradient_where_d_wins():
    fake = torch.tensor([-10.0], requires_grad=True)
    assert torch.autograd.grad(Minimax().generator(fake), fake)[0].abs() < 1e-4
    assert torch.autograd.grad(NonSaturating().generator(fake), fake)[0].abs() > 0.999
