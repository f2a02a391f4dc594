"""The losses against their definitions with an explicit sigmoid, and their slopes against finite differences."""

import pytest
import torch

from gancli.losses import Minimax, NonSaturating

LOGITS = torch.linspace(-6, 6, 25, dtype=torch.float64)


def test_discriminator_loss_is_the_cross_entropy_of_the_paper():
    real, fake = LOGITS, LOGITS.flip(0) / 2
    expected = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    assert torch.allclose(NonSaturating().discriminator(real, fake), expected)
    assert torch.allclose(Minimax().discriminator(real, fake), expected)


def test_generator_losses_are_those_of_the_paper():
    assert torch.allclose(NonSaturating().generator(LOGITS), -LOGITS.sigmoid().log().mean())
    assert torch.allclose(Minimax().generator(LOGITS), (1 - LOGITS.sigmoid()).log().mean())


@pytest.mark.parametrize("loss", [NonSaturating(), Minimax()])
def test_slopes(loss):
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss.generator, logits)
    assert torch.autograd.gradcheck(lambda t: loss.discriminator(t, t * 2), logits)


def test_the_textbook_loss_has_no_slope_where_d_wins():
    fake = torch.tensor([-10.0], requires_grad=True)
    saturated = torch.autograd.grad(Minimax().generator(fake), fake)[0].abs().item()
    alive = torch.autograd.grad(NonSaturating().generator(fake), fake)[0].abs().item()
    assert saturated < 1e-4 and alive > 0.999


def test_extreme_logits_stay_finite():
    far = torch.tensor([-1e4, 1e4])
    for loss in (NonSaturating(), Minimax()):
        assert torch.isfinite(loss.discriminator(far, far)) and torch.isfinite(loss.generator(far))
