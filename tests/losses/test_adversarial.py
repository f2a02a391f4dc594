"""The losses against their definitions, with an explicit sigmoid where there is one, and their slopes."""

import pytest
import torch

from gancli.losses.adversarial import Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein

LOGITS = torch.linspace(-6, 6, 25, dtype=torch.float64)
OTHERS = LOGITS.flip(0) / 2
EVERY = [NonSaturating(), Minimax(), LeastSquares(), Hinge(), Wasserstein(), Relativistic()]


def test_discriminator_loss_is_the_cross_entropy_of_the_paper():
    expected = -(LOGITS.sigmoid().log().mean() + (1 - OTHERS.sigmoid()).log().mean())
    assert torch.allclose(NonSaturating().discriminator(LOGITS, OTHERS), expected)
    assert torch.allclose(Minimax().discriminator(LOGITS, OTHERS), expected)


def test_generator_losses_are_those_of_the_paper():
    assert torch.allclose(NonSaturating().generator(LOGITS), -LOGITS.sigmoid().log().mean())
    assert torch.allclose(Minimax().generator(LOGITS), (1 - LOGITS.sigmoid()).log().mean())


def test_the_other_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    half_squares = LeastSquares()
    assert half_squares.discriminator(real, fake) == 0.5 * (1 + 0.25) / 2 + 0.5 * 9 / 2
    assert half_squares.generator(fake) == 0.5 * (16 + 1) / 2
    assert Hinge().discriminator(real, fake) == (0 + 0.5) / 2 + (0 + 1) / 2
    assert Hinge().generator(fake) == 1.5
    assert Wasserstein().discriminator(real, fake) == -1.5 - 1.25
    assert Wasserstein().generator(fake) == 1.5
    paired = -((real - fake).sigmoid().log()).mean()
    assert torch.allclose(Relativistic().discriminator(real, fake), paired)
    assert torch.allclose(Relativistic().generator(fake, real), -((fake - real).sigmoid().log()).mean())


def test_what_is_watched():
    real, fake = torch.tensor([2.0, 0.4]), torch.tensor([-3.0, 0.6])
    assert {k: float(v) for k, v in Hinge().watch(real, fake).items()} == {"D(real)": 1.0, "D(fake)": 0.5}
    assert {k: float(v) for k, v in LeastSquares().watch(real, fake).items()} == {"D(real)": 0.5, "D(fake)": 0.5}
    assert NonSaturating().watch(real, fake)["D(fake)"] == fake.sigmoid().mean()
    assert Relativistic().watch(real, real)["D(real over fake)"] == 0.5
    assert Wasserstein().watch(real, fake) == {}


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
def test_slopes(loss):
    logits = (LOGITS + 0.01).requires_grad_()  # beside the hinge's corner
    assert torch.autograd.gradcheck(lambda t: loss.generator(t, OTHERS), logits)
    assert torch.autograd.gradcheck(lambda t: loss.discriminator(t, t * 2), logits)


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
def test_each_side_pulls_its_own_way(loss):
    real, fake = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss.discriminator(real, fake).backward()
    outside = (LOGITS < 0.9) if isinstance(loss, Hinge | LeastSquares) else LOGITS.isfinite()
    assert (real.grad[outside] < 0).all()
    assert (fake.grad[LOGITS > 0.1] > 0).all()
    fake = LOGITS.clone().requires_grad_()
    loss.generator(fake, OTHERS).backward()
    assert (fake.grad[LOGITS < 0.9] < 0).all()


def test_the_textbook_loss_has_no_slope_where_d_wins():
    fake = torch.tensor([-10.0], requires_grad=True)
    saturated = torch.autograd.grad(Minimax().generator(fake), fake)[0].abs().item()
    alive = torch.autograd.grad(NonSaturating().generator(fake), fake)[0].abs().item()
    assert saturated < 1e-4 and alive > 0.999


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
def test_extreme_logits_stay_finite(loss):
    far = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(loss.discriminator(far, far.flip(0))) and torch.isfinite(loss.generator(far, far.flip(0)))
