"""What D sees: each change against what its paper says of it, slopes, and the probability that adapts."""

import copy
import math
import re

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from gancli.config import CONFIGS, build, choices, header, keys
from gancli.transforms.augment import AdaptiveAugment, DiffAugment, NoAugment, warp


def pictures(n: int = 256, channels: int = 3, side: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise in [-1, 1]."""
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def centred(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    return x - x.mean(dim, keepdim=True)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Which images are equal, (N,)."""
    return (a == b).flatten(1).all(1)


def adaptive(p: float) -> AdaptiveAugment:
    augment = AdaptiveAugment()
    augment.p.fill_(p)
    return augment


AUGMENTS = [NoAugment(), *(DiffAugment([name]) for name in ("color", "translation", "cutout")), DiffAugment()]
AUGMENTS += [adaptive(0.0), adaptive(0.5), adaptive(1.0)]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("channels", [1, 3])
class TestAny:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("side", [8, 13, 32])
    def test_shape_and_type(self, augment, channels, dtype, side):
        x = pictures(4, channels, side, dtype)
        y = augment(x)
        assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()

    def test_same_seed_same_images(self, augment, channels):
        x, seen = pictures(16, channels), []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            seen.append(augment(x))
        assert torch.equal(seen[0], seen[1])
        assert torch.equal(seen[0], seen[2]) == torch.equal(seen[0], x)

    def test_slopes_and_their_slopes(self, augment, channels):
        def seen(x: Tensor) -> Tensor:
            torch.manual_seed(3)
            return augment(x)

        x = pictures(2, channels).requires_grad_()
        assert torch.autograd.gradcheck(seen, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(seen, x, fast_mode=True)

    def test_waits_for_nothing(self, augment, channels):
        # On meta there is nothing to read, so a step that reads a value would fail.
        augment = copy.deepcopy(augment).to("meta")
        assert augment(pictures(2, channels).to("meta")).shape == (2, channels, 8, 8)
        augment.observe(torch.empty(2, device="meta"))


def test_brightness_adds_a_constant_to_an_image():
    x = pictures()[:, :1, :1, :1].expand(-1, 3, 8, 8)  # nothing for saturation and contrast to change
    added = DiffAugment(["color"])(x) - x
    assert torch.allclose(added, added[:, :1, :1, :1].expand_as(added))
    added = added[:, 0, 0, 0]
    assert added.min() >= -0.5 and added.max() <= 0.5
    assert added.min() < -0.45 and added.max() > 0.45 and len(added.unique()) == len(x)


def test_contrast_is_about_the_mean_of_the_image():
    x = pictures(channels=1).expand(-1, 3, 8, 8)  # greys in three channels: nothing for saturation to change
    y = DiffAugment(["color"])(x)
    assert torch.allclose(y, y[:, :1].expand_as(y))
    factor = centred(y, (1, 2, 3)) / centred(x, (1, 2, 3))
    assert torch.allclose(factor, factor[:, :1, :1, :1].expand_as(factor))
    factor = factor[:, 0, 0, 0]
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5


def test_saturation_keeps_the_mean_of_a_pixel():
    x = centred(pictures(), 1)  # every pixel's mean is that of the image: contrast is one more factor
    y = DiffAugment(["color"])(x)
    brightness = y.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(y.mean(1, keepdim=True), brightness.expand_as(y[:, :1]))
    factor = (y - brightness) / x
    assert torch.allclose(factor, factor[:, :1, :1, :1].expand_as(factor))
    factor = factor[:, 0, 0, 0]
    assert 0 <= factor.min() < 0.1 and 2 < factor.max() <= 3


def test_grey_has_no_saturation():
    x = centred(pictures(channels=1), (1, 2, 3))
    factor = centred(DiffAugment("color")(x), (1, 2, 3)) / x
    assert factor.min() >= 0.5 and factor.max() <= 1.5


@pytest.mark.parametrize("side", [8, 20, 32])
def test_translation_updates_by_an_eighth_and_fills_with_zeros(side):
    most = side // 8
    steps = range(2 * most + 1)
    x = pictures(1024, 1, side)
    y, framed = DiffAugment(["translation"])(x), torch.nn.functional.pad(x, [most] * 4)
    counts = torch.stack([same(framed[..., i : i + side, j : j + side], y).sum() for i in steps for j in steps])
    assert counts.sum() == len(x) and counts.min() > 0  # every image is moved by one of these, and none is left out


@pytest.mark.parametrize("side", [8, 13, 32])
def test_cutout_is_a_square_of_half_the_size_clipped_by_the_edges(side):
    x = pictures(1024, 3, side) + 2  # no zeros of its own
    y = DiffAugment(["cutout"])(x)
    cut = y == 0
    assert torch.equal(y, x.masked_fill(cut, 0)) and torch.equal(cut, cut[:, :1].expand_as(cut))
    rows, columns = cut[:, 0].any(2), cut[:, 0].any(1)
    assert torch.equal(cut[:, 0], rows[:, :, None] & columns[:, None])
    for line in (rows, columns):
        length = line.sum(1)
        clipped = line[:, 0] | line[:, -1]
        assert (length[~clipped] == side // 2).all() and length.max() == side // 2
        assert length.min() == side // 2 // 2  # its centre never leaves the image
        assert (line.long().diff(dim=1) != 0).sum(1).max() <= 2  # in one piece
        assert abs(line.float().mean(0) - line.float().mean(0).flip(0)).max() < 0.1  # no edge is preferred


def test_policies_are_applied_in_order():
    x = torch.ones(64, 1, 8, 8)
    assert (DiffAugment(["color", "cutout"])(x) == 0).flatten(1).any(1).all()
    assert not (DiffAugment(["cutout", "color"])(x) == 0).any()


def test_unknown_policy():
    with pytest.raises(ValueError, match=re.escape("policy=colour is not one of color, translation, cutout; did you")):
        DiffAugment(["translation", "colour"])


@pytest.mark.parametrize("augment", [DiffAugment(), AdaptiveAugment()])
def test_points_are_no_pictures(augment):
    with pytest.raises(ValueError, match=r"need pictures.*model/augment=none"):
        augment(torch.zeros(4, 2, 1, 1))
    points = torch.zeros(4, 2, 1, 1)
    assert NoAugment()(points) is points


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_p_is_how_many_images_change(channels, dtype):
    x = pictures(channels=channels, dtype=dtype)
    assert torch.equal(AdaptiveAugment()(x), x)
    assert same(adaptive(1.0)(x), x).float().mean() < 0.01


def test_blits_are_exact_and_as_frequent_as_p_says():
    p, n = 0.1, 4000
    x = pictures(n)
    y = adaptive(p)(x)
    moves = []
    for mirrored in (x, x.flip(3)):
        for quarters in range(4):
            framed = torch.nn.functional.pad(mirrored.rot90(quarters, (2, 3)), [1] * 4, mode="reflect")
            moves += [framed[..., i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    shares = torch.stack([same(move, y).float().mean() for move in moves]).view(2, 4, 3, 3)
    # None of the eight continuous changes, nor the luma flip that half of its draws make.
    others = (1 - p) ** 8 * (1 - p / 2)
    # A translation of up to an eighth of 8 pixels rounds to a step in one half of its draws each way: 1 : 2 : 1.
    steps = p * torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    steps[1, 1] += 1 - p
    flips, turns = torch.tensor([1 - p / 2, p / 2]), torch.tensor([1 - 3 * p / 4] + [p / 4] * 3)
    expected = others * flips[:, None, None, None] * turns[:, None, None] * steps
    assert ((shares - expected).abs() < 4 * (expected / n).sqrt() + 2 / n).all()
    assert abs(shares.sum() - others) < 4 * math.sqrt(others * (1 - others) / n)


def test_geometry_is_distributed_as_in_the_paper():
    n, side = 20000, 1000
    source = adaptive(1.0).source(torch.empty(n, 0, 1, side))
    linear, shift = source[:, :, :2].double(), source[:, :, 2]
    scales = torch.linalg.svdvals(linear).log2()
    assert scales.mean(1).mean().abs() < 0.01 and abs(scales.mean(1).std() - 0.2) < 0.01
    assert abs((scales.diff() / 2).square().mean().sqrt() - 0.2) < 0.01
    assert abs((linear.det() < 0).double().mean() - 0.5) < 0.02
    angles = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
    assert (torch.histc(angles, 8, -math.pi, math.pi) / n - 1 / 8).abs().max() < 0.01
    # Per axis: a normal one of an eighth, stretched by both scales, and a uniform one of an eighth.
    stretched = math.exp(4 * (0.2 * math.log(2)) ** 2)
    assert abs(shift.std() / side - math.sqrt(stretched + 1 / 3) / 8) < 0.003


@pytest.mark.parametrize("channels", [1, 3])
def test_warp_is_the_linear_one_with_mirrored_edges(channels):
    x = pictures(16, channels, 13)
    source = adaptive(1.0).source(x).double()
    # grid_sample's places run from -1 to 1 between the centres of the outer pixels.
    theta = source / torch.tensor([1, 1, 6])
    places = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=True)
    expected = torch.nn.functional.grid_sample(x, places, padding_mode="reflection", align_corners=True)
    assert torch.allclose(warp(x, source), expected)


def test_colours_are_distributed_as_in_the_paper():
    n = 5000
    grey = adaptive(1.0)(torch.zeros(n, 3, 8, 8))[..., 0, 0]
    assert torch.allclose(grey, grey[:, :1].expand_as(grey), atol=1e-6)  # black and white stay so
    contrast = math.exp(2 * (0.5 * math.log(2)) ** 2)  # of a lognormal factor, the mean square
    assert abs(grey.std() - 0.2 * math.sqrt(contrast)) < 0.01
    vivid = torch.tensor([1.0, -1.0, 0.0]).mul(1000).add(1e6).double()  # too bright for brightness to matter
    y = adaptive(1.0)(vivid[:, None, None].expand(n, 3, 8, 8))[..., 0, 0]
    luma, chroma = y.mean(1), centred(y, 1)
    assert abs((luma < 0).double().mean() - 0.5) < 0.02
    assert abs((luma.abs() / 1e6).log2().std() - 0.5) < 0.02
    factor = (chroma.norm(dim=1) / 1000 / math.sqrt(2) / luma.abs() * 1e6).log2()
    assert abs(factor.mean()) < 0.05 and abs(factor.std() - 1) < 0.04
    axes = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]).double()
    across, along = (chroma @ torch.nn.functional.normalize(axes, dim=1).T).T
    assert (torch.histc(torch.atan2(across, along), 8, -math.pi, math.pi) / n - 1 / 8).abs().max() < 0.02


def test_grey_images_get_contrast_and_are_flipped():
    x = torch.tensor([-0.5, 0.5]).repeat_interleave(32).view(1, 1, 8, 8).expand(4000, -1, -1, -1)
    y = adaptive(1.0).recolour(x)
    low, high = y[:, 0, 0, 0], y[:, 0, -1, 0]
    assert abs((high < low).float().mean() - 0.5) < 0.03
    assert abs((high - low).abs().log2().std() - 0.5) < 0.03


def test_adaptive_draws_for_each_image():
    y = adaptive(1.0)(pictures(1).expand(64, -1, -1, -1))
    assert len(y.flatten(1).unique(dim=0)) == 64


def test_p_updates_with_every_fourth_verdict():
    augment = AdaptiveAugment(target=0.6, kimg=1)
    sure, unsure = torch.full((50,), 3.0), torch.tensor([3.0, -0.1]).repeat(25)
    heard = []
    for logits in [sure] * 12 + [unsure] * 4:
        augment.observe(logits)
        heard.append(round(augment.p.item(), 6))
    assert heard == [0.0] * 3 + [0.2] * 4 + [0.4] * 4 + [0.6] * 4 + [0.4]


def test_p_turns_at_the_target():
    for positive, sign in ((81, 1), (79, -1)):  # means of 0.62 and 0.58
        augment = adaptive(0.5)
        for _ in range(4):
            augment.observe(torch.arange(100.0) - 100 + positive + 0.5)
        assert augment.p.item() == pytest.approx(0.5 + sign * 400 / 500_000, abs=1e-7)


@pytest.mark.parametrize("verdict, end", [(1.0, 1.0), (-1.0, 0.0)])
def test_p_is_a_probability(verdict, end):
    augment = AdaptiveAugment(kimg=0.001)
    augment.p.fill_(0.5)
    for _ in range(8):
        augment.observe(torch.full((10,), verdict, dtype=torch.bfloat16, requires_grad=True))
    assert augment.p == end and not augment.p.requires_grad


def test_state_carries_p_and_what_was_heard():
    first, second = AdaptiveAugment(kimg=1), AdaptiveAugment(kimg=1)
    for _ in range(6):
        first.observe(torch.ones(50))
    second.load_state_dict(first.state_dict())
    assert second.p == first.p == pytest.approx(0.2)
    for augment in (first, second):
        augment.observe(torch.ones(50))
        augment.observe(torch.ones(50))
    assert second.p == first.p == pytest.approx(0.4)
    assert not NoAugment().state_dict() and not DiffAugment().state_dict()


@pytest.mark.parametrize("option", [{"target": 60}, {"target": "high"}, {"kimg": 0}, {"kimg": math.nan}])
def test_options_that_make_no_sense(option):
    (name,) = option
    with pytest.raises(ValueError, match=rf"model\.augment\.{name}={option[name]}; type model\.augment\.{name}="):
        AdaptiveAugment(**option)


def test_configs():
    made = {}
    for name in choices("model/augment"):
        made[name] = build(OmegaConf.load(CONFIGS / "model" / "augment" / f"{name}.yaml"))
        assert "https://arxiv.org" in header(f"model/augment/{name}")
        assert all(key.meaning for key in keys(f"model/augment/{name}"))
    assert {name: type(augment) for name, augment in made.items()} == {
        "none": NoAugment,
        "diffaugment": DiffAugment,
        "ada": AdaptiveAugment,
    }
    assert made["diffaugment"].policy == DiffAugment().policy
    assert (made["ada"].target, made["ada"].kimg) == (AdaptiveAugment().target, AdaptiveAugment().kimg)
