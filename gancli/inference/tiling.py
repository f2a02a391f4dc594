"""A network from pictures to pictures put to use on those of any size: tile by tile, within the memory there is.

Such a network G(z, c) has z of width zero and pictures as c, float (N, source_channels, H, W) in [-1, 1], and gives
(N, channels, scale * H, scale * W). H and W are multiples of its `multiple`. Its `halo` is the radius of its receptive
field in pixels of c: a tile on the grid of `multiple` that is computed with so many pixels around it equals the whole.
"""

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gancli import images
from gancli.data.image_modes import array_of, bled, enlarged_alpha, inherit, to_pixels, to_tensor
from gancli.runtime.hardware import free_memory

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, right and bottom not included
Read = Callable[[int, int, int, int], Tensor]  # such a part of a picture, (N, C, bottom - top, right - left) in [-1, 1]

FLOOR = 32  # the smallest edge of a tile that is tried when memory runs out
# A tile's activations at most. Larger tiles are no faster on a CPU; on a GPU these fill it.
MOST_BYTES = {"cpu": 0.4e9, "cuda": 4e9, "mps": 1e9}
LARGEST_CELL = 1024  # `multiple` at most: a small file must not ask for a picture of gigabytes
SAFETY = 2.0  # of the bytes measured: convolutions need room of their own, which no tensor shows


class Tiler:
    """What the commands for pictures share: `tiles` of a picture, and `draw`, which makes a PIL picture of them.

    tile: the edge of a tile in pixels of c; 0 chooses it from the memory there is.
    """

    def __init__(self, network: nn.Module, tile: int = 0):
        if tile < 0:
            raise ValueError(f"tile is the edge of a tile in pixels, but tile={tile}; type tile=256, or leave it out")
        self.network = network.eval().requires_grad_(False)
        self.tile = tile
        self.channels, self.halo = int(network.channels), int(network.halo)  # type: ignore[arg-type]
        self.source_channels = int(getattr(network, "source_channels", self.channels))
        self.scale, self.multiple = int(getattr(network, "scale", 1)), int(getattr(network, "multiple", 1))
        if self.multiple > LARGEST_CELL:
            raise ValueError(
                f"the network takes pictures in squares of {self.multiple} pixels, and only up to {LARGEST_CELL} are "
                f"taken; type another ckpt="
            )

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters(), torch.empty(0)).device

    def forward(self, x: Tensor) -> Tensor:
        """What the network makes of pictures x (N, C, H, W) in [-1, 1]: (N, C, scale * H, scale * W)."""
        return self.network(x.new_zeros(len(x), 0), x)

    def draw(self, picture: Image.Image, mode: str, progress: Callable[[int], object]) -> Image.Image:
        """What the network makes of a picture as `plain` gives it, as "L", "RGB" or "I;16", with alpha if it has it.

        `progress` is told of each tile how many pixels of `picture` it has.
        """
        s, pixels = self.scale, array_of(picture)
        alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
        if alpha:
            pixels = bled(pixels[..., :-1], pixels[..., -1])
        pixels = padded(pixels, self.multiple)
        # Each tile goes straight into the result: of 200 megapixels there is memory for one copy, not for three.
        result = Image.new(mode, (s * picture.width, s * picture.height))
        for (left, top, right, bottom), y in self.tiles(
            lambda l, t, r, b: to_tensor(pixels[t:b, l:r]), picture.width, picture.height
        ):
            result.paste(images.to_pil(to_pixels(y, mode)), (s * left, s * top))
            progress((right - left) * (bottom - top))
        if alpha:
            result.putalpha(enlarged_alpha(alpha, result.size))
        return inherit(result, picture)

    def edge(self, width: int, height: int) -> int:
        """The edge of a tile for a picture of this size."""
        if self.halo >= max(width, height):  # a tile would need all of the picture around it
            return max(width, height)
        if self.tile:
            return self.tile
        # A tile shorter than some four times its margin would mostly compute margin.
        most = max(MOST_BYTES.get(self.device.type, 1e9), self.bytes_per_pixel * (6 * self.halo) ** 2)
        most = min(most, free_memory(self.device) / 2)
        return max(FLOOR, int(math.sqrt(most / self.bytes_per_pixel)) - 2 * self.halo)

    @functools.cached_property
    def bytes_per_pixel(self) -> float:
        """What the network holds at most at a time for each pixel of c, measured on a small picture, with a margin.

        Infinite where there is not even memory for that; the smallest tiles are then tried.
        """
        side = -(-64 // self.multiple) * self.multiple
        try:
            x = torch.zeros(1, self.source_channels, side, side, device=self.device)
            with LiveBytes() as live, torch.no_grad():
                self.network(x.new_zeros(1, 0), x)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return math.inf
        return SAFETY * live.most / side**2

    def tiles(self, read: Read, width: int, height: int, box: Box | None = None) -> Iterator[tuple[Box, Tensor]]:
        """Every tile's box of the picture and what is made of it, (N, C, ...) in [-1, 1] on the CPU.

        read: of the picture as `padded` gives it. box: of the tiles that are wanted. Where memory runs out the tile is
        halved and made anew, and those after it are as small.
        """
        m, s = self.multiple, self.scale
        across, down = -(-width // m), -(-height // m)
        self._check_memory(across * m, down * m)
        edge = max(1, self.edge(across * m, down * m) // m)
        left, top, right, bottom = box or (0, 0, width, height)
        waiting: list[Box] = [(left // m, top // m, -(-right // m), -(-bottom // m))]  # counted in cells of the grid
        while waiting:
            cells = waiting.pop()
            longest = max(cells[2] - cells[0], cells[3] - cells[1])
            if longest > edge:
                waiting += reversed(parts(cells, edge))
                continue
            left, top, right, bottom = (m * side for side in cells)
            try:
                y = self._tile(read, (left, top, right, bottom), across * m, down * m)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                right, bottom = min(right, width), min(bottom, height)
                yield (left, top, right, bottom), y[..., : s * (bottom - top), : s * (right - left)]
                continue
            # Only here is the error gone, and with it what the network still held.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            edge = longest // 2
            if edge * m < FLOOR or self.halo >= max(width, height):
                raise ValueError(
                    f"memory ran out on a tile of {longest * m} pixels, and smaller ones are not tried; "
                    f"close other programs, or type device=cpu"
                )
            waiting.append(cells)

    def _check_memory(self, width: int, height: int) -> None:
        """ValueError where not even the smallest tile can be held; some systems end a program that tries."""
        w, h = (min(side, max(FLOOR, self.multiple) + 2 * self.halo) for side in (width, height))
        needed, free = self.bytes_per_pixel * w * h, free_memory(self.device)
        if free < needed < math.inf:
            raise ValueError(
                f"is {width:,} x {height:,} pixels, of which the network takes {w:,} x {h:,} at once; about "
                f"{needed / 1e9:.1f} GB of memory are needed and {free / 1e9:.1f} are free; make the picture smaller"
            )

    @torch.no_grad()
    def _tile(self, read: Read, box: Box, width: int, height: int) -> Tensor:
        """One tile, computed with `halo` pixels around it, but for those beyond the picture's border."""
        (left, top, right, bottom), s = box, self.scale
        margin = -(-self.halo // self.multiple) * self.multiple
        l, t = max(0, left - margin), max(0, top - margin)
        x = read(l, t, min(width, right + margin), min(height, bottom + margin)).contiguous().to(self.device)
        y = self.forward(x)[..., s * (top - t) : s * (bottom - t), s * (left - l) : s * (right - l)]
        if not y.isfinite().all():
            raise ValueError("the network gave values that are no numbers, so nothing is written; type another ckpt=")
        return y.clamp(-1, 1).cpu()


def padded(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Pixels (H, W, C) reflected at the right and at the bottom up to multiples; a single row or column is repeated."""
    down, across = (-side % multiple for side in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="reflect") if down or across else pixels


def parts(box: Box, edge: int) -> list[Box]:
    """The box in rows and columns of boxes as equal as can be, none longer than `edge`."""
    left, top, right, bottom = box

    def cuts(start: int, end: int) -> list[tuple[int, int]]:
        n = -(-(end - start) // edge)
        at = [start + (end - start) * i // n for i in range(n + 1)]
        return list(itertools.pairwise(at))

    return [(l, t, r, b) for t, b in cuts(top, bottom) for l, r in cuts(left, right)]


def is_out_of_memory(error: Exception) -> bool:
    """On the CPU, and on a Mac's GPU, torch says so with a plain RuntimeError."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "DefaultCPUAllocator" in said or "out of memory" in said
    )


class LiveBytes(TorchFunctionMode):
    """Within it, `most` is the largest sum of bytes of the tensors that were alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[weakref.ref[Tensor]] = []
        self.most = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        several = given if isinstance(given, tuple | list) else [given]
        self.made += [weakref.ref(x) for x in several if isinstance(x, Tensor)]
        alive = [x for ref in self.made if (x := ref()) is not None]
        storages = [x.untyped_storage() for x in alive]
        self.made = [weakref.ref(x) for x in alive]
        # By address: a view shares the storage of what it is a view of.
        self.most = max(self.most, sum({s.data_ptr(): s.nbytes() for s in storages}.values()))
        return given
