"""The generator that ships: a network, what its images are, and images by number."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gancli.config import nearest, seed_of

# Noise is drawn and images are made in blocks of this many, whatever is asked for: then image i of a seed is the
# same to the last bit at any n.
BLOCK = 64


def noise(indices: range, z_dim: int, seed: int) -> Tensor:
    """z (len(indices), z_dim) for these image numbers: a pure function of (seed, image number), on the CPU."""
    first, last = indices.start // BLOCK, -(-indices.stop // BLOCK)
    blocks = [
        torch.randn(BLOCK, z_dim, generator=torch.Generator().manual_seed(seed_of(seed, "z", b)))
        for b in range(first, last)
    ]
    start = first * BLOCK
    return torch.cat(blocks)[indices.start - start : indices.stop - start]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Classes (N,) as rows of zeros with a one (N, classes); of width zero where there are none."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """From a at t = 0 to b at t = 1 along the arc between them, each row by itself; (N, z_dim).

    Gaussian noise lies near a sphere; a straight line would pass through its empty middle. White 2016,
    https://arxiv.org/abs/1609.04468, section 2.1.
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    straight = angle.sin() < 1e-4
    arc = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin().clamp_min(1e-8)
    return torch.where(straight, (1 - t) * a + t * b, arc)


class Generator:
    """What a checkpoint gives back: `sample` and `interpolate` make images, float (N, C, H, W) in [-1, 1].

    Where z_dim is 0 nothing is made of noise, and only the network itself is of use.
    network: G(z, c) with `z_dim` and `classes`, in eval mode. class_names: of the data it was trained on.
    """

    def __init__(self, network: nn.Module, size: int, channels: int, class_names: Sequence[str] = ()):
        self.network = network.eval().requires_grad_(False)
        self.size, self.channels, self.class_names = size, channels, list(class_names)
        self.z_dim, self.classes = int(network.z_dim), int(network.classes)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def labels(self, n: int, classes: Sequence[int | str] = (), start: int = 0) -> Tensor:
        """The class (n,) of images start, start + 1, ...: those asked for (all, if none is named) in turn."""
        if not self.classes:
            if len(classes):
                raise ValueError(
                    "classes were asked for, but this model is unconditional: it was trained without classes; "
                    "leave classes= out, or train model=cgan"
                )
            return torch.zeros(n, dtype=torch.int64)
        numbers = [self._class(c) for c in classes] or list(range(self.classes))
        return torch.tensor([numbers[i % len(numbers)] for i in range(start, start + n)], dtype=torch.int64)

    def blocks(self, n: int, seed: int = 0, classes: Sequence[int | str] = ()) -> Iterator[tuple[Tensor, Tensor]]:
        """`sample` in pieces of BLOCK images, (images, labels), for when all of them do not fit in memory."""
        self._check_noise()
        if n < 1:
            raise ValueError(f"at least one image is made, but n={n}; type n=64")
        for start in range(0, n, BLOCK):
            labels = self.labels(BLOCK, classes, start)
            images = self.forward(noise(range(start, start + BLOCK), self.z_dim, seed), labels)
            keep = min(BLOCK, n - start)
            yield images[:keep], labels[:keep]

    def sample(self, n: int = 64, seed: int = 0, classes: Sequence[int | str] = ()) -> Tensor:
        """n images (n, C, H, W). Image i of a seed is the same at any n; `classes` are taken in turn."""
        return torch.cat([images for images, _ in self.blocks(n, seed, classes)])

    def interpolate(self, n: int, frames: int, seed: int = 0, classes: Sequence[int | str] = ()) -> Tensor:
        """From each of images 0 to n - 1 of a seed to the next (the last to the first): (n * frames, C, H, W).

        frames: images a stretch, its start included and its end not. A class turns into the next one gradually.
        """
        self._check_noise()
        if n < 2 or frames < 1:
            raise ValueError(
                f"a way goes between two images or more, but n={n} interpolate={frames}; type n=8 interpolate=8"
            )
        z, labels = noise(range(n), self.z_dim, seed), self.labels(n, classes)
        c = one_hot(labels, self.classes)
        points = [
            (slerp(z, z.roll(-1, 0), t), (1 - t) * c + t * c.roll(-1, 0)) for t in (f / frames for f in range(frames))
        ]
        z_way = torch.stack([p[0] for p in points], 1).flatten(0, 1)
        c_way = torch.stack([p[1] for p in points], 1).flatten(0, 1)
        made = [self._run(z_way[i : i + BLOCK], c_way[i : i + BLOCK]) for i in range(0, len(z_way), BLOCK)]
        return torch.cat(made)

    def _check_noise(self) -> None:
        if not self.z_dim:
            raise ValueError(
                "this model makes large images of small ones and none of noise; type gan upscale IN ckpt=..."
            )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images (N, C, H, W) of noise z (N, z_dim) and classes (N,)."""
        return self._run(z, one_hot(labels, self.classes))

    @torch.no_grad()
    def _run(self, z: Tensor, c: Tensor) -> Tensor:
        # A network without tanh may leave the range by a little.
        return self.network(z.to(self.device), c.to(self.device)).clamp(-1, 1)

    def _class(self, name: int | str) -> int:
        if isinstance(name, str) and name in self.class_names:
            return self.class_names.index(name)
        try:
            number = int(name)
        except ValueError:
            raise ValueError(f"there is no class {name!r}{nearest(str(name), self.class_names)}") from None
        if not 0 <= number < self.classes:
            raise ValueError(f"class {number} is outside 0 to {self.classes - 1}; type classes=[0,{self.classes - 1}]")
        return number
