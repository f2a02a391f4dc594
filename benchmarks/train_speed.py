"""Images per second of `gan train` against the loop that everybody copies, in turn, in one run.

    python benchmarks/train_speed.py [--device cuda] [--batch 128] [--precisions fp32,bf16] [--steps 60] [--repeats 5]

The plain loop: a DataLoader of PIL pictures with ToTensor and Normalize and two workers, binary cross-entropy on a
sigmoid, a forward of G for D's step and another for its own, a full backward through D in G's step, default memory
layout, Adam's defaults, no average of the weights. The networks, the batch and the rates are those of model=dcgan in
both. Needs the data set under $GAN_DATA (or --root).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from gancli.checkpoint import versions
from gancli.commands.train import Run
from gancli.config import CONFIGS, choose_device, register_resolvers
from gancli.data.image_set import ImageSet
from gancli.machine import describe
from gancli.networks import dcgan

# The plain loop's workers go on filling their queue after its turn, and must not do so in another's.
PAUSE = 2.0  # seconds


class Pictures(Dataset):
    """What torchvision's data sets do for each item: an array to a PIL picture to a normalised tensor."""

    def __init__(self, data: ImageSet):
        self.arrays = data.images.permute(0, 2, 3, 1).numpy()
        middle = (0.5,) * data.channels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(middle, middle)])

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> torch.Tensor:
        array = self.arrays[i]
        return self.transform(Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array))


def plain_loop(data: ImageSet, batch: int, width: int, device: torch.device) -> Iterator[None]:
    """One step a `next`."""
    G = dcgan.Generator(100, data.channels, data.size, width).to(device)
    D = dcgan.Discriminator(data.channels, data.size, width).to(device)
    bce, c = nn.BCELoss(), torch.zeros(batch, 0, device=device)
    g_optimizer = torch.optim.Adam(G.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999))
    ones, zeros = torch.ones(batch, device=device), torch.zeros(batch, device=device)
    while True:
        for x in DataLoader(Pictures(data), batch, shuffle=True, num_workers=2, drop_last=True):
            x = x.to(device)
            D.zero_grad()
            fake = G(torch.randn(batch, 100, device=device), c).detach()
            d_loss = bce(D(x, c).sigmoid(), ones) + bce(D(fake, c).sigmoid(), zeros)
            d_loss.backward()
            d_optimizer.step()
            G.zero_grad()
            g_loss = bce(D(G(torch.randn(batch, 100, device=device), c), c).sigmoid(), ones)
            g_loss.backward()
            g_optimizer.step()
            d_loss.item(), g_loss.item()  # everybody prints them
            yield


def prepare(overrides: list[str]) -> Run:
    """What `gan train` builds from these overrides."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides)
    with tempfile.TemporaryDirectory() as folder:
        return Run(cfg, Path(folder), [], quiet=True)


def rounds(run: Run) -> Callable[[], None]:
    """`gan train`'s rounds, one a call, with the reading that its log does."""
    played = run.trainer.rounds()

    def play() -> None:
        if next(played) % run.options.log_every == 0:
            run.trainer.read()

    return play


def seconds(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """For `steps` calls, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--root", default=None)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precisions", default="fp32", help="fp32, or several: fp32,bf16")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = choose_device(options.device)
    overrides = ["model=dcgan", f"data={options.data}", f"data.batch_size={options.batch}", "trainer.steps=1000000000"]
    overrides += [f"device={device}", f"model.width={options.width}", "data.flip=false"]
    overrides += [f"data.root={options.root}"] if options.root else []
    runs = {p: prepare([*overrides, f"trainer.precision={p}"]) for p in options.precisions.split(",")}
    data = next(iter(runs.values())).data
    plain = plain_loop(data, options.batch, options.width, device)
    loops: dict[str, Callable[[], object]] = {"plain loop": lambda: next(plain)}
    loops |= {f"gan train {precision}": rounds(run) for precision, run in runs.items()}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for step in loops.values():
        seconds(step, 5, device)  # workers, kernels and caches warm up
    for _ in range(options.repeats):
        for name, step in loops.items():
            time.sleep(PAUSE)
            rates[name].append(options.steps * options.batch / seconds(step, options.steps, device))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {name: round(rate / medians["plain loop"], 2) for name, rate in medians.items()}
    for name, values in rates.items():
        spread = f"from {min(values):,.0f} to {max(values):,.0f}"
        print(f"{name:<16}{medians[name]:>9,.0f} images/s   {spread:<24}{ratios[name]:.2f} times the plain loop")
    facts = {"machine": describe(device), **vars(options), "versions": versions(), "ratios": ratios}
    print(json.dumps({**facts, "images_per_second": {n: [round(v, 1) for v in vs] for n, vs in rates.items()}}))


if __name__ == "__main__":
    main()
