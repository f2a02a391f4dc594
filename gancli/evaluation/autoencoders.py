"""Networks with an encoder: quality of reconstructions, and for a VAE bounds of the log-likelihood."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gancli.checkpoint.format import versions
from gancli.data.classes import one_hot
from gancli.evaluation.reference import EvaluationSet, fixed_seed
from gancli.evaluation.result import EXAMPLES, EvaluationResult, examples, finite
from gancli.images import sides
from gancli.inference.generator import Generator
from gancli.losses.divergence import gaussian_kl
from gancli.metrics.elbo import elbo, importance_weighted
from gancli.metrics.psnr_ssim import rgb_psnr
from gancli.networks.likelihood import LEVEL, Gaussian
from gancli.runtime.checks import check_number
from gancli.runtime.hardware import in_batches
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import plural, printable, table

BOUNDS = {"elbo": "evidence lower bound", "importance_weighted": "importance-weighted bound"}


@torch.no_grad()
def evaluate(G: Generator, weights: str, reference: EvaluationSet, samples: int) -> EvaluationResult:
    """Return PSNR and squared error of reconstructions, and the bounds if G has a likelihood of pixels.

    The importance-weighted bound takes `samples` latents of the posterior per image.
    """
    check_number("samples", samples, least=1, example=100)
    if G.classes and list(reference.data.class_names) != G.class_names:
        raise ValueError(
            f"this model is conditioned on {_listed(G.class_names)}, but data={reference.name} has "
            f"{_listed(reference.data.class_names)}; leave data= out, or name data of the same classes"
        )
    values, first = _measure(G, reference, samples)
    exact = int(values["psnr"].isinf().sum())
    values["psnr"] = values["psnr"][~values["psnr"].isinf()]
    means = {key: float(value.mean()) for key, value in values.items()}
    protocol: dict[str, Any] = {
        "weights": weights,
        **reference.protocol,
        "classes": "given" if G.classes else "none",
        "reconstructions": "decoded mean latent; PSNR of 8 bits over all channels, squared error in [-1, 1]",
        "exact, not in the mean PSNR": exact,
    }
    likelihood: Any = getattr(G.network, "likelihood", None)
    if "elbo" in means:
        pixels = reference.data.channels * math.prod(sides(reference.data.size))
        means |= {f"{key}_bits": bits_per_dimension(means[key], pixels, likelihood) for key in BOUNDS}
        protocol |= {"likelihood": type(likelihood).__name__, "unit": likelihood.unit, "samples": samples}
    protocol["versions"] = versions()
    return EvaluationResult({"mean": means}, protocol, means, _text(means, protocol, reference), examples(first))


def _measure(G: Generator, reference: EvaluationSet, samples: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return each metric of each image, float64 (N,), and the first images with their reconstructions."""
    network: Any = G.network
    has_bounds = bool(getattr(getattr(network, "likelihood", None), "unit", ""))
    parts: list[dict[str, Tensor]] = []
    first: dict[str, Tensor] = {}
    for k, (x, labels, _) in enumerate(reference.batches()):
        c = one_hot(labels, G.classes).to(G.device)
        parts_of_x = in_batches(lambda x, c: network(network.encode(x.to(G.device), c), c), x, c)
        reconstructed = finite(torch.cat(parts_of_x))
        errors = {"psnr": rgb_psnr(reconstructed, x), "squared_error": (reconstructed - x).square().flatten(1).mean(1)}
        bounds = _bounds(network, x, c, samples, derive_seed(reference.seed, "block", k)) if has_bounds else {}
        parts.append(errors | bounds)
        first = first or {"real": x[:EXAMPLES], "reconstructed": reconstructed[:EXAMPLES]}
    return {key: torch.cat([part[key] for part in parts]).double() for key in parts[0]}, first


def _bounds(network: Any, x: Tensor, c: Tensor, samples: int, seed: int) -> dict[str, Tensor]:
    """Return both bounds and the KL divergence of images x (N, C, H, W), each (N,) in nats."""
    with fixed_seed(seed, "observed"):  # on the CPU, so that every device observes the same
        observed = network.likelihood.observed(x).to(c.device)
    generator = torch.Generator().manual_seed(derive_seed(seed, "codes"))
    noise = torch.randn(len(x), int(network.z_dim), generator=generator).to(c.device)
    values = {
        "elbo": elbo(network, observed, c, noise),
        "importance_weighted": importance_weighted(network, observed, c, samples, generator),
        "kl": gaussian_kl(*network.posterior(observed, c)),
    }
    return {key: value.cpu() for key, value in values.items()}


def bits_per_dimension(nats: float, pixels: int, likelihood: nn.Module) -> float:
    """Convert a bound in nats per image of `pixels` dimensions to bits per dimension.

    A density in [-1, 1] counts as the probability mass of one 8-bit level.
    """
    density = isinstance(likelihood, Gaussian)
    return -nats / (pixels * math.log(2)) - (math.log2(LEVEL) if density else 0.0)


def _listed(names: list[str]) -> str:
    if not names:
        return "no classes"
    return printable(f"{len(names)} classes, {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")


def _text(means: dict[str, float], protocol: dict[str, Any], reference: EvaluationSet) -> str:
    lines = []
    if "elbo" in means:
        rows = [["", "nats an image", "bits per dimension"]]
        rows += [[name, f"{means[key]:.2f}", f"{means[f'{key}_bits']:.4f}"] for key, name in BOUNDS.items()]
        lines += [table([*rows, ["KL divergence from the prior", f"{means['kl']:.2f}", ""]]), ""]
    errors = ["reconstructions", f"{means['psnr']:.2f}", f"{means['squared_error']:.5f}"]
    lines += [table([["", "PSNR in dB", "mean squared error"], errors]), "", str(reference)]
    if "unit" in protocol:
        lines += [f"likelihood of {protocol['unit']}"]
        lines += [f"importance-weighted bound: {protocol['samples']:,} latents per image"]
    lines += [f"reconstructions: {protocol['reconstructions']}"]
    if exact := protocol["exact, not in the mean PSNR"]:
        lines += [f"{plural(exact, 'image')} reconstructed exactly, not in the mean PSNR"]
    return "\n".join([*lines, protocol["weights"]])
