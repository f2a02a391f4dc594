"""Experiments keep the values that their names promise."""

import pytest

from gancli.config import compose

# batch, updates of D per step, steps, width, rate of G and of D, betas, schedule; each from the paper that is named
PAPERS = {
    "dcgan": (128, 1, 100_000, 128, 2e-4, 2e-4, [0.5, 0.999], "constant"),
    "wgan": (64, 5, 100_000, 64, 5e-5, 5e-5, [0.0, 0.99], "constant"),
    "wgan_gp": (64, 5, 100_000, 128, 2e-4, 2e-4, [0.0, 0.9], "linear"),
    "sngan": (64, 5, 100_000, 128, 2e-4, 2e-4, [0.0, 0.9], "linear"),
    "sngan_proj": (64, 5, 100_000, 128, 2e-4, 2e-4, [0.0, 0.9], "linear"),
    "r3gan": (512, 1, 488_281, 768, 2e-4, 2e-4, [0.0, 0.9], "cosine"),
}


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_keeps_its_values_whatever_the_models_defaults_are(name):
    cfg = compose([f"experiment=paper/{name}"])
    rates = [cfg.model.optimizers[network].lr for network in ("G", "D")]
    model, schedule = cfg.model, cfg.model.schedule._target_.rpartition(".")[2]
    values = (cfg.data.batch_size, model.n_critic, cfg.trainer.steps, model.width, *rates, model.betas, schedule)
    assert values == PAPERS[name] and not cfg.trainer.minutes
