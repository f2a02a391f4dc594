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


def test_defaults_of_a_cpu_are_those_of_minutes_and_the_log_says_which(gan, monkeypatch):
    words = ["model=sngan", "data=synthetic", "data.n=16", "data.batch_size=8", "trainer.steps=1"]
    error = gan("train", *words, "model.lr=5e-4", "run.dir=run")[2]
    assert "on a CPU model.n_critic=1 (else 5), model.width=16 (else 128), to learn more in minutes" in error
    assert "experiment=paper/sngan has the paper's" in error
    moved = gan("train", "run.dir=run", "device=cuda", "--cfg", "job", "--resolve")[1]
    assert "n_critic: 1\n" in moved and "width: 16\n" in moved, "a run keeps its values on another device"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    model = compose(words).model
    assert (model.width, model.lr, model.n_critic) == (128, 2e-4, 5)
    assert compose([*words, "device=cpu"]).model.width == 16


def test_experiments_whose_results_are_told_keep_their_values_on_a_cpu():
    told = {"mnist-dcgan": (64, 4e-4, 32), "cifar10-dcgan": (64, 4e-4, 32), "mnist-aegan": (64, 4e-4, 32)}
    for name, values in (told | {"mnist-vae": (128, 1e-3, 128), "mnist-cgan": (64, 1e-3, 16)}).items():
        cfg = compose([f"experiment={name}", "device=cpu"])
        assert (cfg.data.batch_size, cfg.model.optimizers.G.lr, cfg.model.width) == values, name
