"""What is known of an image where another is to be made of it: c made of x, or brought by the data.

Every image draws for itself, from torch's default generators, which the trainer seeds afresh for every round. Nothing
waits for the device but `compare`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from gancli.config import nearest
from gancli.data.dataset import grey
from gancli.images import is_points, to_float, to_uint8
from gancli.metrics.psnr_ssim import rgb_psnr


@dataclass(kw_only=True)
class Task:
    """c = task(x), of which G makes x again: (N, C, H, W) in [-1, 1] to float (N, channels, H', W') in [-1, 1].

    channels: of c, for the networks, which are built before any c is seen; 0: it was not said.
    masked: whether the last channel of c is a mask, 1 where x is missing and 0 elsewhere.
    """

    channels: int = 0
    masked: bool = False

    def __post_init__(self) -> None:
        if self.masked != (own := type(self).masked):
            raise ValueError(
                f"whether the last channel is a mask follows from the task, {str(own).lower()} here, but "
                f"model.task.masked={str(self.masked).lower()}; leave it out"
            )

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        if is_points(x):
            raise ValueError("this task needs pictures, but these are points of the plane; type data.kind=shapes")
        c = self.known(x.float())
        if self.channels not in (0, c.shape[1]):
            raise ValueError(
                f"what this task makes of images of {x.shape[1]} channels has {c.shape[1]}, but "
                f"model.task.channels={self.channels}; leave it out"
            )
        return c

    def known(self, x: Tensor) -> Tensor:
        """c of float x."""
        raise NotImplementedError

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        """What G is given for the pair (x, c) that was drawn from the data."""
        return self(x)

    def naive(self, c: Tensor) -> Tensor:
        """What there is without a network, (N, C, H, W) in [-1, 1], to look at and to measure beside G's: c itself."""
        return c

    def compare(self, made: Tensor, real: Tensor, c: Tensor) -> dict[str, float]:
        """How near images made of c are to the real ones: psnr in dB, of 8 bits and all channels, mean of the images.

        Infinite where an image is met exactly.
        """
        return {"psnr": float(rgb_psnr(made, real).mean())}


@dataclass(kw_only=True)
class OtherChannels(Task):
    """c is grey where x is in colours, or the reverse. target_channels: of x, to which `naive` brings c."""

    target_channels: int = 3

    def naive(self, c: Tensor) -> Tensor:
        return with_channels(c, self.target_channels)


@dataclass(kw_only=True)
class Given(OtherChannels):
    """c are the sources that the data bring, as pix2pix has it: Isola et al. 2017, https://arxiv.org/abs/1611.07004."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise ValueError(NO_SOURCES)

    def __call__(self, x: Tensor) -> Tensor:
        raise ValueError(
            "this task's pairs are brought by the data, and of an image alone nothing is known; give the sources too"
        )

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        if c.dim() != 4 or len(c) != len(x):
            raise ValueError(NO_SOURCES)
        if c.shape[1] != self.channels:
            raise ValueError(
                f"the sources have {c.shape[1]} channels, but model.task.channels={self.channels}; "
                f"type data.source_channels={c.shape[1]}"
            )
        return c


NO_SOURCES = (
    "this task takes the pairs that the data bring, but these bring none; type data=pairs data.path=DIR, or a task "
    "that makes them of any images, such as task=colorize"
)


@dataclass(kw_only=True)
class Colorize(OtherChannels):
    """c is the ITU-R 601 luma of x, one channel in steps of 8 bits, as a grey copy of the picture has it.

    Zhang et al. 2016, https://arxiv.org/abs/1603.08511, in RGB where they predict the two colours of Lab.
    """

    def known(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            raise ValueError(
                "grey images have no colours to bring back; type data.channels=3 where the data has colours, or "
                "another task such as task=denoise"
            )
        return luma(x)


@dataclass
class Inpaint(Task):
    """c is x with a hole at 0, and behind its channels a mask, 1 in the hole: (N, C + 1, H, W).

    mask: "centre", the middle half each way (Pathak et al. 2016, https://arxiv.org/abs/1604.07379); "box", a rectangle
    anywhere of a quarter to a half of each side; "free", strokes of a brush (Yu et al. 2019,
    https://arxiv.org/abs/1806.03589); "mixed", any of the three for each image.
    """

    mask: str = "mixed"
    masked: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask not in (kinds := [*MASKS, "mixed"]):
            said = f"model.task.mask={self.mask} is not one of {', '.join(kinds)}"
            raise ValueError(said + nearest(str(self.mask), kinds))

    def known(self, x: Tensor) -> Tensor:
        hole = mixed(x) if self.mask == "mixed" else MASKS[self.mask](x)
        return torch.cat([x.masked_fill(hole, 0), hole.float()], 1)

    def naive(self, c: Tensor) -> Tensor:
        """The hole filled with the mean of what is known of its image."""
        x, hole = c[:, :-1], c[:, -1:]
        colour = x.sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True).clamp(min=1)
        return x + hole * colour

    def compare(self, made: Tensor, real: Tensor, c: Tensor) -> dict[str, float]:
        """psnr as everywhere, and hole_psnr of the pixels in the hole alone."""
        return super().compare(made, real, c) | {"hole_psnr": float(rgb_psnr(made, real, c[:, -1:]).mean())}


@dataclass
class Denoise(Task):
    """c = x + N(0, sigma^2) in steps of 8 bits: Zhang et al. 2017, https://arxiv.org/abs/1608.03981.

    sigma: the standard deviation, in grey levels of 255.
    """

    sigma: float = 25.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sigma(self.sigma, "noise", "grey levels of 255", 25)

    def known(self, x: Tensor) -> Tensor:
        return to_float(to_uint8(x + self.sigma * 2 / 255 * torch.randn_like(x)))


@dataclass
class Deblur(Task):
    """c = x * Gaussian in steps of 8 bits. sigma: the Gaussian's standard deviation, in pixels."""

    sigma: float = 1.6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sigma(self.sigma, "blur", "pixels", 1.6)

    def known(self, x: Tensor) -> Tensor:
        sigma = torch.full((len(x), 1, 1, 1), self.sigma, device=x.device)
        return to_float(to_uint8(blurred(x, sigma, self.sigma)))


@dataclass(kw_only=True)
class Edges(OtherChannels):
    """c is the length of the luma's gradient by Sobel's filter, one channel in steps of 8 bits, white on black.

    1, white, is a step from black to white along a row or a column; x continues beyond its edges as its outermost
    pixels. Isola et al. 2017, figure 1, https://arxiv.org/abs/1611.07004, whose lines are drawn by a trained network.
    """

    def known(self, x: Tensor) -> Tensor:
        y = pad(luma(x), (1, 1, 1, 1), mode="replicate")
        down, across = y[:, :, 2:] - y[:, :, :-2], y[..., 2:] - y[..., :-2]
        down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
        across = across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]
        # A step of 2 in [-1, 1] has a slope of 8, and shall have 2, from -1 to 1.
        return to_float(to_uint8((down.square() + across.square()).sqrt() / 4 - 1))


def centre(x: Tensor) -> Tensor:
    """The middle half of each side: True there, (N, 1, H, W)."""
    hole = torch.zeros_like(x[:, :1], dtype=torch.bool)
    h, w = (max(side // 2, 1) for side in x.shape[2:])
    top, left = (x.shape[2] - h) // 2, (x.shape[3] - w) // 2
    hole[:, :, top : top + h, left : left + w] = True
    return hole


def box(x: Tensor) -> Tensor:
    """A rectangle of a quarter to a half of each side, all extents and all places of each equally likely."""

    def span(side: int, u: Tensor) -> Tensor:
        least, most = max(side // 4, 1), max(side // 2, 1)
        length = least + (u[:, :1] * (most - least + 1)).floor()
        offset = torch.arange(side, device=x.device) - (u[:, 1:] * (side - length + 1)).floor()
        return (offset >= 0) & (offset < length)

    u = torch.rand(len(x), 4, device=x.device)
    rows, columns = span(x.shape[2], u[:, :2]), span(x.shape[3], u[:, 2:])
    return rows[:, None, :, None] & columns[:, None, None, :]


STROKES, STEPS = 3, 11  # at most, of an image and of a stroke
TURN, SPREAD = 2 * math.pi / 5, 2 * math.pi / 15
WIDTHS = (12 / 256, 40 / 256)  # of the brush, as shares of the shorter side


def free(x: Tensor) -> Tensor:
    """1 to 3 strokes of a round brush, each a zigzag of 4 to 11 straight steps that stays inside the picture.

    Yu et al. 2019, https://arxiv.org/abs/1806.03589, with the figures of their code: steps of about an eighth of the
    diagonal, at angles to the row of about plus and minus 2/5 pi in turn, mirrored either way in half of the images.
    """
    n, _, h, w = x.shape
    u, length = torch.rand(n, 3, device=x.device), torch.randn(n, STROKES, STEPS, device=x.device)
    of_stroke, of_step = (torch.rand(n, STROKES, k, device=x.device) for k in (6, STEPS))
    low, high, count, width, top, left = of_stroke.unbind(2)
    step = torch.arange(STEPS, device=x.device)

    angle = TURN + SPREAD * (of_step * (low + high)[..., None] - low[..., None])
    angle = angle * (2 * (step % 2) - 1)
    eighth = math.hypot(h, w) / 8
    # A step of no length leaves the brush where it is.
    length = (eighth + eighth / 2 * length).clamp(0, 2 * eighth) * (step < 4 + (8 * count[..., None]).floor())
    row = walk(top, length * angle.sin(), h, u[:, :1] < 0.5)
    column = walk(left, length * angle.cos(), w, u[:, 1:2] < 0.5)

    radius = (WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * width) * min(h, w) / 2
    # Below sqrt(1 / 2), a brush may pass between pixels.
    radius = radius.clamp(min=0.75)[..., None, None, None]
    drawn_at_all = torch.arange(STROKES, device=x.device) < 1 + (STROKES * u[:, 2:]).floor()
    hole = torch.zeros_like(x[:, 0], dtype=torch.bool)
    for s in range(STROKES):
        near = squared_distance(row[:, s], column[:, s], h, w) <= radius[:, s].square()
        hole = hole | (near.any(1) & drawn_at_all[:, s, None, None])
    return hole[:, None]


def walk(start: Tensor, steps: Tensor, side: int, mirrored: Tensor) -> Tensor:
    """Places in [0, side], (N, STROKES, STEPS + 1), from shares (N, STROKES) of it in steps that end at the edge."""
    places = [start * side]
    for k in range(STEPS):
        places.append((places[-1] + steps[..., k]).clamp(0, side))
    path = torch.stack(places, 2)
    return torch.where(mirrored[..., None], side - path, path)


def squared_distance(row: Tensor, column: Tensor, h: int, w: int) -> Tensor:
    """From the middle of every pixel to each of K straight lines between K + 1 places (N, K + 1): (N, K, h, w)."""
    down, across = row.diff(dim=1)[..., None, None], column.diff(dim=1)[..., None, None]
    y = torch.arange(h, device=row.device)[:, None] + 0.5 - row[:, :-1, None, None]
    x = torch.arange(w, device=row.device) + 0.5 - column[:, :-1, None, None]
    # How far along the line the nearest of its points lies; a line of no length is its beginning.
    square = (down.square() + across.square()).clamp(min=1e-12)
    share = (y * (down / square) + x * (across / square)).clamp(0, 1)
    return (y - share * down).square() + (x - share * across).square()


MASKS: dict[str, Callable[[Tensor], Tensor]] = {"centre": centre, "box": box, "free": free}


def mixed(x: Tensor) -> Tensor:
    """For each image any of MASKS, all equally likely."""
    which = torch.randint(len(MASKS), (len(x), 1, 1, 1), device=x.device)
    hole = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for k, mask in enumerate(MASKS.values()):
        hole = torch.where(which == k, mask(x), hole)
    return hole


def luma(x: Tensor) -> Tensor:
    """ITU-R 601 luma of x in steps of 8 bits, (N, 1, H, W), Pillow's "L"; a single channel is its own."""
    stored = to_uint8(x)
    return to_float(grey(stored) if x.shape[1] == 3 else stored)


def with_channels(c: Tensor, channels: int) -> Tensor:
    """The image c as grey, channels 1, or as colour, 3."""
    if channels == 1:
        return luma(c) if c.shape[1] == 3 else c
    return c.expand(-1, channels, -1, -1)


def is_number(value: object, least: float, most: float) -> bool:
    """Whether a person's value is a finite number in [least, most]; from the command line it may be a word."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most and value < math.inf
    )


def check_sigma(sigma: float, what: str, unit: str, usual: float) -> None:
    if not is_number(sigma, 0, math.inf) or not sigma:
        raise ValueError(
            f"the {what} has a standard deviation above 0, in {unit}, but model.task.sigma={sigma}; "
            f"type model.task.sigma={usual}"
        )


def blurred(x: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """x (N, C, H, W) through Gaussians of standard deviations sigma (N, 1, 1, 1), in pixels, none above `largest`.

    Beyond its edges x continues as its outermost pixels. As sums of moved images, because a convolution may round to
    TF32 or bf16, which are coarser than 8 bits; sigma = 0 is exact.
    """
    # Beyond four standard deviations lies less than a step of 8 bits. One reach for all, so that nothing waits.
    reach = math.ceil(4 * largest)
    offset = torch.arange(-reach, reach + 1, device=x.device)
    # So narrow, the Gaussian is 1 at 0 and 0 elsewhere; narrower, it would be 0 / 0.
    weight = (-0.5 * (offset / sigma.clamp(min=1e-3)) ** 2).exp()
    weight = weight / weight.sum(-1, keepdim=True)
    y = pad(x, (reach, reach, reach, reach), mode="replicate")
    for dim, side in ((2, x.shape[2]), (3, x.shape[3])):
        terms = (share * y.narrow(dim, k, side) for k, share in enumerate(weight.split(1, -1)))
        y = sum(terms, start=x.new_zeros(()))
    return y
