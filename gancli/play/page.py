"""The page of a generator, play.html: one file that computes its images in the browser."""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gancli.data.labels import from_output
from gancli.images import in_pixels, sides
from gancli.inference.generator import Generator, command_for, noise
from gancli.inference.latents import first_layer_directions, first_layer_weight
from gancli.play.graph import Unsupported, Weights, plain, trace
from gancli.play.weights import largest_difference, pack
from gancli.report.rendering import render

STATIC = Path(__file__).parent / "static"
ENGINE = ("noise.js", "matmul.js", "tensors.js", "layers.js", "graph.js", "tiles.js", "server.js")
MARK = "THE WEIGHTS ARE PUT HERE"  # behind all that renders text, which would read megabytes of base64 again and again
MOST_WEIGHTS = 50_000_000  # above which a page is written only if asked for twice
DIRECTIONS = 6  # sliders
TRIED = 8  # images by which rounded weights are compared


class Page(NamedTuple):
    html: str
    megabytes: float
    difference: float  # largest one that the rounding of weights makes, in levels of 8 bits


def check_size(network: nn.Module, bits: int, force: bool) -> None:
    """Raise ValueError where a page would be very large and was not forced."""
    n = sum(x.numel() for x in network.parameters())
    if n > MOST_WEIGHTS and not force:
        size = f"{n / 1e6:,.0f} million weights, so the page would have about {n * bits / 8 * 4 / 3 / 1e6:,.0f} MB"
        raise ValueError(f"this model has {size}; type force=true to write it")


def build(network: nn.Module, output: dict[str, Any], title: str, trained: str, bits: int = 16) -> Page:
    """Return the page of a network; `output` is that of its checkpoint.

    Raises:
        ValueError: the network generates no images, or calls what the page's JavaScript does not compute.
    """
    if output["channels"] not in (1, 3):
        raise ValueError("this model generates points of the plane, and a page shows images; type gan sample")
    if not isinstance(output["size"], int) and int(network.z_dim):  # type: ignore[arg-type]
        raise ValueError(
            f"a page shows square images, and this model's are {in_pixels(output['size'])}; type "
            f"out=generator.onnx instead"
        )
    labels = from_output(output) if "columns" in output else ()
    G = Generator(plain(network), output["size"], output["channels"], output["class_names"], *labels)
    weights = Weights()
    try:
        graphs, facts = noise_graphs(G, weights) if G.z_dim else picture_graphs(G.network, weights)
    except Unsupported as error:
        name = type(network).__name__
        raise ValueError(
            f"{name} calls {error}, which a page does not compute; type out=generator.onnx instead"
        ) from error
    entries, text, stored = pack(weights.tensors, bits)
    facts |= {"size": G.size, "channels": G.channels, "graphs": graphs, "weights": entries}
    before = examples(G)
    G.network.load_state_dict({name.removeprefix("network."): x for name, x in stored.items()}, strict=False)
    difference = largest_difference(before, examples(G))
    if not math.isfinite(difference):
        raise ValueError("the network's images are not finite (NaN or infinity); type another ckpt=")
    engine, script = ("\n".join(read(name) for name in names) for names in (ENGINE, page_scripts(G)))
    html = render(
        "play.html",
        data={"title": title, "trained": trained.removeprefix(f"{title}, "), **facts},
        engine=engine,
        script=script,
        style=read("play.css"),
        policy=" ".join(f"'sha256-{digest(part)}'" for part in (engine, script)),
        precision=f"Its weights have {bits} bits, which changes a pixel by at most {difference:.1f} of 255 levels.",
        weights_mark=MARK,
        refresh=0,
    )
    html = html.replace(MARK, text, 1)
    return Page(html, len(html.encode()) / 1e6, difference)


def noise_graphs(G: Generator, weights: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the graphs of a network that samples from noise, and what the page must know of it."""
    network = G.network
    z, c = noise(range(1), G.z_dim, 0), G.condition(G.labels(1))
    graphs = {"generate": trace(network, lambda z, c: network(z, c).clamp(-1, 1), {"z": z, "c": c}, weights)}
    if hasattr(network, "encode"):
        x = torch.zeros(1, G.channels, *sides(G.size))
        graphs["encode"] = trace(network, network.encode, {"x": x, "c": c}, weights)  # type: ignore[arg-type]
    several = G.codes is not None
    labels: dict[str, Any] = {
        "classNames": [] if several else [G.class_name(label) for label in range(G.classes)],
        "columns": [asdict(column) for column in G.columns] if several else [],
        "codes": G.codes.tolist() if G.codes is not None else [],
    }
    return graphs, {"kind": "noise", "zDim": G.z_dim, "directions": directions(G), **labels}


def directions(G: Generator) -> list[list[float]]:
    """Return the directions of the sliders, none where no layer takes z unchanged."""
    try:
        k = min(DIRECTIONS, *first_layer_weight(G).shape)
    except ValueError:
        return []
    return [[round(v, 6) for v in row] for row in first_layer_directions(G, k).tolist()]


def picture_graphs(network: Any, weights: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the graphs of a network that maps images to images, and what the page must know of it."""
    multiple, there = int(getattr(network, "multiple", 1)), getattr(network, "there", network)
    source_channels, masked = source_channels_of(network), bool(getattr(network, "masked", False))
    if source_channels - masked not in (1, 3):
        raise ValueError(f"the network takes images of {source_channels} channels, not 1 or 3; type another ckpt=")
    sides = [torch.export.Dim(side, min=2) if multiple > 1 else torch.export.Dim(side) for side in "hw"]
    shapes = {"c": {axis: multiple * side for axis, side in zip((2, 3), sides)}}
    parts = {"image": there, **({"back": network.back} if hasattr(network, "back") else {})}
    graphs = {}
    for name, part in parts.items():
        x = torch.zeros(1, source_channels_of(part), 4 * multiple, 5 * multiple)
        graphs[name] = trace(network, _translation(part), {"c": x}, weights, shapes)
    facts = {
        "kind": command_for(network),
        "sourceChannels": source_channels,
        "scale": int(getattr(network, "scale", 1)),
        "multiple": multiple,
        "halo": int(network.halo),
        "masked": masked,
        "least": -(-getattr(there, "least", 1) // multiple),
    }
    return graphs, facts


def source_channels_of(network: Any) -> int:
    return int(getattr(network, "source_channels", network.channels))


def _translation(network: nn.Module) -> Any:
    return lambda c: network(c.flatten(1)[:, :0], c).clamp(-1, 1)


def examples(G: Generator) -> Tensor:
    """Return some images, or results for some random images, on which rounding is measured."""
    if G.z_dim:
        return G.generate(noise(range(TRIED), G.z_dim, 0), G.condition(G.labels(TRIED)))
    network, multiple = G.network, int(getattr(G.network, "multiple", 1))
    side = -(-32 // multiple) * multiple
    generator = torch.Generator().manual_seed(0)
    coarse = 2 * torch.rand(1, source_channels_of(network), 8, 8, generator=generator) - 1
    x = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    with torch.no_grad():
        return network(x.new_zeros(1, 0), x).clamp(-1, 1)


def page_scripts(G: Generator) -> Sequence[str]:
    return ("page.js", "noise_page.js" if G.z_dim else "picture_page.js")


def read(name: str) -> str:
    text = (STATIC / name).read_text(encoding="utf-8")
    assert "</script" not in text.lower()
    return text


def digest(text: str) -> str:
    """Return the SHA-256 of a script as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
