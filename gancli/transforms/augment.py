"""Augmentation of the images that D gets, real and generated alike, so that it cannot memorise a small data set.

x: (N, C, H, W) in [-1, 1], grey or colour. Results have the same shape and type; their colours may leave the
range. G gets its gradient through the augmentation. Each image is changed independently, by torch's default generators.
Nothing waits for the device, so a CUDA graph can capture a step, and all is twice differentiable in x, for penalties.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gancli.images import is_points
from gancli.runtime import ranks
from gancli.runtime.checks import check_choice, check_number


class NoAugment(nn.Module):
    """No augmentation; base class of the others."""

    def forward(self, x: Tensor, channels: int | None = None) -> Tensor:
        """Return x augmented; the colours of its first `channels` change, None: of all of them."""
        return x

    def pair(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return x augmented and its condition c. Of images, c (N, C', H, W) is moved as x is and not recoloured."""
        if type(self) is NoAugment or c.dim() < 4 or c.shape[2:] != x.shape[2:]:
            return self(x), c
        x, c = self(torch.cat([x, c], 1), x.shape[1]).split([x.shape[1], c.shape[1]], 1)
        return x, c

    def observe(self, real: Tensor, images: int) -> None:
        """Adapt to D's logits for real images, positive where D is right. Only AdaptiveAugment does."""


class DiffAugment(NoAugment):
    """Colour, translation and cutout of every image, by uniformly random amounts.

    Zhao et al. 2020, section 3, https://arxiv.org/abs/2006.10738. As in the paper, pixels that are shifted in or cut
    out are 0, which in [-1, 1] is mid grey.
    """

    def __init__(self, policy: Sequence[str] = ("color", "translation", "cutout")):
        super().__init__()
        self.policy = [policy] if isinstance(policy, str) else list(policy)
        for name in self.policy:
            check_choice("model.augment.policy", name, POLICIES)

    def forward(self, x: Tensor, channels: int | None = None) -> Tensor:
        check_images(x)
        for name in self.policy:
            x = recoloured(x, channels, color) if name == "color" else POLICIES[name](x)
        return x


def color(x: Tensor) -> Tensor:
    """Change brightness, saturation about each pixel's mean, and contrast about the image's mean."""
    brightness, saturation, contrast = uniform(x, 1, 1, 1) / 2, 1 + uniform(x, 1, 1, 1), 1 + uniform(x, 1, 1, 1) / 2
    y = x + brightness
    # A single channel is its own mean: saturation leaves grey as it is.
    y = lerp(y.mean(1, keepdim=True), y, saturation)
    return lerp(y.mean((1, 2, 3), keepdim=True), y, contrast).to(x.dtype)


def translation(x: Tensor) -> Tensor:
    """Shift by whole pixels, up to an eighth of each side (rounded), and fill with zeros."""
    most = [(side + 4) // 8 for side in x.shape[2:]]
    shifts = whole_numbers(x, [(-m, m + 1) for m in most])
    row, column = (torch.arange(side, device=x.device) + shift for side, shift in zip(x.shape[2:], shifts))
    row_inside, column_inside = ((i >= 0) & (i < side) for i, side in zip((row, column), x.shape[2:]))
    inside = row_inside[:, None, :, None] & column_inside[:, None, None, :]
    return pixels(x, row[:, :, None], column[:, None, :]).masked_fill(~inside, 0)


def cutout(x: Tensor) -> Tensor:
    """Set a rectangle of half of each side (rounded up) to zero. Its centre may lie anywhere; the edges may clip it."""
    halves = [(side + 1) // 2 for side in x.shape[2:]]
    # The centre of an even length lies between pixels, which gives one more position.
    centres = whole_numbers(x, [(0, side + 1 - half % 2) for side, half in zip(x.shape[2:], halves)])
    inside = []
    for side, half, centre in zip(x.shape[2:], halves, centres):
        offset = torch.arange(side, device=x.device) - (centre - half // 2)
        inside.append((offset >= 0) & (offset < half))
    return x.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0)


def whole_numbers(x: Tensor, ranges: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """Return uniform whole numbers for each image, (N, 1) for each of two ranges, of rows and of columns."""
    if ranges[0] == ranges[1]:  # of square images: one call
        return torch.randint(*ranges[0], (2, len(x), 1), device=x.device).unbind()
    return [torch.randint(low, high, (len(x), 1), device=x.device) for low, high in ranges]


POLICIES = {"color": color, "translation": translation, "cutout": cutout}


class AdaptiveAugment(NoAugment):
    """Many changes, each applied to an image with probability p, which adapts to D's overfitting.

    Karras et al. 2020, section 3 and appendix B, https://arxiv.org/abs/2006.06676: pixel blitting, geometric and
    colour transformations, the three groups the authors train with. p starts at 0, where x is returned as it is.

    Departures from the paper: the warp is bilinear with endlessly reflected edges, where the paper resamples with a
    wavelet filter; p stops at 1 as well as at 0, so that it can turn at once.

    Args:
        target: of r_t = E[sign(D(real))], equation 1; p rises above it and falls below it.
        kimg: thousands of real images in which p can go from 0 to 1.
    """

    p: Tensor
    # Since the last change of p: the sum of signs, the number of real images and of calls.
    signs: Tensor
    images: Tensor
    calls: Tensor

    def __init__(self, target: float = 0.6, kimg: float = 500.0):
        super().__init__()
        check_number("model.augment.target", target, above=-1, most=1, example=0.6)
        check_number("model.augment.kimg", kimg, above=0, example=500)
        self.target, self.kimg = target, kimg
        for name in ("p", "signs", "images", "calls"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def observe(self, real: Tensor, images: int) -> None:
        """Collect D's logits for `images` real images, positive where D is right; every 4th call changes p.

        D may have several logits for an image, or one for several: their mean sign counts once for each image.
        """
        self.signs += ranks.mean(real.sign().mean(dtype=torch.float32)) * images
        self.images += images
        self.calls += 1
        due = self.calls >= 4
        direction = (self.signs / self.images - self.target).sign()
        self.p.add_(due * direction * self.images * ranks.world_size() / (self.kimg * 1000)).clamp_(0, 1)
        for since in (self.signs, self.images, self.calls):
            since.mul_(~due)

    def forward(self, x: Tensor, channels: int | None = None) -> Tensor:
        check_images(x)
        return recoloured(warp(x, self.source(x)), channels, self.recolour).to(x.dtype)

    def source(self, x: Tensor) -> Tensor:
        """Return blits and geometry as one affine map per image, (N, 2, 3), from a position in the result to one in x.

        The map is the inverse, so the paper's list is applied from its end. A transformation and its inverse are
        equally likely, so the inverse is sampled. Transformations that are not sampled leave the map exactly as it is.
        """
        p, side = self.p, by_axis(x, *x.shape[:1:-1])
        p_rotate = 1 - (1 - p).sqrt()  # sampled twice, which gives p
        source, shift = torch.eye(2, 3, device=x.device), torch.eye(3, device=x.device)[2]
        horizontal = source[:, :1]  # (1, 0)

        source = source + with_probability(p, normal(x, 2, 1) * side / 8) * shift
        angle = with_probability(p_rotate, math.pi * uniform(x, 1))
        source = rotate(source, angle.cos(), angle.sin())
        stretch = with_probability(p, 0.2 * normal(x, 1, 1))
        source = source * torch.cat((stretch, -stretch), 1).exp2()
        angle = with_probability(p_rotate, math.pi * uniform(x, 1))
        source = rotate(source, angle.cos(), angle.sin())
        source = source * with_probability(p, 0.2 * normal(x, 1, 1)).exp2()
        # From here on whole pixels map to whole pixels, and must do so exactly.
        source = source + with_probability(p, (uniform(x, 2, 1) * side / 8).round()) * shift
        angle = with_probability(p, (2 + 2 * uniform(x, 1)).floor() * math.pi / 2)
        source = rotate(source, angle.cos().round(), angle.sin().round())
        flip = with_probability(p, (uniform(x, 1, 1) > 0).float())
        return source * (1 - 2 * flip * horizontal)

    def recolour(self, x: Tensor) -> Tensor:
        """Apply the colour transformations as one affine map of each image's pixels.

        All of them keep the axis of greys. A pixel's luma, its mean over the channels, lies along it; hue and
        saturation lie around it and are zero for a grey image.
        """
        p = self.p
        brightness = with_probability(p, 0.2 * normal(x, 1, 1, 1))
        contrast = with_probability(p, 0.5 * normal(x, 1, 1, 1)).exp2()
        invert = with_probability(p, (uniform(x, 1, 1, 1) > 0).float())
        hue = with_probability(p, math.pi * uniform(x, 1, 1, 1))
        saturation = with_probability(p, normal(x, 1, 1, 1)).exp2()
        along, around = contrast * (1 - 2 * invert), contrast * saturation
        cosine, sine = around * hue.cos(), around * hue.sin() / math.sqrt(3)
        luma = x.mean(1, keepdim=True)
        # The difference of rolls is the cross product with (1, 1, 1): a quarter turn about the axis of greys.
        return cosine * x + (along - cosine) * luma + sine * (x.roll(1, 1) - x.roll(-1, 1)) + along * brightness


def recoloured(x: Tensor, channels: int | None, recolour: Callable[[Tensor], Tensor]) -> Tensor:
    """Return x with `recolour` applied to its first `channels`; None: to all of them."""
    if channels is None:
        return recolour(x)
    return torch.cat([recolour(x[:, :channels]).to(x.dtype), x[:, channels:]], 1)


def check_images(x: Tensor) -> None:
    if is_points(x):
        raise ValueError("augmentation needs images, but the data has points of the plane; type model/augment=none")


def uniform(x: Tensor, *shape: int) -> Tensor:
    """Return U(-1, 1) for each image: (N, *shape)."""
    return 2 * torch.rand(len(x), *shape, device=x.device) - 1


def normal(x: Tensor, *shape: int) -> Tensor:
    """Return N(0, 1) for each image: (N, *shape)."""
    return torch.randn(len(x), *shape, device=x.device)


def by_axis(x: Tensor, across: float, down: float) -> Tensor:
    """Return two numbers as (2, 1), on the device without waiting for it, which torch.tensor would."""
    return torch.cat([torch.full((1, 1), float(value), device=x.device) for value in (across, down)])


def with_probability(p: Tensor, value: Tensor) -> Tensor:
    """Return value (N, ...) for each image with probability p, else 0."""
    return value * (torch.rand(value[:, :1].shape, device=value.device, dtype=value.dtype) < p)


def rotate(source: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the results of affine maps (N, 2, 3) by angles (N, 1). No matmul, which TF32 or bf16 would round."""
    u, v = source.unbind(-2)
    return torch.stack((cos * u - sin * v, sin * u + cos * v), 1)


def warp(x: Tensor, source: Tensor) -> Tensor:
    """Resample x bilinearly by affine maps (N, 2, 3) from (column, row, 1) of the result, about its centre, to x.

    Written out, because the identity of grid_sample is not exact.
    """
    middle = [(side - 1) / 2 for side in x.shape[:1:-1]]
    across, down = (torch.arange(n, device=x.device) - m for n, m in zip(x.shape[:1:-1], middle))
    a, b, c = source[..., None, None].unbind(2)
    at = a * across + b * down[:, None] + c + by_axis(x, *middle)[:, :, None]
    column, row = at.floor().long().unbind(1)
    right, down = (at - at.floor())[:, :, None].unbind(1)
    above, below = (lerp(pixels(x, i, column), pixels(x, i, column + 1), right) for i in (row, row + 1))
    return lerp(above, below, down)


def lerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Interpolate from a, exact at weight 0, to b at 1 and beyond."""
    return a + weight * (b - a)


def pixels(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return the pixels of x at whole (row, column), both broadcast to (N, H, W), with reflected edges."""
    lasts = (x.shape[2] - 1, x.shape[3] - 1)
    row, column = (last - (i.remainder(2 * last) - last).abs() for i, last in zip((row, column), lasts))
    index = (row * x.shape[-1] + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, index).view(x.shape)
