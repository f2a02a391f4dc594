"""Generators loaded from checkpoints: images by number, and interpolation."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancli.checkpoint.format import find, read
from gancli.checkpoint.rebuild import BLOCK, generator_weights, restore
from gancli.checkpoint.trust import trusting
from gancli.data.classes import class_index, one_hot
from gancli.data.labels import Column, describe_code, from_output, typed_codes
from gancli.images import Size
from gancli.runtime.checks import check_number
from gancli.runtime.hardware import in_batches
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import one_line, shell_quote

Latents = tuple[Tensor, Tensor]  # z (N, z_dim) and c (N, classes) of N images
MOST_TRUNCATION = 2.0  # far beyond the noise that networks are trained on


def noise(indices: range, z_dim: int, seed: int) -> Tensor:
    """Return z (len(indices), z_dim) of these images of a seed, on the CPU; row i depends on (seed, i) alone."""
    first, last = indices.start // BLOCK, -(-indices.stop // BLOCK)
    generators = [torch.Generator().manual_seed(derive_seed(seed, "z", block)) for block in range(first, last)]
    z = torch.cat([torch.randn(BLOCK, z_dim, generator=generator) for generator in generators])
    return z[indices.start - first * BLOCK : indices.stop - first * BLOCK]


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate rows (N, z_dim) along the arc from a, at t = 0, to b, at t = 1.

    Gaussian noise lies near a sphere, and a straight line would pass through its empty middle. Section 2.1 of White
    2016, https://arxiv.org/abs/1609.04468.
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    straight = angle.sin() < 1e-4
    arc = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin().clamp_min(1e-8)
    return torch.where(straight, (1 - t) * a + t * b, arc)


class Generator:
    """A network G(z, c) with size, channels and class names of its training images.

    Images are float (N, C, H, W) in [-1, 1]. With z_dim 0, as for image to image, only `network` is of use.
    """

    def __init__(
        self,
        network: nn.Module,
        size: Size,
        channels: int,
        class_names: Sequence[str] = (),
        columns: Sequence[Column] = (),
        codes: Tensor | None = None,
    ):
        self.network = network.eval().requires_grad_(False)
        self.z_dim, self.classes = int(network.z_dim), int(network.classes)  # type: ignore[arg-type]
        self.size, self.channels, self.class_names = size, channels, list(class_names) if self.classes else []
        self.columns, self.codes = list(columns), codes if self.classes else None

    @classmethod
    def like(cls, network: nn.Module, data: Any) -> "Generator":
        """Return the generator of images like those of a data set."""
        return cls(network, data.size, data.channels, data.class_names, getattr(data, "columns", ()), data.codes)

    def choose(self, typed: Mapping[str, str]) -> list[str]:
        """Generate images with these labels alone, as in {"shape": "circle"}; raise ValueError for unknown ones.

        Returns:
            The class, where the label is the only one and so gives ordinary classes.
        """
        if typed and not self.columns:
            first = next(iter(typed))
            raise ValueError(
                f"labels.{first}= is for models trained with data.labels=, and this one was not; leave it out"
            )
        if self.codes is not None:
            self.codes = typed_codes(self.columns, self.codes, typed)
        elif typed:
            return [self.class_names[int(typed_codes(self.columns, torch.eye(self.classes), typed).argmax())]]
        return []

    def condition(self, labels: Tensor) -> Tensor:
        """Return c (N, classes) of labels (N,)."""
        return one_hot(labels, self.classes) if self.codes is None else self.codes[labels]

    @property
    def conditions(self) -> int:
        """How many different c `labels` chooses from: one each class, or each stored row of several labels."""
        return self.classes if self.codes is None else len(self.codes)

    def describe(self, c: Tensor) -> str:
        """Return what c (classes,) asks for, such as "class cat" or "shape circle, size 3"; empty without classes."""
        if self.codes is not None:
            return describe_code(self.columns, c)
        return f"class {self.class_name(int(c.argmax()))}" if self.classes else ""

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def labels(self, n: int, classes: Sequence[int | str] = (), start: int = 0) -> Tensor:
        """Return the classes (n,) of images start, start + 1, ...: `classes`, by default all, in turn."""
        if not self.classes:
            if len(classes):
                unconditional = "this model is unconditional: it was trained without classes"
                raise ValueError(f"{unconditional}; leave classes= out, or train model=cgan")
            return torch.zeros(n, dtype=torch.int64)
        if self.codes is not None and len(classes):
            names = ", ".join(f"labels.{column.name}=" for column in self.columns)
            raise ValueError(f"this model was trained with several labels; type {names} in place of classes=")
        numbers = [class_index(c, self.class_names, self.classes) for c in classes] or list(range(self.conditions))
        return torch.tensor([numbers[i % len(numbers)] for i in range(start, start + n)], dtype=torch.int64)

    def class_name(self, label: int) -> str:
        return str(self.class_names[label] if label < len(self.class_names) else label)

    def blocks(
        self, n: int, seed: int = 0, classes: Sequence[int | str] = (), truncation: float = 1.0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) of `sample` in blocks of BLOCK images, for more images than fit in memory."""
        self.check_noise()
        check_number("n", n, 1, example=64)
        for start in range(0, n, BLOCK):
            labels = self.labels(BLOCK, classes, start)
            z = self.truncated(noise(range(start, start + BLOCK), self.z_dim, seed), truncation)
            images = self.generate(z, self.condition(labels))
            yield images[: n - start], labels[: n - start]

    def sample(self, n: int = 64, seed: int = 0, classes: Sequence[int | str] = (), truncation: float = 1.0) -> Tensor:
        """Return n images (n, C, H, W). Image i of a seed is the same at any n; `classes` are used in turn.

        Args:
            truncation: as that of `truncated`.
        """
        return torch.cat([images for images, _ in self.blocks(n, seed, classes, truncation)])

    def truncated(self, z: Tensor, truncation: float) -> Tensor:
        """Return z (N, z_dim) nearer to its mean, 0: each image moves towards the mean of its class.

        Less than 1 gives fewer failures and less variety. This is the reduced temperature of Kingma and Dhariwal 2018,
        https://arxiv.org/abs/1807.03039. StyleGAN does it to w (Karras et al. 2019, appendix B,
        https://arxiv.org/abs/1812.04948), which these networks do not have. BigGAN draws large components of z again
        (Brock et al. 2019, section 3.1, https://arxiv.org/abs/1809.11096), and its images are then others.
        """
        check_number("truncation", truncation, 0, MOST_TRUNCATION, example=0.7)
        return truncation * z

    def stops(
        self, n: int, frames: int, seed: int = 0, classes: Sequence[int | str] = (), truncation: float = 1.0
    ) -> Latents:
        """Return the latents of images 0 to n - 1 of a seed, between which `frames` images each are interpolated."""
        self.check_noise()
        if n < 2 or frames < 1:
            given = f"n={n} interpolate={frames}"
            raise ValueError(f"interpolation needs two images or more, but {given}; type n=8 interpolate=8")
        z = self.truncated(noise(range(n), self.z_dim, seed), truncation)
        return z, self.condition(self.labels(n, classes))

    def interpolate(
        self, n: int, frames: int, seed: int = 0, classes: Sequence[int | str] = (), truncation: float = 1.0
    ) -> Tensor:
        """Return images (n * frames, C, H, W) from each of the images 0 to n - 1 of a seed to the next, and back again.

        Each of the n begins `frames` images, up to the next one. Classes are interpolated too.
        """
        z, c = self.stops(n, frames, seed, classes, truncation)
        return self.interpolate_latents((z, c), (z.roll(-1, 0), c.roll(-1, 0)), [f / frames for f in range(frames)])

    def interpolate_latents(self, start: Latents, end: Latents, times: Sequence[float]) -> Tensor:
        """Return images (N * len(times), C, H, W) between latents `start`, at time 0, and `end`, at time 1."""
        points = [(slerp(start[0], end[0], t), (1 - t) * start[1] + t * end[1]) for t in times]
        z, c = (torch.stack(part, 1).flatten(0, 1) for part in zip(*points))
        return self.generate(z, c)

    @torch.no_grad()
    def generate(self, z: Tensor, c: Tensor) -> Tensor:
        """Return images (N, C, H, W) of latents z (N, z_dim) and c (N, classes), one-hot or a mixture of classes."""
        at_once = int(getattr(self.network, "images_at_once", BLOCK))
        z, c = z.to(self.device), c.to(self.device)
        # A network without tanh may leave the range by a little.
        return torch.cat(in_batches(lambda z, c: self.network(z, c).clamp(-1, 1), z, c, size=at_once))

    def check_noise(self) -> None:
        """Raise ValueError unless this model samples from noise."""
        if not self.z_dim:
            raise ValueError(
                "this model does not sample from noise, it turns images into images; type gan upscale IN ckpt=..., or "
                "gan translate or gan inpaint"
            )


# By command: what its networks do, what is typed after the checkpoint, and where another network comes from.
COMMANDS = {
    "sample": ("turns noise into images", "", ""),
    "upscale": ("enlarges images", " scale={scale}", "leave ckpt= out or train model=sr_compact"),
    "translate": ("translates whole images", "", "train model=pix2pix or model=cyclegan"),
    "inpaint": ("fills what a mask hides", " mask=centre", "train model=inpainting"),
    "reconstruct": ("encodes images and decodes them", "", "train model=aegan or model=vae"),
}


def load(
    path: str | Path,
    ema: bool = True,
    device: torch.device | str = "cpu",
    command: str = "",
    trust: Sequence[str] = (),
) -> Generator:
    """Return the generator of a checkpoint, ready to sample.

    Args:
        path: a file, a run folder, "latest", "hf:user/name" or a bundled checkpoint's name.
        ema: the averaged weights, which are usually better; False gives the live ones.
        command: command of COMMANDS; a network for another one is refused.
        trust: packages whose networks the checkpoint may build; plugins need none.
    """
    file = find(path)
    content = read(file)
    try:
        output = content["output"]
        with trusting(trust):
            network = restore(content["networks"]["G"]["config"], generator_weights(content, ema), output)
        labels = from_output(output) if "columns" in output else ()
        shape = (output["size"], output["channels"], output["class_names"])
        generator = Generator(network.to(device), *shape, *labels)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # an untrusted file can fail in any way
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {one_line(error, 200)}"
        raise ValueError(f"{path} cannot be rebuilt: {reason}") from error
    if command and command_for(network) != command:
        raise ValueError(f"{file} is {_another_command(network, content['config']['model'], file, command)}")
    return generator


def command_for(network: nn.Module) -> str:
    """Return the command that a network is for."""
    if hasattr(network, "encode"):
        return "reconstruct"
    if hasattr(network, "source_channels"):
        return "inpaint" if getattr(network, "masked", False) else "translate"
    return "upscale" if isinstance(getattr(network, "scale", None), int) else "sample"


def _another_command(network: nn.Module, model: dict[str, Any], file: Path, command: str) -> str:
    """Return what a network is and does, and what to type with it and for `command`."""
    name, task, right = model["name"], model.get("task"), command_for(network)
    task_name = str(task.get("_target_")).rpartition(".")[2].lower() if isinstance(task, dict) else ""
    name = f"{name} on task={task_name}" if task_name.isidentifier() else name
    does, more, _ = COMMANDS[right]
    ckpt = shell_quote(f"ckpt={file}")
    typed = f"gan {right} {'' if right == 'sample' else 'IN '}{ckpt}{more.format(scale=getattr(network, 'scale', 1))}"
    advice = f"type {typed}, or for gan {command} {COMMANDS[command][2]}"
    if (right, command) == ("sample", "reconstruct"):
        advice = f"type gan project IN {ckpt}, which searches z"
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}, which {does}; {advice}"
