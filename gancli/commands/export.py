"""gan export: a generator for other programs, or as a page for anybody."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.exported import generator_only
from gancli.checkpoint.rebuild import restore
from gancli.data.classes import one_hot
from gancli.images import Size, sides
from gancli.runtime.checks import check_number
from gancli.runtime.files import check_writable, typed_path, write_atomically, write_text
from gancli.runtime.publish import publishing

FORMATS = (".safetensors", ".onnx", ".html")
TOLERANCE = 1e-4  # largest difference of two programs' images, which lie in [-1, 1]


def main(
    ckpt: str,
    out: str,
    half: bool,
    blend: str,
    blend_weight: float,
    ema: bool,
    bits: int = 16,
    force: bool = False,
    publish_paths: bool = False,
) -> None:
    """Write the generator of a checkpoint and print the path."""
    with publishing(publish_paths):
        export(ckpt, out, half, blend, blend_weight, ema, bits, force)


def export(ckpt: str, out: str, half: bool, blend: str, blend_weight: float, ema: bool, bits: int, force: bool) -> None:
    path = typed_path(out)
    if path.suffix not in FORMATS:
        raise ValueError(
            f"out={out} has no known format; type out=generator.safetensors, out=generator.onnx or out=play.html"
        )
    if path.exists():
        raise ValueError(f"{path} is there already; type another out=, or remove it first")
    check_writable("out", path)
    check_number("blend_weight", blend_weight, 0, 1, example=0.5)
    if bits not in (16, 8):
        raise ValueError(f"bits={bits} is not one of 16, 8; type bits=16")
    if half and path.suffix != ".safetensors":
        raise ValueError("half=true is for out=x.safetensors only; leave it out")
    if path.suffix == ".onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        raise ValueError(f"out={out} needs packages that write and run ONNX; type pip install 'gancli[onnx]'")
    content = checkpoint.read(checkpoint.find(ckpt))
    other = checkpoint.read(checkpoint.find(blend)) if blend else None
    exported = generator_only(content, ema, half, other, blend_weight)
    network = restore(exported["networks"]["G"]["config"], exported["networks"]["G"]["state"], exported["output"])
    if path.suffix == ".safetensors":
        checkpoint.write(path, exported)
        print(path)
        return
    if path.suffix == ".html":
        write_page(path, network, exported, bits, force)
        return
    model = OnnxGenerator(network, **exported["output"])
    facts = {name: json.dumps(exported[name]) for name in ("output", "versions")}
    facts |= {"trained": exported["trained"], "class_names": json.dumps(exported["output"]["class_names"])}
    facts |= {"network": json.dumps(exported["networks"]["G"]["config"]), "call": model.call}
    write_atomically(path, lambda partial: model.write(partial, facts))
    print(path)
    print(model.example(path), file=sys.stderr)


def write_page(path: Path, network: nn.Module, exported: dict[str, Any], bits: int, force: bool) -> None:
    """Write the page of a generator; print its path, its size and what the rounding of weights changes."""
    from gancli.play import page as play

    play.check_size(network, bits, force)
    config = exported["config"]
    title = f"{config['model']['name']} on {config['data']['name']}"
    page = play.build(network, exported["output"], title, exported["trained"], bits)
    print(write_text(path, page.html))
    changed = f"its {bits}-bit weights change a pixel by at most {page.difference:.1f} of 255 levels"
    print(f"{page.megabytes:.1f} MB; {changed}; open it in a browser", file=sys.stderr)


class OnnxGenerator(nn.Module):
    """A generator with only those of the inputs z and c that it uses, for images in [-1, 1].

    Without noise c is an image, of any size or of multiples of the network's `multiple`.
    """

    def __init__(
        self, network: Any, size: Size, channels: int, class_names: list[str], columns: Any = (), codes: Any = ()
    ):
        super().__init__()
        self.network, self.channels, self.size = network, channels, size
        self.eval().requires_grad_(False)
        self.z_dim, self.classes, self.from_image = network.z_dim, network.classes, not network.z_dim
        self.source_channels = getattr(network, "source_channels", channels)
        self.multiple = getattr(network, "multiple", 1)
        names = [f"{one['name']} {', '.join(one['values']) or 'from 0 to 1'}" for one in columns if codes]
        self.order = f"of these labels: {'; '.join(names)}" if names else "one-hot in the order of class_names"
        self.names = [*(["z"] if self.z_dim else []), *(["c"] if self.classes or self.from_image else [])]

    def forward(self, *given: Tensor) -> Tensor:
        inputs = dict(zip(self.names, given))
        empty = given[0].flatten(1)[:, :0]
        return self.network(inputs.get("z", empty), inputs.get("c", empty)).clamp(-1, 1)

    @property
    def call(self) -> str:
        """Description of the inputs and the output."""
        image = f"image: float32 (N, {self.channels}, {', '.join(map(str, sides(self.size)))})"
        inputs = {
            "z": f"z: float32 (N, {self.z_dim}), from N(0, 1)",
            "c": f"c: float32 (N, {self.classes}), {self.order}",
        }
        if self.from_image:
            h, w = (f"{self.multiple} {side}".removeprefix("1 ") for side in "hw")
            height, width = (f"{self.network.scale * self.multiple} {side}".removeprefix("1 ") for side in "hw")
            masked = getattr(self.network, "masked", False)
            mask = ", the last channel a mask, 1 where the image is missing and 0 elsewhere" if masked else ""
            inputs["c"] = f"c: float32 (N, {self.source_channels}, {h}, {w}), images in [-1, 1]{mask}"
            image = f"image: float32 (N, {self.channels}, {height}, {width})"
        return "; ".join([*(inputs[name] for name in self.names), f"{image}, in [-1, 1]"])

    def example(self, path: Path) -> str:
        """Return three lines of Python that call the file."""
        classes = ", ".join(str(i % max(self.classes, 1)) for i in range(4))
        c = f'"c": numpy.eye({self.classes}, dtype="float32")[[{classes}]]'
        if self.from_image:
            h, w = (-(-side // self.multiple) * self.multiple for side in (32, 48))
            c = f'"c": numpy.zeros((1, {self.source_channels}, {h}, {w}), "float32")'
        inputs = {"z": f'"z": numpy.random.randn(4, {self.z_dim}).astype("float32")', "c": c}
        return (
            f"import numpy, onnxruntime\n"
            f"session = onnxruntime.InferenceSession({str(path)!r})\n"
            f"image = session.run(None, {{{', '.join(inputs[name] for name in self.names)}}})[0]  # {self.call}"
        )

    def inputs(self, n: int, height: int = 8, width: int = 8) -> list[Tensor]:
        """Return random inputs for n images; the height and width of images c count multiples."""
        generator = torch.Generator().manual_seed(n)
        z = torch.randn(n, self.z_dim, generator=generator)
        c = one_hot(torch.arange(n) % max(self.classes, 1), self.classes)
        if self.from_image:
            sides = (height * self.multiple, width * self.multiple)
            c = 2 * torch.rand(n, self.source_channels, *sides, generator=generator) - 1
        return [{"z": z, "c": c}[name] for name in self.names]

    @torch.no_grad()
    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """Write an ONNX file for any number of images; raise ValueError if its images differ from this generator's."""
        import onnxruntime

        shapes: dict[str, Any] = {name: {0: torch.export.Dim("n")} for name in self.names}
        smallest = 2 if self.multiple > 1 else 1  # side in multiples that two halvings with reflected padding take
        if self.from_image:
            h, w = (torch.export.Dim(side, min=2) if self.multiple > 1 else torch.export.Dim(side) for side in "hw")
            shapes["c"] |= {2: self.multiple * h, 3: self.multiple * w}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that z and c have equally many rows
            program = torch.onnx.export(
                self,
                tuple(self.inputs(2)),
                input_names=self.names,
                output_names=["image"],
                dynamic_shapes=(tuple(shapes[name] for name in self.names),),
                dynamo=True,
                verbose=False,
            )
        assert program is not None  # with dynamo
        for node in program.model.graph:
            node.metadata_props.clear()  # where in whose folders the network's code lies
            node.doc_string = None
        program.model.metadata_props.update(metadata)
        program.save(path, external_data=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for n, height, width in ((1, smallest, smallest), (2, 8, 8), (5, 7, 12)):
            inputs = self.inputs(n, height, width)
            images = session.run(None, {name: t.numpy() for name, t in zip(self.names, inputs)})[0]
            difference = (torch.from_numpy(images) - self(*inputs)).abs().max().item()
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"the ONNX file's images differ from this generator's by {difference:.2g}, and it was removed; "
                    f"type out=generator.safetensors"
                )
