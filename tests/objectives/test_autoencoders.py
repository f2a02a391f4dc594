"""Objectives with an encoder: each term by hand, the gradients of each, and both phases."""

import pytest
import torch
from helpers import start
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn.functional import softplus

import gancli
from gancli.losses.divergence import sliced_wasserstein_to_noise


@pytest.mark.slow
def test_the_distance_of_latents_from_noise_is_that_of_their_shift():
    """Latents shifted by m are |m . theta| away along theta; over all directions, squared, that is |m|^2 / z_dim."""
    torch.manual_seed(0)
    shift = torch.randn(8)

    def distance(latents) -> torch.Tensor:
        return torch.stack([sliced_wasserstein_to_noise(latents(torch.randn(512, 8))) for _ in range(20)]).mean()

    near, far = distance(lambda z: z), distance(lambda z: z + shift)
    assert near < 0.02
    assert float(far - near) == pytest.approx(float(shift.square().sum() / 8), rel=0.1)
    # Twice as wide: sorted, each is twice what it should be, and the mean square of the difference is 1.
    assert float(distance(lambda z: 2 * z)) == pytest.approx(1, rel=0.1)


def test_latents_have_the_mean_and_variance_of_noise(tmp_path):
    run = start(tmp_path, "aegan")
    z = run.trainer.objective.G.encode(*run.trainer.next_batch())
    assert torch.allclose(z.mean(0), torch.zeros(32), atol=1e-5)
    assert torch.allclose(z.var(0, correction=0), torch.ones(32), atol=1e-2)


def test_aegan_is_an_autoencoder_first_and_then_a_gan_too(tmp_path):
    run = start(tmp_path, "aegan", "model.pretrain=0.5", "model.prior=0")
    objective = run.trainer.objective
    assert [update.network for update in objective.updates(0, 0.0)] == ["G"]
    assert [update.network for update in objective.updates(0, 0.5)] == ["D", "G"]
    x, c = run.trainer.next_batch()
    first, _ = objective.reconstruction_loss(x, c)
    assert list(first) == ["G/reconstruction"]
    assert torch.allclose(first["G/reconstruction"], (objective.G(objective.G.encode(x, c), c) - x).abs().mean())
    _, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    terms, _ = objective.generator_loss(x, c, fakes)
    assert torch.allclose(terms["G/reconstruction"], objective.reconstruction * first["G/reconstruction"])
    assert torch.allclose(terms["G/adversarial"], softplus(-objective.D(fakes.fake, c).logits).mean())


def test_the_bound_by_hand(tmp_path):
    run = start(tmp_path, "vae_mlp", "model/likelihood=bernoulli", "model.beta=2", "model.warmup=0.5")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    early, late = (objective.updates(0, progress)[0].loss for progress in (0.25, 0.75))
    torch.manual_seed(3)
    terms, _ = early(x, c, None)
    torch.manual_seed(3)
    observed = objective.G.likelihood.observed(x)
    mean, log_variance = objective.G.posterior(observed, c)
    q = Normal(mean, log_variance.exp().sqrt())
    z = mean + q.scale * torch.randn(8, objective.G.z_dim)
    kl = kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()
    likelihood = Bernoulli((objective.G(z, c) + 1) / 2).log_prob((observed + 1) / 2).flatten(1).sum(1).mean()
    assert torch.allclose(terms["G/reconstruction"], -likelihood, rtol=1e-4)
    assert torch.allclose(terms["G/kl"], 2 * 0.5 * kl)  # half of beta: a quarter of the budget, warmed up at a half
    assert torch.allclose(late(x, c, None)[0]["G/kl"] / kl, torch.tensor(2.0), rtol=0.1)


@pytest.mark.parametrize(("channels", "likelihood"), [(1, "Bernoulli"), (3, "DiscretizedLogistic")])
def test_the_likelihood_follows_from_the_number_of_channels(channels, likelihood, tmp_path):
    run = start(tmp_path, "vae", f"data.channels={channels}")
    assert type(run.trainer.objective.G.likelihood).__name__ == likelihood


def test_the_adversarial_loss_of_vaegan_trains_the_decoder_alone(tmp_path):
    """Larsen et al., algorithm 1: the prior and D's features train the encoder."""
    run = start(tmp_path, "vaegan")
    objective = run.trainer.objective
    terms, _ = objective.generator_loss(*run.trainer.next_batch())
    trained = {}
    for name, part in (("encoder", objective.G.encoder), ("decoder", objective.G.decoder)):
        for term in ("G/adversarial", "G/similarity", "G/kl"):
            parameters = list(part.parameters())
            gradients = torch.autograd.grad(terms[term], parameters, retain_graph=True, allow_unused=True)
            trained[name, term] = any(gradient is not None and gradient.any() for gradient in gradients)
    assert {pair for pair, is_trained in trained.items() if not is_trained} == {
        ("encoder", "G/adversarial"),
        ("decoder", "G/kl"),
    }


def test_half_of_the_fakes_of_vaegan_are_reconstructions_and_the_bound_is_balanced_by_the_number_of_features(tmp_path):
    objective = (run := start(tmp_path, "vaegan", "model.similarity=3")).trainer.objective
    x, c = run.trainer.next_batch()
    given = []
    hook = objective.D.register_forward_hook(lambda module, inputs, outputs: given.append(inputs[0]))
    torch.manual_seed(4)
    _, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    real, fake = given
    assert torch.equal(real, x) and torch.equal(fake[::2], fakes.fake[::2])
    assert not torch.equal(fake[1::2], fakes.fake[1::2])
    torch.manual_seed(4)
    objective.generate(x, c)
    assert torch.allclose(fake[1::2], objective.G(objective.sample_posterior(x, c)[0], c)[1::2], atol=1e-6)
    hook.remove()
    torch.manual_seed(5)
    terms, _ = objective.generator_loss(x, c, fakes, kl_weight=0.5)
    torch.manual_seed(5)
    z, kl = objective.sample_posterior(x, c)
    difference = (objective.D(objective.G(z, c), c).features - objective.D(x, c).features).flatten(1)
    # -log p = |difference|^2 / 2 for a Gaussian of variance 1: the sum over features, as in the paper.
    bound = difference.square().sum(1).mean() / 2 + 0.5 * kl
    assert torch.allclose(terms["G/similarity"] + terms["G/kl"], 3 * bound * 2 / difference.shape[1], rtol=1e-4)


@pytest.mark.parametrize("model", ["aegan", "vae", "vae_mlp", "vaegan"])
def test_classes_condition_the_encoder_and_the_decoder(model, tmp_path):
    run = start(tmp_path, model, "model.classes=4", "trainer.steps=2")
    run.train()
    G = gancli.load(tmp_path)
    x = run.data.images[:2].float() / 127.5 - 1
    c = torch.eye(4)[[0, 1]]
    latents = [G.network.encode(x, classes) for classes in (c, c.flip(0))]
    assert not torch.equal(*latents)
    assert not torch.equal(G.network(latents[0], c), G.network(latents[0], c.flip(0)))
    assert G.sample(4, classes=[3]).shape == (4, 3, 16, 16)
