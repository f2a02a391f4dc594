"""Objectives against scikit-learn, numpy, loops and finite differences; bfloat16 against float32."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import MODELS, TINY, composed, normal, start
from sklearn.metrics import log_loss
from torch import nn

from gancli.inference.latents import LENGTH_WEIGHT, first_layer_directions, gradient, search
from gancli.losses.adversarial import NonSaturating, Relativistic
from gancli.losses.drifting import TEMPERATURES, drifting
from gancli.networks import mlp
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.objectives import Unrolled
from gancli.objectives.cyclegan import Pool


def terms_of(run, seed: int = 7) -> tuple[dict, dict]:
    """Return the terms of D and of G for the first batch, with the same noise in each."""
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    torch.manual_seed(seed)
    of_d, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    of_g, _ = objective.generator_loss(x, c, fakes)
    return {"x": x, "c": c, "fake": fakes.fake, **of_d}, of_g


def test_acgan(oracle, tmp_path):
    run = start(tmp_path, "acgan")
    run.trainer.objective.D.eval()  # without spectral norm's power iteration
    of_d, of_g = terms_of(run)
    D, classes = run.trainer.objective.D, of_d["c"].argmax(1).numpy()
    real, fake = (D(of_d[name], of_d["c"]).class_logits.softmax(1).detach().double().numpy() for name in ("x", "fake"))
    labels = range(of_d["c"].shape[1])
    theirs = log_loss(classes, real, labels=labels) + log_loss(classes, fake, labels=labels)
    oracle(
        "ACGAN, class term of D",
        "Odena et al. 2017, section 3",
        "scikit-learn's log_loss",
        of_d["D/class"],
        theirs,
        1e-5,
    )
    oracle(
        "ACGAN, class term of G",
        "Odena et al. 2017, section 3",
        "scikit-learn's log_loss",
        of_g["G/class"],
        log_loss(classes, fake, labels=labels),
        1e-5,
    )


def test_feature_matching(oracle, tmp_path):
    run = start(tmp_path, "feature_matching", "model.norm=none")
    of_d, of_g = terms_of(run)
    features = [
        run.trainer.objective.D(of_d[name], of_d["c"]).features.detach().double().numpy() for name in ("x", "fake")
    ]
    theirs = ((features[0].mean(0) - features[1].mean(0)) ** 2).sum()
    oracle("Feature matching", "Salimans et al. 2016, section 3.1", "numpy", of_g["G/features"], theirs, 1e-5)


def test_pix2pix(oracle, tmp_path):
    run = start(tmp_path, "pix2pix", "model/task=denoise", "model.norm=none")
    of_d, of_g = terms_of(run)
    x, fake = of_d["x"].numpy(), of_d["fake"].detach().numpy()
    objective = run.trainer.objective
    oracle(
        "Pix2Pix, ratio of the content term to the L1 distance",
        "Isola et al. 2017, eq. 4",
        "numpy",
        of_g["G/content"],
        np.abs(fake.astype(float) - x).mean(),
        1e-5,
    )
    oracle(
        "Pix2Pix, weight of L1 over the adversarial term",
        "Isola et al. 2017, section 3.3",
        "100",
        1 / objective.adversarial,
        100.0,
        1e-9,
    )


class Brighten(nn.Module):
    """Generator that adds a constant."""

    z_dim, classes, channels, source_channels = 0, 0, 3, 3

    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, z, c):
        return c + self.by


class Mean(nn.Module):
    """D whose logit is the mean of the image."""

    def forward(self, x, c):
        return DiscriminatorOutputs(x.mean((1, 2, 3)))


def test_cyclegan(oracle, tmp_path):
    run = start(tmp_path, "cyclegan", "model.pool=0")
    objective = run.trainer.objective
    objective.G.there, objective.G.back = Brighten(0.3), Brighten(-0.1)
    objective.D.target, objective.D.source = Mean(), Mean()
    of_d, of_g = terms_of(run)
    x, c = (of_d[name].double().numpy().mean((1, 2, 3)) for name in ("x", "c"))
    zhu = "Zhu et al. 2017"
    oracle("CycleGAN, cycle term", f"{zhu}, eq. 2", "10 (|a + b| + |b + a|)", of_g["G/cycle"], 10 * 2 * 0.2, 1e-6)
    oracle("CycleGAN, identity term", f"{zhu}, section 5.2", "5 (|a| + |b|)", of_g["G/identity"], 5 * 0.4, 1e-6)
    oracle(
        "CycleGAN, least-squares term of G, not halved",
        f"{zhu}, section 4",
        "numpy",
        of_g["G/target"],
        ((c + 0.3 - 1) ** 2).mean(),
        1e-5,
    )
    oracle(
        "CycleGAN, least-squares term of D, halved",
        f"{zhu}, section 4",
        "numpy",
        of_d["D/target"],
        (((x - 1) ** 2).mean() + ((c + 0.3) ** 2).mean()) / 2,
        1e-5,
    )
    pool, older, n = Pool(50), 0, 400
    for i in range(n):
        older += int((pool(torch.full((10, 1, 1, 1), float(i))) < i).sum())
    oracle(
        "CycleGAN's pool, fraction of older images", "Shrivastava et al. 2017", "1/2", older / (10 * (n - 5)), 0.5, 0.05
    )


def test_vaegan(oracle, tmp_path):
    run = start(tmp_path, "vaegan")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    torch.manual_seed(3)
    terms, _ = objective.generator_loss(x, c)
    torch.manual_seed(3)
    objective.generate(x, c)
    z, kl = objective.sample_posterior(x, c)
    features = [
        objective.D(images, c).features.detach().flatten(1).double().numpy() for images in (objective.G(z, c), x)
    ]
    bound = ((features[0] - features[1]) ** 2).sum(1).mean() / 2 + float(kl)
    ours = (terms["G/similarity"] + terms["G/kl"]) * features[0].shape[1] / 2
    oracle(
        "VAE-GAN, bound by D's features", "Larsen et al. 2016, eq. 6 and algorithm 1", "numpy", ours / bound, 1.0, 1e-4
    )


def test_drifting(oracle):
    """Algorithm 2, one pair at a time."""
    fake, real = normal(6, 1, 1, 2), normal(6, 1, 1, 2, seed=1)
    x, y = fake.flatten(1).numpy(), real.flatten(1).numpy()
    mean = np.mean([[math.dist(a, b) for b in y] for a in x])
    scale, moves = math.sqrt(2) / mean, np.zeros_like(x)
    for temperature in TEMPERATURES:
        k = np.zeros((6, 12))
        for i in range(6):
            for j in range(6):
                k[i, j] = math.exp(-math.dist(x[i], y[j]) / mean / temperature)
                k[i, 6 + j] = math.exp(-math.dist(x[i], x[j]) / mean / temperature) * (i != j)
        k = np.sqrt(k / k.sum(0) * k / k.sum(1, keepdims=True))
        field = np.zeros_like(x)
        for i in range(6):
            for j in range(6):
                field[i] += k[i, j] * k[i, 6:].sum() * (y[j] - x[i]) - k[i, 6 + j] * k[i, :6].sum() * (x[j] - x[i])
        moves += field / np.sqrt((field**2).mean())
    source = "Deng et al. 2026, algorithms 1 and 2"
    oracle(
        "Drifting loss", source, "a loop over pairs", drifting(fake, real, torch.zeros(6, 0)), (moves**2).mean(), 1e-5
    )
    x_gradient = fake.requires_grad_()
    (ours,) = torch.autograd.grad(drifting(x_gradient, real, torch.zeros(6, 0)), x_gradient)
    oracle(
        "Drifting loss, gradient by the fakes",
        source,
        "a loop over pairs",
        ours.flatten(1),
        -2 * scale * moves / moves.size,
        1e-5,
    )


class Shift(nn.Module):
    """G(z) = z + theta."""

    z_dim, classes = 16, 0

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.full((16,), 0.1, dtype=torch.float64))

    def forward(self, z, c):
        return (z.double() + self.theta).view(-1, 1, 4, 4)


@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic()], ids=lambda loss: type(loss).__name__)
def test_unrolling(loss, oracle):
    torch.manual_seed(0)
    objective = Unrolled(Shift(), mlp.Discriminator(1, 4, width=2).double(), loss, unroll=3, rate=0.3)
    x, c = normal(4, 1, 4, 4), torch.zeros(4, 0)

    def value() -> torch.Tensor:
        torch.manual_seed(1)
        return objective.generator_loss(x, c)[0]["G/adversarial"]

    theta = objective.G.theta
    (ours,) = torch.autograd.grad(value(), theta)
    theirs = []
    for i in range(16):
        ends = []
        for h in (1e-6, -1e-6):
            with torch.no_grad():
                theta[i] += h
            ends.append(float(value()))
            with torch.no_grad():
                theta[i] -= h
        theirs.append((ends[0] - ends[1]) / 2e-6)
    oracle(
        "Gradient of G through three unrolled steps",
        "Metz et al. 2017, eq. 10",
        "central differences",
        ours,
        theirs,
        1e-7,
    )

    torch.manual_seed(1)
    fake, D = objective.generate(x, c).detach(), copy.deepcopy(objective.D)
    descent = torch.optim.SGD(D.parameters(), lr=0.3)
    for _ in range(3):
        descent.zero_grad()
        objective.loss.discriminator(D(x, c).logits, D(fake, c).logits).backward()
        descent.step()
    oracle(
        "Loss of G after three unrolled steps",
        "Metz et al. 2017, eq. 7",
        "torch's SGD",
        value(),
        objective.loss.generator(D(fake, c).logits, D(x, c).logits),
        1e-10,
    )


def test_packing(oracle, tmp_path):
    run = start(tmp_path, "dcgan", "model.packing=2")
    x = normal(4, 3, 2, 2)
    theirs = np.stack([np.concatenate([x[i], x[i + 1]]) for i in (0, 2)])
    oracle(
        "Packing of two images",
        "Lin et al. 2018, section 3",
        "numpy.concatenate",
        run.trainer.objective.packed(x),
        theirs,
        0,
    )


class LinearG(nn.Module):
    """G(z) = A z, whose nearest latent has a closed form."""

    z_dim, classes, size, channels, class_names = 3, 0, 2, 1, ()
    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4, bias=False)
        self.layer.weight = nn.Parameter(normal(4, 3, dtype=torch.float32))

    def forward(self, z, c):
        return self.layer(z).view(-1, 1, 2, 2)

    @property
    def network(self):
        return self.forward

    @torch.no_grad()
    def generate(self, z, c):
        return self(z, c)


def test_the_search_for_a_latent(oracle):
    """With a small penalty the search ends at the minimum of its loss, found by Newton's method in scipy."""
    import scipy
    from tqdm import tqdm

    G, x = LinearG(), normal(1, 1, 2, 2, seed=1, dtype=torch.float32)
    A, b = G.layer.weight.detach().double().numpy(), x.flatten().double().numpy()

    def loss(z: np.ndarray) -> float:
        return ((A @ z - b) ** 2).mean() + LENGTH_WEIGHT * (np.linalg.norm(z) / math.sqrt(3) - 1) ** 2

    z, c = search(G, x, torch.tensor([[0.5, -0.5, 1.0]]), torch.zeros(1, 0), 500, tqdm(disable=True))
    best = scipy.optimize.minimize(loss, z[0].double().numpy(), method="BFGS", options={"gtol": 1e-10}).x
    zhu = "Zhu et al. 2016; length of Lipton and Tripathi 2017"
    oracle("Search of gan project on a linear G", zhu, "scipy's BFGS", z[0], best, 1e-3)
    start_z = torch.tensor([[0.4, 1.0, -0.3]])
    theirs = scipy.optimize.approx_fprime(start_z[0].double().numpy(), loss, 1e-7)
    oracle("Gradient of gan project's loss", zhu, "scipy's approx_fprime", gradient(G, x, start_z, c)[0], theirs, 1e-5)


def test_directions(oracle, tmp_path):
    import gancli

    start(tmp_path, "mlp", "trainer.steps=1").train()
    G = gancli.load(tmp_path)
    weight = G.network.layers[0].weight.detach().double().numpy()[:, : G.z_dim]
    _, _, right = np.linalg.svd(weight, full_matrices=False)
    ours = first_layer_directions(G, 3)
    theirs = right[:3] * np.sign(np.take_along_axis(right[:3], np.abs(right[:3]).argmax(1)[:, None], 1))
    oracle("Directions of gan edit", "Shen and Zhou 2021", "numpy's SVD", ours, theirs, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_changes_terms_by_its_rounding(model, oracle, tmp_path):
    """Eight bits of mantissa: a layer rounds to 0.4 %, and a few layers add up to a few percent of the largest term."""
    if not composed(*TINY, f"model={model}").model.bf16_safe:
        return  # it trains in float32
    run = start(tmp_path, model)
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    for progress in (0.1, 0.9):
        for update in objective.updates(1, progress):
            values = []
            for enabled in (False, True):
                torch.manual_seed(2)
                with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                    terms, _ = update.loss(x, c, None)
                values.append([float(t) for key, t in terms.items() if t.requires_grad])
            oracle(f"Terms of {model} in bfloat16", "", "float32", values[1], values[0], 0.05)
