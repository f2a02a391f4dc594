"""Optimizers, schedules, averages and clipping against the papers' recursions in numpy and torch's schedulers."""

import math

import numpy as np
import pytest
import torch
from helpers import at_step, normal, start

from gancli.training import schedules
from gancli.training.ema import EMA
from gancli.training.optimizers import undecorated


def test_adam(oracle):
    """Algorithm 1 of the paper, on f(x) = sum x^4 / 4 from the same point."""
    x = torch.nn.Parameter(normal(5, 3))
    y, m, v = x.detach().numpy().copy(), 0.0, 0.0
    adam = undecorated(torch.optim.Adam)([x], lr=0.01, betas=(0.5, 0.9))
    for t in range(1, 31):
        x.grad = x.detach() ** 3
        adam.step()
        g = y**3
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
        y = y - 0.01 * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
    oracle("Adam, 30 steps", "Kingma and Ba 2015, algorithm 1", "the recursion in numpy", x, y, 1e-10)


def test_rmsprop(oracle):
    x = torch.nn.Parameter(normal(5, 3))
    y, v = x.detach().numpy().copy(), 0.0
    rmsprop = undecorated(torch.optim.RMSprop)([x], lr=0.01)
    for _ in range(30):
        x.grad = x.detach() ** 3
        rmsprop.step()
        v = 0.99 * v + 0.01 * y**6
        y = y - 0.01 * y**3 / (np.sqrt(v) + 1e-8)
    oracle("RMSprop, 30 steps", "Hinton, lecture 6e", "the recursion in numpy", x, y, 1e-10)


def test_schedules(oracle):
    def torchs(scheduler, **options) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduled, rates = scheduler(optimizer, **options), []
        for _ in range(101):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduled.step()
        return rates

    progress = [step / 100 for step in range(101)]
    lr = torch.optim.lr_scheduler
    oracle(
        "Cosine schedule",
        "half a cosine",
        "torch's CosineAnnealingLR",
        [schedules.cosine(p) for p in progress],
        torchs(lr.CosineAnnealingLR, T_max=100),
        1e-9,
    )
    oracle(
        "Linear schedule",
        "a straight line",
        "torch's LinearLR",
        [schedules.linear(p, end=0.2) for p in progress],
        torchs(lr.LinearLR, start_factor=1.0, end_factor=0.2, total_iters=100),
        1e-9,
    )
    half = [schedules.linear(p, start=0.5) for p in progress]
    oracle(
        "Linear schedule from half on",
        "Zhu et al. 2017, section 4",
        "numpy.interp",
        half,
        np.interp(progress, [0, 0.5, 1], [1, 1, 0]),
    )
    oracle(
        "Drop of the rate",
        "a step",
        "torch's MultiStepLR",
        [schedules.drop(p) for p in progress],
        torchs(lr.MultiStepLR, milestones=[50], gamma=0.1),
    )


def test_the_average_of_weights(oracle):
    network = torch.nn.Linear(4, 3).double()
    ema, images = EMA(network, half_life_kimg=0.064, ramp=1.0), 0
    average = network.weight.detach().numpy().copy()
    for step in range(40):
        network.weight.data += normal(3, 4, seed=step)
        images += 8
        ema.set_weight(images, 8)
        ema.update(network)
        beta = 0.5 ** (8 / min(64.0, images))
        average = beta * average + (1 - beta) * network.weight.detach().numpy()
    source = "Karras et al. 2018, section 5"
    oracle("Average of G's weights, 40 steps", source, "the recursion in numpy", ema.network.weight, average, 1e-10)
    network.weight.data.zero_()
    before = ema.network.weight.clone()
    for _ in range(8):
        ema.set_weight(10_000, 8)
        ema.update(network)
    oracle(
        "Half-life of the average, in images",
        source,
        "half of the weight after it",
        ema.network.weight,
        before / 2,
        1e-10,
    )


def test_clipping_of_gradients(oracle, tmp_path):
    run = start(tmp_path, "mlp", "trainer.clip=0.01", "trainer.steps=1")
    norms = []

    def collect() -> None:
        norms.append(math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in run.trainer.parameters["G"])))

    at_step(run, 1, collect).train()
    oracle(
        "Norm of the clipped gradient",
        "Pascanu et al. 2013, algorithm 1",
        "numpy, where torch adds 1e-6 to the norm",
        norms[0],
        0.01,
        2e-4,
    )


@pytest.mark.parametrize(("images", "batch"), [(640, 64), (1000, 50)])
def test_the_budget(images, batch, oracle):
    budget = schedules.Budget(steps=None, kimg=images / 1000)
    steps = next(step for step in range(1, 1000) if budget.progress(step, step * batch, 0.0) >= 1)
    oracle("Steps of a budget in images", "images / batch", "division", steps, images / batch, 0)
