"""Image-to-image networks on images of any size: tile by tile, within the memory that is free.

Such a network G(z, c) has z of width zero. c is float (N, source_channels, H, W) in [-1, 1], H and W multiples of
`multiple`; the result is (N, channels, scale * H, scale * W). `halo` is the radius of its receptive field in pixels
of c. A tile on the grid of `multiple`, computed with `halo` pixels of context, equals the same part of the whole.
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
from gancli.data.image_modes import array_to_tensor, copy_metadata, fill_transparent, image_to_array, tensor_to_array
from gancli.runtime.checks import check_number
from gancli.runtime.hardware import free_memory, is_out_of_memory

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are excluded
ReadBox = Callable[[int, int, int, int], Tensor]  # such a box of c, (N, C, bottom - top, right - left) in [-1, 1]
Progress = Callable[[int], object]  # called with the number of pixels that are done

SMALLEST_TILE = 32  # edge in pixels below which running out of memory is an error
# Largest memory of a tile's activations. Larger tiles are no faster on a CPU; on a GPU these fill it.
TILE_BYTES = {"cpu": 0.4e9, "cuda": 4e9, "mps": 1e9}
LARGEST_MULTIPLE = 1024  # a small file must not ask for an image of gigabytes
MEMORY_FACTOR = 2.0  # on the measured bytes: convolutions use workspace that no tensor shows


class Tiler:
    """Base of the commands' models, which are called with a PIL image of any mode: runs a network over its tiles.

    Results are upright "L", "RGB" or "I;16" (from 16-bit grey), with the alpha, ICC profile, EXIF and dpi of the image.
    An `ImageWarning` says what is lost, a ValueError why an image cannot be processed.

    Args:
        tile: edge of a tile in pixels of c; 0 chooses it by the free memory.
    """

    def __init__(self, network: nn.Module, tile: int = 0):
        check_number("tile", tile, 0, example=256)
        self.network = network.eval().requires_grad_(False)
        self.tile = tile
        self.channels, self.halo = int(network.channels), int(network.halo)  # type: ignore[arg-type]
        self.source_channels = int(getattr(network, "source_channels", self.channels))
        self.image_channels = self.source_channels - bool(getattr(network, "masked", False))  # without the mask
        self.scale, self.multiple = int(getattr(network, "scale", 1)), int(getattr(network, "multiple", 1))
        for n in (self.image_channels, self.channels):
            if n not in (1, 3):
                raise ValueError(f"the network's images have {n} channels, not 1 or 3; type another ckpt=")
        if self.multiple > LARGEST_MULTIPLE:
            needed = f"sides that are multiples of {self.multiple} pixels, at most {LARGEST_MULTIPLE} is supported"
            raise ValueError(f"the network needs {needed}; type another ckpt=")

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters(), torch.empty(0)).device

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on images x (N, C, H, W) in [-1, 1]; returns (N, C, scale * H, scale * W)."""
        return self.network(x.new_zeros(len(x), 0), x)

    def apply(self, image: Image.Image, mode: str, progress: Progress) -> Image.Image:
        """Run the network on a standardized image; returns "L", "RGB" or "I;16", with alpha where `image` has it."""
        s, pixels = self.scale, image_to_array(image)
        alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
        if alpha:
            pixels = fill_transparent(pixels[..., :-1], pixels[..., -1])
        pixels = pad_to_multiple(pixels, self.multiple)
        # Each tile is pasted at once: 200 megapixels fit in memory once, not three times.
        result = Image.new(mode, (s * image.width, s * image.height))
        for (left, top, right, bottom), y in self.tiles(
            lambda l, t, r, b: array_to_tensor(pixels[t:b, l:r]), image.width, image.height
        ):
            result.paste(images.to_pil(tensor_to_array(y, mode)), (s * left, s * top))
            progress((right - left) * (bottom - top))
        if alpha:
            result.putalpha(self.apply_to_alpha(alpha))
        return copy_metadata(image, result)

    def apply_to_alpha(self, alpha: Image.Image) -> Image.Image:
        """Return the alpha "L" of the result; networks that keep the size keep the alpha."""
        return alpha.resize((self.scale * alpha.width, self.scale * alpha.height), Image.Resampling.BICUBIC)

    def tile_edge(self, width: int, height: int) -> int:
        """Return the edge of a tile for an image of this size."""
        if self.halo >= max(width, height):  # every tile needs the whole image
            return max(width, height)
        if self.tile:
            return self.tile
        # A tile shorter than about four halos would mostly compute halo.
        most = max(TILE_BYTES.get(self.device.type, 1e9), self.bytes_per_pixel * (6 * self.halo) ** 2)
        most = min(most, free_memory(self.device) / 2)
        return max(SMALLEST_TILE, int(math.sqrt(most / self.bytes_per_pixel)) - 2 * self.halo)

    @functools.cached_property
    def bytes_per_pixel(self) -> float:
        """Peak memory per pixel of c, measured on a small image and multiplied by MEMORY_FACTOR.

        Infinite where even that runs out of memory; the smallest tiles are then tried.
        """
        side = -(-64 // self.multiple) * self.multiple
        try:
            x = torch.zeros(1, self.source_channels, side, side, device=self.device)
            with PeakMemory() as memory, torch.no_grad():
                self.forward(x)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return math.inf
        return MEMORY_FACTOR * memory.peak / side**2

    def tiles(self, read: ReadBox, width: int, height: int, box: Box | None = None) -> Iterator[tuple[Box, Tensor]]:
        """Yield the box of every tile and its result, (N, C, ...) in [-1, 1] on the CPU.

        A tile that runs out of memory is halved and tried again, and later tiles keep the smaller size.

        Args:
            read: reads a box of the image, padded to multiples.
            width, height: size of the image in pixels, without padding.
            box: part of the image to compute; all of it unless given.
        """
        m, s = self.multiple, self.scale
        columns, rows = -(-width // m), -(-height // m)
        self._check_memory(columns * m, rows * m)
        edge = max(1, self.tile_edge(columns * m, rows * m) // m)
        left, top, right, bottom = box or (0, 0, width, height)
        stack: list[Box] = [(left // m, top // m, -(-right // m), -(-bottom // m))]  # in cells of m pixels
        while stack:
            cells = stack.pop()
            longest = max(cells[2] - cells[0], cells[3] - cells[1])
            if longest > edge:
                stack += reversed(split_box(cells, edge))
                continue
            left, top, right, bottom = (m * side for side in cells)
            try:
                y = self._run_tile(read, (left, top, right, bottom), columns * m, rows * m)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                right, bottom = min(right, width), min(bottom, height)
                yield (left, top, right, bottom), y[..., : s * (bottom - top), : s * (right - left)]
                continue
            # Outside the except block, where the error no longer holds the network's tensors.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            edge = longest // 2
            if edge * m < SMALLEST_TILE or self.halo >= max(width, height):
                problem = f"memory ran out on a tile of {longest * m} pixels, and smaller ones are not possible"
                raise ValueError(f"{problem}; close other programs, or type device=cpu")
            stack.append(cells)

    def _check_memory(self, width: int, height: int) -> None:
        """Raise ValueError where even the smallest tile does not fit: some systems kill a program that tries."""
        w, h = (min(side, max(SMALLEST_TILE, self.multiple) + 2 * self.halo) for side in (width, height))
        needed, free = self.bytes_per_pixel * w * h, free_memory(self.device)
        if free < needed < math.inf:
            problem = f"is {width:,} x {height:,} pixels, and the network takes {w:,} x {h:,} at once"
            memory = f"it needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} are free"
            raise ValueError(f"{problem}: {memory}; cut it into parts first")

    @torch.no_grad()
    def _run_tile(self, read: ReadBox, box: Box, width: int, height: int) -> Tensor:
        """Compute one tile with `halo` pixels of context, as far as the image has them."""
        (left, top, right, bottom), s = box, self.scale
        halo = -(-self.halo // self.multiple) * self.multiple
        l, t = max(0, left - halo), max(0, top - halo)
        x = read(l, t, min(width, right + halo), min(height, bottom + halo)).contiguous().to(self.device)
        y = self.forward(x)
        # One pass over the tile, without a copy of it.
        if not all(bound.isfinite() for bound in y.aminmax()):
            raise ValueError("the network's output is not finite (NaN or infinity); type another ckpt=")
        y = y[..., s * (top - t) : s * (bottom - t), s * (left - l) : s * (right - l)]
        return y.clamp_(-1, 1).cpu()


def pad_to_multiple(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Pad pixels (H, W, C) by reflection at the right and bottom; a single row or column is repeated."""
    down, across = (-side % multiple for side in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="reflect") if down or across else pixels


def split_box(box: Box, edge: int) -> list[Box]:
    """Split a box into rows and columns of nearly equal boxes, no side longer than `edge`."""

    def cuts(start: int, end: int) -> list[tuple[int, int]]:
        n = -(-(end - start) // edge)
        return list(itertools.pairwise(start + (end - start) * i // n for i in range(n + 1)))

    left, top, right, bottom = box
    return [(l, t, r, b) for t, b in cuts(top, bottom) for l, r in cuts(left, right)]


class PeakMemory(TorchFunctionMode):
    """Context in which `peak` is the largest sum of bytes of the tensors that live at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[weakref.ref[Tensor]] = []
        self.peak = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        several = output if isinstance(output, tuple | list) else [output]
        self.tensors += [weakref.ref(x) for x in several if isinstance(x, Tensor)]
        alive = [x for ref in self.tensors if (x := ref()) is not None]
        storages = [x.untyped_storage() for x in alive]
        self.tensors = [weakref.ref(x) for x in alive]
        # By address: a view has the storage of its base.
        self.peak = max(self.peak, sum({s.data_ptr(): s.nbytes() for s in storages}.values()))
        return output
