"""Networks with an encoder: how near reconstructions are, and of a VAE how likely it finds images."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gancli.checkpoint.format import versions
from gancli.data.classes import one_hot
from gancli.evaluation.reference import EvaluationSet, drawing
from gancli.evaluation.result import EXAMPLES, EvaluationResult, examples, finite
from gancli.inference.generator import Generator
from gancli.losses.divergence import gaussian_kl
from gancli.metrics.elbo import elbo, importance_weighted
from gancli.metrics.psnr_ssim import rgb_psnr
from gancli.networks.likelihood import LEVEL, Gaussian
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import printable


@torch.no_grad()
def measure(G: Generator, weights: str, held: EvaluationSet, samples: int) -> EvaluationResult:
    """Print the reconstructions' PSNR and squared error, the bounds where there is a likelihood, and the protocol.

    samples: of the posterior, for the importance-weighted bound of an image.
    """
    if samples < 1:
        raise ValueError(f"at least one code is drawn for each image, but samples={samples}; type samples=100")
    if G.classes and list(held.data.class_names) != G.class_names:
        raise ValueError(
            f"this model is told the class of an image, of {shortly(G.class_names)}, but data={held.name} has "
            f"{shortly(held.data.class_names)}; leave data= out, or name data of the same classes"
        )
    network: Any = G.network
    unit = getattr(getattr(network, "likelihood", None), "unit", "")
    parts: list[dict[str, Tensor]] = []
    shown: list[tuple[Tensor, Tensor]] = []
    for k, (x, labels, _) in enumerate(held.images()):
        c = one_hot(labels, G.classes).to(G.device)
        made = finite(network(network.encode(x.to(G.device), c), c))
        figures = {"psnr": rgb_psnr(made, x), "squared_error": (made - x).square().flatten(1).mean(1)}
        parts.append(figures | (bounds(network, x, c, samples, derive_seed(held.seed, "block", k)) if unit else {}))
        if not shown:
            shown.append((x[:EXAMPLES], made[:EXAMPLES]))
    values = {key: torch.cat([part[key] for part in parts]).double() for key in parts[0]}
    met = int(values["psnr"].isinf().sum())
    values["psnr"] = values["psnr"][~values["psnr"].isinf()]
    means = {key: float(value.mean()) for key, value in values.items()}
    protocol: dict[str, Any] = {
        "weights": weights,
        **held.protocol,
        "classes": "told" if G.classes else "none",
        "reconstructions": "the mean image of the mean code; PSNR of 8 bits and all channels, squared error in [-1, 1]",
        "met exactly, not in the mean PSNR": met,
    }
    if unit:
        pixels = held.data.channels * held.data.size**2
        means |= {
            f"{key}_bits": bits(means[key], pixels, network.likelihood) for key in ("elbo", "importance_weighted")
        }
        protocol |= {"likelihood": type(network.likelihood).__name__, "unit": unit, "samples": samples}
    protocol["versions"] = versions()
    print_table(means, protocol, held)
    picture = examples(dict(zip(("real", "reconstructed"), shown[0])))
    return EvaluationResult({"mean": means}, protocol, picture, ranked=means)


def bounds(network: Any, x: Tensor, c: Tensor, samples: int, seed: int) -> dict[str, Tensor]:
    """Both bounds of images x (N, C, H, W) as the likelihood observes them, and the KL part: (N,) in nats."""
    with drawing(seed, "observed"):  # on the CPU, so that any device sees the same
        observed = network.likelihood.observed(x).to(c.device)
    generator = torch.Generator().manual_seed(derive_seed(seed, "codes"))
    noise = torch.randn(len(x), int(network.z_dim), generator=generator).to(c.device)
    found = {
        "elbo": elbo(network, observed, c, noise),
        "importance_weighted": importance_weighted(network, observed, c, samples, generator),
        "kl": gaussian_kl(*network.posterior(observed, c)),
    }
    return {key: value.cpu() for key, value in found.items()}


def bits(nats: float, pixels: int, likelihood: nn.Module) -> float:
    """A bound in nats an image as bits per dimension, of which an image has `pixels`.

    A density in [-1, 1] counts as its mass within a level of 8 bits.
    """
    density = isinstance(likelihood, Gaussian)
    return -nats / (pixels * math.log(2)) - (math.log2(LEVEL) if density else 0.0)


def shortly(names: list[str]) -> str:
    if not names:
        return "none"
    return printable(f"{len(names)} classes, {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")


def print_table(means: dict[str, float], protocol: dict[str, Any], held: EvaluationSet) -> None:
    if "elbo" in means:
        print(f"{'':<28}{'nats an image':>16}{'bits per dimension':>22}")
        for key, name in (("elbo", "evidence lower bound"), ("importance_weighted", "importance-weighted bound")):
            print(f"{name:<28}{means[key]:16.2f}{means[f'{key}_bits']:22.4f}")
        print(f"{'KL of codes from noise':<28}{means['kl']:16.2f}")
        print()
    print(f"{'':<28}{'PSNR in dB':>16}{'mean squared error':>22}")
    print(f"{'reconstructions':<28}{means['psnr']:16.2f}{means['squared_error']:22.5f}\n")
    print(held)
    if "unit" in protocol:
        print(f"likelihood of {protocol['unit']}")
        print(f"importance-weighted bound: of {protocol['samples']:,} codes for each image")
    print(f"reconstructions: {protocol['reconstructions']}")
    if met := protocol["met exactly, not in the mean PSNR"]:
        print(f"{met} images are met exactly and are not in the mean PSNR")
    print(protocol["weights"])
