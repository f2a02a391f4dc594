"""What D sees instead of x: every image, real or made, changed at random before D judges it.

D then cannot learn few images by heart, and G gets its slope through the change. x: (N, C, H, W) in [-1, 1], grey or
colour, H = W; what comes out has the same shape and type, but its colours may leave the range. Every image draws for
itself, from torch's default generators, which the trainer seeds afresh for every round. Nothing waits for the device,
so that a round can be captured, and every step can be differentiated twice in x, for gradient penalties.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gancli.config import nearest
from gancli.images import is_points
from gancli.runtime import ranks


class NoAugment(nn.Module):
    """x as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def observe(self, real: Tensor) -> None:
        """Hear D's verdicts on real images, logits (N,), positive where judged real; only adaptive ones listen."""


class DiffAugment(NoAugment):
    """Every change for every image, each by an amount drawn uniformly: colour, translation, cutout.

    Zhao et al. 2020, section 3, https://arxiv.org/abs/2006.10738. As in the paper, what is moved in or cut out is 0,
    which in [-1, 1] is mid grey.
    """

    def __init__(self, policy: Sequence[str] = ("color", "translation", "cutout")):
        super().__init__()
        self.policy = [policy] if isinstance(policy, str) else list(policy)
        for name in self.policy:
            if name not in POLICIES:
                raise ValueError(
                    f"model.augment.policy={name} is not one of {', '.join(POLICIES)}{nearest(str(name), POLICIES)}"
                )

    def forward(self, x: Tensor) -> Tensor:
        expect_pictures(x)
        for name in self.policy:
            x = POLICIES[name](x)
        return x


def color(x: Tensor) -> Tensor:
    """Brightness, saturation about each pixel's mean, contrast about the image's mean."""
    brightness, saturation, contrast = uniform(x, 1, 1, 1) / 2, 1 + uniform(x, 1, 1, 1), 1 + uniform(x, 1, 1, 1) / 2
    y = x + brightness
    # A single channel is its own mean: grey stays as it is.
    y = between(y.mean(1, keepdim=True), y, saturation)
    return between(y.mean((1, 2, 3), keepdim=True), y, contrast).to(x.dtype)


def translation(x: Tensor) -> Tensor:
    """Moved by whole pixels, by up to an eighth of the size each way; zeros come in."""
    n, _, side, _ = x.shape
    most = side // 8
    source = torch.arange(side, device=x.device) + torch.randint(-most, most + 1, (2, n, 1), device=x.device)
    (row, column), (row_inside, column_inside) = source, (source >= 0) & (source < side)
    inside = row_inside[:, None, :, None] & column_inside[:, None, None, :]
    return pixels(x, row[:, :, None], column[:, None, :]).masked_fill(~inside, 0)


def cutout(x: Tensor) -> Tensor:
    """A square of half the size becomes zeros. Its centre may lie anywhere, so that the edges clip it."""
    n, _, side, _ = x.shape
    width = side // 2
    # An even square's centre lies between pixels, where there is one more place.
    start = torch.randint(side + 1 - width % 2, (2, n, 1), device=x.device) - width // 2
    offset = torch.arange(side, device=x.device) - start
    rows, columns = (offset >= 0) & (offset < width)
    return x.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


POLICIES = {"color": color, "translation": translation, "cutout": cutout}


class AdaptiveAugment(NoAugment):
    """Many changes, each with probability p for each image, and p as high as D's overfitting asks for.

    Karras et al. 2020, section 3 and appendix B, https://arxiv.org/abs/2006.06676: pixel blitting, geometric and
    colour transformations, the three groups the authors train with. `p` starts at 0, where x comes out as it is.

    target: r_t = E[sign(D(real))], equation 1, above which p rises. kimg: thousands of real images in which p can go
    from 0 to 1. Departures from the paper: the warp is bilinear and mirrors the image at its edges without end, where
    the paper enlarges and shrinks it with a wavelet filter; p stops at 1 as well as at 0, so that it can turn at once.
    """

    p: Tensor
    signs: Tensor
    seen: Tensor
    calls: Tensor

    def __init__(self, target: float = 0.6, kimg: float = 500.0):
        super().__init__()
        if isinstance(target, str | bool) or not -1 < target < 1:
            raise ValueError(
                f"the mean of signs lies between -1 and 1, but model.augment.target={target}; "
                f"type model.augment.target=0.6"
            )
        if isinstance(kimg, str | bool) or not kimg > 0:
            raise ValueError(f"p needs images to move, but model.augment.kimg={kimg}; type model.augment.kimg=500")
        self.target, self.kimg = target, kimg
        self.register_buffer("p", torch.zeros(()))
        # Since p last moved: the sum of signs, real images, calls.
        for name in ("signs", "seen", "calls"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def observe(self, real: Tensor) -> None:
        """Hear D's verdicts on real images, logits (N,), positive where judged real; every 4th call moves p."""
        self.signs += ranks.mean(real.sign().sum(dtype=torch.float32))
        self.seen += real.numel()
        self.calls += 1
        due = self.calls >= 4
        overfit = (self.signs / self.seen - self.target).sign()
        self.p.add_(due * overfit * self.seen * ranks.world_size() / (self.kimg * 1000)).clamp_(0, 1)
        for since in (self.signs, self.seen, self.calls):
            since.mul_(~due)

    def forward(self, x: Tensor) -> Tensor:
        expect_pictures(x)
        return self.recolour(warp(x, self.source(x))).to(x.dtype)

    def source(self, x: Tensor) -> Tensor:
        """Blits and geometry as one affine map an image, (N, 2, 3): from a place in the result to its source in x.

        The map is the inverse, so the paper's list is run through from its end. A transformation and its inverse are
        drawn equally often: what is drawn is the inverse. What is not drawn leaves the map exactly as it is.
        """
        p, side = self.p, x.shape[-1]
        p_turn = 1 - (1 - p).sqrt()  # two chances of p_turn make one of p
        source, shift = torch.eye(2, 3, device=x.device), torch.eye(3, device=x.device)[2]
        horizontal = source[:, :1]  # (1, 0)

        source = source + sometimes(p, normal(x, 2, 1) * side / 8) * shift
        angle = sometimes(p_turn, math.pi * uniform(x, 1))
        source = turn(source, angle.cos(), angle.sin())
        stretch = sometimes(p, 0.2 * normal(x, 1, 1))
        source = source * torch.cat((stretch, -stretch), 1).exp2()
        angle = sometimes(p_turn, math.pi * uniform(x, 1))
        source = turn(source, angle.cos(), angle.sin())
        source = source * sometimes(p, 0.2 * normal(x, 1, 1)).exp2()
        # From here on whole pixels land on whole pixels, and must do so exactly.
        source = source + sometimes(p, (uniform(x, 2, 1) * side / 8).round()) * shift
        angle = sometimes(p, (2 + 2 * uniform(x, 1)).floor() * math.pi / 2)
        source = turn(source, angle.cos().round(), angle.sin().round())
        mirrored = sometimes(p, (uniform(x, 1, 1) > 0).float())
        return source * (1 - 2 * mirrored * horizontal)

    def recolour(self, x: Tensor) -> Tensor:
        """The colour transformations as one affine map of each image's pixels.

        All of them respect the axis of greys: along it lies a pixel's luma, its mean over the channels, and around it
        lie hue and saturation, of which a grey image has none.
        """
        p = self.p
        brightness = sometimes(p, 0.2 * normal(x, 1, 1, 1))
        contrast = sometimes(p, 0.5 * normal(x, 1, 1, 1)).exp2()
        flipped = sometimes(p, (uniform(x, 1, 1, 1) > 0).float())
        hue = sometimes(p, math.pi * uniform(x, 1, 1, 1))
        saturation = sometimes(p, normal(x, 1, 1, 1)).exp2()
        along, around = contrast * (1 - 2 * flipped), contrast * saturation
        ahead, aside = around * hue.cos(), around * hue.sin() / math.sqrt(3)
        luma = x.mean(1, keepdim=True)
        # The difference of rolls is the cross product with (1, 1, 1): a quarter turn about the axis of greys.
        return ahead * x + (along - ahead) * luma + aside * (x.roll(1, 1) - x.roll(-1, 1)) + along * brightness


def expect_pictures(x: Tensor) -> None:
    """ValueError where x holds points of the plane."""
    if is_points(x):
        raise ValueError("augmentations need pictures, but these are points of the plane; type model/augment=none")


def uniform(x: Tensor, *shape: int) -> Tensor:
    """U(-1, 1) for each image: (N, *shape)."""
    return 2 * torch.rand(len(x), *shape, device=x.device) - 1


def normal(x: Tensor, *shape: int) -> Tensor:
    """N(0, 1) for each image: (N, *shape)."""
    return torch.randn(len(x), *shape, device=x.device)


def sometimes(p: Tensor, value: Tensor) -> Tensor:
    """value (N, ...) in those images that draw it, each with probability p, and 0 in the others."""
    return value * (torch.rand(value[:, :1].shape, device=value.device, dtype=value.dtype) < p)


def turn(source: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """A map (N, 2, 3) with its results turned by angles (N, 1). No matmul, which TF32 or bf16 would blur."""
    u, v = source.unbind(-2)
    return torch.stack((cos * u - sin * v, sin * u + cos * v), 1)


def warp(x: Tensor, source: Tensor) -> Tensor:
    """x seen through affine maps (N, 2, 3) from (column, row, 1) of the result, about its centre, to those of x.

    By hand, because grid_sample returns the identity only nearly.
    """
    middle = (x.shape[-1] - 1) / 2
    axis = torch.arange(x.shape[-1], device=x.device) - middle
    a, b, c = source[..., None, None].unbind(2)
    at = a * axis + b * axis[:, None] + c + middle
    column, row = at.floor().long().unbind(1)
    right, down = (at - at.floor())[:, :, None].unbind(1)
    above, below = (between(pixels(x, i, column), pixels(x, i, column + 1), right) for i in (row, row + 1))
    return between(above, below, down)


def between(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """From a at share 0, exactly, in a straight line to b at 1 and beyond."""
    return a + share * (b - a)


def pixels(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The pixels of x at whole (row, column), both broadcast to (N, H, W); beyond its edges x is mirrored."""
    last = x.shape[-1] - 1
    row, column = (last - (i.remainder(2 * last) - last).abs() for i in (row, column))
    index = (row * x.shape[-1] + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, index).view(x.shape)
