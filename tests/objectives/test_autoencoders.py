"""Objectives with an encoder: each term by hand, what each side hears of, and what both phases do."""

import pytest
import torch
from helpers import TINY, start

import gancli
from gancli.losses.divergence import sliced_wasserstein_to_noise as from_noise


def test_codes_are_as_far_from_noise_as_they_are_shifted():
    """All codes moved by m are |m . theta| away along theta; over all directions, squared, that is |m|^2 / z_dim."""
    torch.manual_seed(0)
    shift = torch.randn(8)
    near = torch.stack([from_noise(torch.randn(512, 8)) for _ in range(20)]).mean()
    far = torch.stack([from_noise(torch.randn(512, 8) + shift) for _ in range(20)]).mean()
    assert near < 0.02
    assert float(far - near) == pytest.approx(float(shift.square().sum() / 8), rel=0.1)
    # Twice as wide: sorted, each is twice what it should be, and the mean square of the difference is 1.
    wide = torch.stack([from_noise(2 * torch.randn(512, 8)) for _ in range(20)]).mean()
    assert float(wide) == pytest.approx(1, rel=0.1)


def test_codes_have_the_mean_and_variance_of_noise(tmp_path):
    run = start(tmp_path / "run", "aegan")
    x, c = run.trainer.next_batch()
    z = run.trainer.objective.G.encode(x, c)
    assert torch.allclose(z.mean(0), torch.zeros(32), atol=1e-5)
    assert torch.allclose(z.var(0, correction=0), torch.ones(32), atol=1e-2)


def test_an_autoencoder_first_and_then_its_decoder_is_g(tmp_path):
    run = start(tmp_path / "run", "aegan", "model.pretrain=0.5", "model.prior=0")
    objective = run.trainer.objective
    assert [update.network for update in objective.updates(0, 0.0)] == ["G"]
    assert [update.network for update in objective.updates(0, 0.5)] == ["D", "G"]
    x, c = run.trainer.next_batch()
    torch.manual_seed(0)
    alone, _ = objective.reconstruction_loss(x, c)
    assert list(alone) == ["G/reconstruction"]
    assert torch.allclose(alone["G/reconstruction"], (objective.G(objective.G.encode(x, c), c) - x).abs().mean())
    _, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    terms, _ = objective.generator_loss(x, c, fakes)
    assert torch.allclose(terms["G/reconstruction"], objective.reconstruction * alone["G/reconstruction"])
    assert torch.allclose(
        terms["G/adversarial"], torch.nn.functional.softplus(-objective.D(fakes.fake, c).logits).mean()
    )


def test_the_bound_by_hand(tmp_path):
    run = start(tmp_path / "run", "vae_mlp", "model/likelihood=bernoulli", "model.beta=2", "model.warmup=0.5")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    early, late = (objective.updates(0, progress)[0].loss for progress in (0.25, 0.75))
    torch.manual_seed(3)
    terms, _ = early(x, c, None)
    torch.manual_seed(3)
    observed = objective.G.likelihood.observed(x)
    mean, log_variance = objective.G.posterior(observed, c)
    z = mean + log_variance.exp().sqrt() * torch.randn(8, objective.G.z_dim)
    q = torch.distributions.Normal(mean, log_variance.exp().sqrt())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    white = torch.distributions.Bernoulli((objective.G(z, c) + 1) / 2)
    likelihood = white.log_prob((observed + 1) / 2).flatten(1).sum(1).mean()
    assert torch.allclose(terms["G/reconstruction"], -likelihood, rtol=1e-4)
    assert torch.allclose(terms["G/kl"], 2 * 0.5 * kl)  # half of beta: a quarter of the budget, warmed up at a half
    assert torch.allclose(terms["elbo"], likelihood - kl, rtol=1e-4) and not terms["elbo"].requires_grad
    assert torch.allclose(late(x, c, None)[0]["G/kl"] / kl, torch.tensor(2.0), rtol=0.1)


@pytest.mark.parametrize(("channels", "kind"), [(1, "Bernoulli"), (3, "DiscretizedLogistic")])
def test_the_likelihood_follows_from_the_colours(channels, kind, tmp_path):
    run = start(tmp_path / "run", "vae", f"data.channels={channels}")
    assert type(run.trainer.objective.G.likelihood).__name__ == kind


def test_ds_opinion_of_reconstructions_reaches_the_decoder_alone(tmp_path):
    """Larsen et al., algorithm 1: the encoder hears of the prior and of D's features."""
    run = start(tmp_path / "run", "vaegan")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    terms, _ = objective.generator_loss(x, c)
    encoder, decoder = (list(part.parameters()) for part in (objective.G.encoder, objective.G.decoder))

    def heard(name, parameters):
        slopes = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
        return any(slope is not None and slope.abs().max() > 0 for slope in slopes)

    assert not heard("G/adversarial", encoder) and heard("G/adversarial", decoder)
    assert heard("G/similarity", encoder) and heard("G/similarity", decoder)
    assert heard("G/kl", encoder) and not heard("G/kl", decoder)


@pytest.mark.parametrize("model", ["aegan", "vae", "vae_mlp", "vaegan"])
def test_with_classes_both_ways_are_told_them(model, tmp_path):
    run = start(tmp_path / "run", model, "model.classes=4", "trainer.steps=2")
    run.train()
    G = gancli.load(tmp_path / "run")
    x = run.data.images[:2].float() / 127.5 - 1
    c = torch.eye(4)[[0, 1]]
    codes = [G.network.encode(x, classes) for classes in (c, c.flip(0))]
    assert not torch.equal(*codes)
    assert not torch.equal(G.network(codes[0], c), G.network(codes[0], c.flip(0)))
    assert G.sample(4, classes=[3]).shape == (4, 3, 16, 16)


def test_points_of_the_plane_have_codes_too(tmp_path):
    run = start(tmp_path / "run", "vae_mlp", "data.kind=ring", "data.size=null", "model/likelihood=gaussian")
    run.train()
    assert gancli.load(tmp_path / "run").sample(5).shape == (5, 2, 1, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=vae", "model.beta=-1"], "model.beta=-1 is out of range, it must be 0 or more"),
        (["model=vae", "model.warmup=2"], "model.warmup=2 is out of range, it must be from 0 to 1"),
        (["model=aegan", "model.pretrain=1.5"], "model.pretrain=1.5 is out of range"),
        (["model=aegan", "model.prior=-1"], "model.prior=-1 is out of range"),
        (["model=vae", "likelihood=beroulli"], "did you mean bernoulli?"),
    ],
)
def test_what_is_out_of_range_gets_one_sentence(gan, words, message):
    code, out, error = gan("train", *TINY, *words)
    assert code in (1, 2) and not out and message in error and len(error.strip().splitlines()) == 1
