"""Random masks for inpainting: bool (N, 1, H, W), True in the hole, one for each image of x (N, C, H, W)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def centre(x: Tensor) -> Tensor:
    """Return a hole of the middle half of each side: Pathak et al. 2016, https://arxiv.org/abs/1604.07379."""
    hole = torch.zeros_like(x[:, :1], dtype=torch.bool)
    h, w = (max(side // 2, 1) for side in x.shape[2:])
    top, left = (x.shape[2] - h) // 2, (x.shape[3] - w) // 2
    hole[:, :, top : top + h, left : left + w] = True
    return hole


def box(x: Tensor) -> Tensor:
    """Return rectangles of a quarter to a half of each side, every length and position equally likely."""

    def span(side: int, u: Tensor) -> Tensor:
        least, most = max(side // 4, 1), max(side // 2, 1)
        length = least + (u[:, :1] * (most - least + 1)).floor()
        offset = torch.arange(side, device=x.device) - (u[:, 1:] * (side - length + 1)).floor()
        return (offset >= 0) & (offset < length)

    u = torch.rand(len(x), 4, device=x.device)
    rows, columns = span(x.shape[2], u[:, :2]), span(x.shape[3], u[:, 2:])
    return rows[:, None, :, None] & columns[:, None, None, :]


MAX_STROKES, MAX_STEPS = 3, 11  # of an image, and of a stroke
ANGLE, ANGLE_SPREAD = 2 * math.pi / 5, 2 * math.pi / 15
BRUSH_WIDTHS = (12 / 256, 40 / 256)  # fractions of the shorter side


def free(x: Tensor) -> Tensor:
    """Return 1 to 3 strokes of a circular brush, each a zigzag of 4 to 11 straight steps inside the image.

    Yu et al. 2019, https://arxiv.org/abs/1806.03589, with the constants of their code: steps of about an eighth of the
    diagonal, at alternating angles of about plus and minus 2/5 pi to the row, flipped either way in half of the images.
    """
    n, _, h, w = x.shape
    u, length = torch.rand(n, 3, device=x.device), torch.randn(n, MAX_STROKES, MAX_STEPS, device=x.device)
    of_stroke, of_step = (torch.rand(n, MAX_STROKES, k, device=x.device) for k in (6, MAX_STEPS))
    low, high, count, width, top, left = of_stroke.unbind(2)
    step = torch.arange(MAX_STEPS, device=x.device)

    angle = ANGLE + ANGLE_SPREAD * (of_step * (low + high)[..., None] - low[..., None])
    angle = angle * (2 * (step % 2) - 1)
    eighth = math.hypot(h, w) / 8
    # Steps beyond the count of a stroke have length 0.
    length = (eighth + eighth / 2 * length).clamp(0, 2 * eighth) * (step < 4 + (8 * count[..., None]).floor())
    row = brush_path(top, length * angle.sin(), h, u[:, :1] < 0.5)
    column = brush_path(left, length * angle.cos(), w, u[:, 1:2] < 0.5)

    radius = (BRUSH_WIDTHS[0] + (BRUSH_WIDTHS[1] - BRUSH_WIDTHS[0]) * width) * min(h, w) / 2
    # Below sqrt(1 / 2) a brush may pass between pixels.
    radius = radius.clamp(min=0.75)[..., None, None, None]
    used = torch.arange(MAX_STROKES, device=x.device) < 1 + (MAX_STROKES * u[:, 2:]).floor()
    hole = torch.zeros_like(x[:, 0], dtype=torch.bool)
    for s in range(MAX_STROKES):
        near = squared_distance(row[:, s], column[:, s], h, w) <= radius[:, s].square()
        hole = hole | (near.any(1) & used[:, s, None, None])
    return hole[:, None]


def brush_path(start: Tensor, steps: Tensor, side: int, flip: Tensor) -> Tensor:
    """Return positions in [0, side], (N, MAX_STROKES, MAX_STEPS + 1), clipped at the edges.

    `start`, (N, MAX_STROKES), is a fraction of `side`, `steps`, (N, MAX_STROKES, MAX_STEPS), are in pixels, and
    `flip`, bool (N, 1), measures positions from the other end.
    """
    positions = [start * side]
    for k in range(MAX_STEPS):
        positions.append((positions[-1] + steps[..., k]).clamp(0, side))
    path = torch.stack(positions, 2)
    return torch.where(flip[..., None], side - path, path)


def squared_distance(row: Tensor, column: Tensor, h: int, w: int) -> Tensor:
    """Return squared distances from pixel centres to K line segments through K + 1 points (N, K + 1): (N, K, h, w)."""
    down, across = row.diff(dim=1)[..., None, None], column.diff(dim=1)[..., None, None]
    y = torch.arange(h, device=row.device)[:, None] + 0.5 - row[:, :-1, None, None]
    x = torch.arange(w, device=row.device) + 0.5 - column[:, :-1, None, None]
    # Position of the nearest point along the segment, 0 to 1; a segment of length 0 is its first point.
    square = (down.square() + across.square()).clamp(min=1e-12)
    along = (y * (down / square) + x * (across / square)).clamp(0, 1)
    return (y - along * down).square() + (x - along * across).square()


def mixed(x: Tensor) -> Tensor:
    """Return for each image one of the other masks, all equally likely."""
    masks = (centre, box, free)
    which = torch.randint(len(masks), (len(x), 1, 1, 1), device=x.device)
    hole = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for k, mask in enumerate(masks):
        hole = torch.where(which == k, mask(x), hole)
    return hole


MASKS: dict[str, Callable[[Tensor], Tensor]] = {"centre": centre, "box": box, "free": free, "mixed": mixed}
