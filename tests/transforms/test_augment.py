"""Augmentations against their papers, their gradients, and the probability that adapts."""

import copy
import math
import re

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from gancli.config import CONFIGS, build, choices, header, keys
from gancli.transforms.augment import AdaptiveAugment, DiffAugment, NoAugment, warp


def noise(n: int = 256, channels: int = 3, side: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def centred(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    return x - x.mean(dim, keepdim=True)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Return which images are equal, (N,)."""
    return (a == b).flatten(1).all(1)


def of_image(factor: Tensor) -> Tensor:
    """Return a factor or summand that is the same in all of an image, (N,)."""
    one = factor[:, :1, :1, :1]
    assert torch.allclose(factor, one.expand_as(factor))
    return one.flatten()


def adaptive(p: float) -> AdaptiveAugment:
    augment = AdaptiveAugment()
    augment.p.fill_(p)
    return augment


AUGMENTS = [NoAugment(), *(DiffAugment([name]) for name in ("color", "translation", "cutout")), DiffAugment()]
AUGMENTS += [adaptive(0.0), adaptive(0.5), adaptive(1.0)]


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_seed_gradients_and_the_meta_device(augment, channels):
    for side in (8, 13, 32):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            x = noise(4, channels, side, dtype)
            y = augment(x)
            assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()

    def seeded(x: Tensor, seed: int = 3) -> Tensor:
        torch.manual_seed(seed)
        return augment(x)

    x = noise(16, channels)
    assert torch.equal(seeded(x, 1), seeded(x, 1))
    assert torch.equal(seeded(x, 1), seeded(x, 2)) == torch.equal(seeded(x, 1), x)
    x = noise(2, channels).requires_grad_()
    assert torch.autograd.gradcheck(seeded, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(seeded, x, fast_mode=True)
    # Reading a value of a meta tensor fails: nothing waits for the device.
    augment = copy.deepcopy(augment).to("meta")
    assert augment(noise(2, channels).to("meta")).shape == (2, channels, 8, 8)
    augment.observe(torch.empty(2, device="meta"), 2)


def test_brightness_adds_a_constant_to_an_image():
    x = noise()[:, :1, :1, :1].expand(-1, 3, 8, 8)  # saturation and contrast change nothing
    added = of_image(DiffAugment(["color"])(x) - x)
    assert -0.5 <= added.min() < -0.45 and 0.45 < added.max() <= 0.5 and len(added.unique()) == len(x)


def test_contrast_scales_about_the_mean_of_the_image():
    x = noise(channels=1).expand(-1, 3, 8, 8)  # greys in three channels: saturation changes nothing
    y = DiffAugment(["color"])(x)
    assert torch.allclose(y, y[:, :1].expand_as(y))
    factor = of_image(centred(y, (1, 2, 3)) / centred(x, (1, 2, 3)))
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5


def test_saturation_keeps_the_mean_of_a_pixel():
    x = centred(noise(), 1)  # every pixel's mean is that of the image: contrast is one more factor
    y = DiffAugment(["color"])(x)
    brightness = y.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(y.mean(1, keepdim=True), brightness.expand_as(y[:, :1]))
    factor = of_image((y - brightness) / x)
    assert 0 <= factor.min() < 0.1 and 2 < factor.max() <= 3
    grey = centred(noise(channels=1), (1, 2, 3))
    factor = centred(DiffAugment("color")(grey), (1, 2, 3)) / grey
    assert factor.min() >= 0.5 and factor.max() <= 1.5, "grey has no saturation"


@pytest.mark.parametrize(("side", "most"), [(8, 1), (20, 3), (28, 4), (32, 4)])  # the authors round as well
def test_translation_shifts_by_an_eighth_and_fills_with_zeros(side, most):
    steps = range(2 * most + 1)
    x = noise(4096, 1, side)
    y, framed = DiffAugment(["translation"])(x), torch.nn.functional.pad(x, [most] * 4)
    counts = torch.stack([same(framed[..., i : i + side, j : j + side], y).sum() for i in steps for j in steps])
    assert counts.sum() == len(x) and counts.min() > 0  # every image is shifted by one of these, each is used


@pytest.mark.parametrize("side", [8, 13, 32])
def test_cutout_is_a_square_of_half_the_size_clipped_by_the_edges(side):
    x = noise(1024, 3, side) + 2  # no zeros of its own
    y = DiffAugment(["cutout"])(x)
    cut = y == 0
    assert torch.equal(y, x.masked_fill(cut, 0)) and torch.equal(cut, cut[:, :1].expand_as(cut))
    rows, columns = cut[:, 0].any(2), cut[:, 0].any(1)
    width = (side + 1) // 2
    assert torch.equal(cut[:, 0], rows[:, :, None] & columns[:, None])
    for line in (rows, columns):
        length = line.sum(1)
        clipped = line[:, 0] | line[:, -1]
        assert (length[~clipped] == width).all() and length.max() == width
        assert length.min() == (width + 1) // 2  # its centre never leaves the image
        assert (line.long().diff(dim=1) != 0).sum(1).max() <= 2  # in one piece
        assert abs(line.float().mean(0) - line.float().mean(0).flip(0)).max() < 0.1  # no edge is preferred


def test_policies_are_applied_in_order():
    x = torch.ones(64, 1, 8, 8)
    assert (DiffAugment(["color", "cutout"])(x) == 0).flatten(1).any(1).all()
    assert DiffAugment(["cutout", "color"])(x).all()


@pytest.mark.parametrize("augment", [DiffAugment(), AdaptiveAugment()])
def test_points_are_refused(augment):
    points = torch.zeros(4, 2, 1, 1)
    with pytest.raises(ValueError, match=r"needs images.*model/augment=none"):
        augment(points)
    assert NoAugment()(points) is points


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_at_p_0_no_image_changes_and_at_p_1_each_changes_in_its_own_way(channels, dtype):
    x = noise(channels=channels, dtype=dtype)
    assert torch.equal(AdaptiveAugment()(x), x)
    assert same(adaptive(1.0)(x), x).float().mean() < 0.01
    assert len(adaptive(1.0)(x[:1].float().expand(64, -1, -1, -1)).flatten(1).unique(dim=0)) == 64


def test_blits_are_exact_and_have_probability_p():
    p, n = 0.1, 4000
    x = noise(n)
    y = adaptive(p)(x)
    blits = []
    for flipped in (x, x.flip(3)):
        for quarters in range(4):
            framed = torch.nn.functional.pad(flipped.rot90(quarters, (2, 3)), [1] * 4, mode="reflect")
            blits += [framed[..., i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    fractions = torch.stack([same(blit, y).float().mean() for blit in blits]).view(2, 4, 3, 3)
    # None of the eight continuous changes, nor the luma flip, which half of its samples apply.
    others = (1 - p) ** 8 * (1 - p / 2)
    # A translation of up to an eighth of 8 pixels is one pixel either way in half of the samples: 1 : 2 : 1.
    steps = p * torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    steps[1, 1] += 1 - p
    flips, rotations = torch.tensor([1 - p / 2, p / 2]), torch.tensor([1 - 3 * p / 4] + [p / 4] * 3)
    expected = others * flips[:, None, None, None] * rotations[:, None, None] * steps
    assert ((fractions - expected).abs() < 4 * (expected / n).sqrt() + 2 / n).all()
    assert abs(fractions.sum() - others) < 4 * math.sqrt(others * (1 - others) / n)


def test_geometry_is_distributed_as_in_the_paper():
    n, side = 20000, 1000
    source = adaptive(1.0).source(torch.empty(n, 0, side, side))
    linear, shift = source[:, :, :2].double(), source[:, :, 2]
    scales = torch.linalg.svdvals(linear).log2()
    assert scales.mean(1).mean().abs() < 0.01 and abs(scales.mean(1).std() - 0.2) < 0.01
    assert abs((scales.diff() / 2).square().mean().sqrt() - 0.2) < 0.01
    assert abs((linear.det() < 0).double().mean() - 0.5) < 0.02
    angles = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
    assert (torch.histc(angles, 8, -math.pi, math.pi) / n - 1 / 8).abs().max() < 0.01
    # Per axis: a normal shift of an eighth, stretched by both scales, and a uniform one of an eighth.
    stretched = math.exp(4 * (0.2 * math.log(2)) ** 2)
    assert abs(shift.std() / side - math.sqrt(stretched + 1 / 3) / 8) < 0.003


@pytest.mark.parametrize("channels", [1, 3])
def test_warp_is_bilinear_with_reflected_edges(channels):
    x = noise(16, channels, 13)
    source = adaptive(1.0).source(x).double()
    # grid_sample's positions run from -1 to 1 between the centres of the outer pixels.
    theta = source / torch.tensor([1, 1, 6])
    positions = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=True)
    expected = torch.nn.functional.grid_sample(x, positions, padding_mode="reflection", align_corners=True)
    assert torch.allclose(warp(x, source), expected)


def test_colours_are_distributed_as_in_the_paper():
    n = 5000
    grey = adaptive(1.0)(torch.zeros(n, 3, 8, 8))[..., 0, 0]
    assert torch.allclose(grey, grey[:, :1].expand_as(grey), atol=1e-6)  # grey stays grey
    contrast = math.exp(2 * (0.5 * math.log(2)) ** 2)  # mean square of a lognormal factor
    assert abs(grey.std() - 0.2 * math.sqrt(contrast)) < 0.01
    vivid = torch.tensor([1.0, -1.0, 0.0]).mul(1000).add(1e6).double()  # so bright that brightness does not matter
    y = adaptive(1.0)(vivid[:, None, None].expand(n, 3, 8, 8))[..., 0, 0]
    luma, chroma = y.mean(1), centred(y, 1)
    assert abs((luma < 0).double().mean() - 0.5) < 0.02
    assert abs((luma.abs() / 1e6).log2().std() - 0.5) < 0.02
    factor = (chroma.norm(dim=1) / 1000 / math.sqrt(2) / luma.abs() * 1e6).log2()
    assert abs(factor.mean()) < 0.05 and abs(factor.std() - 1) < 0.04
    axes = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]).double()
    across, along = (chroma @ torch.nn.functional.normalize(axes, dim=1).T).T
    assert (torch.histc(torch.atan2(across, along), 8, -math.pi, math.pi) / n - 1 / 8).abs().max() < 0.02


def test_grey_images_get_contrast_and_are_inverted():
    x = torch.tensor([-0.5, 0.5]).repeat_interleave(32).view(1, 1, 8, 8).expand(4000, -1, -1, -1)
    y = adaptive(1.0).recolour(x)
    low, high = y[:, 0, 0, 0], y[:, 0, -1, 0]
    assert abs((high < low).float().mean() - 0.5) < 0.03
    assert abs((high - low).abs().log2().std() - 0.5) < 0.03


def test_every_fourth_observation_changes_p():
    augment = AdaptiveAugment(target=0.6, kimg=1)
    sure, unsure = torch.full((50,), 3.0), torch.tensor([3.0, -0.1]).repeat(25)
    history = []
    for logits in [sure] * 12 + [unsure] * 4:
        augment.observe(logits, len(logits))
        history.append(round(augment.p.item(), 6))
    assert history == [0.0] * 3 + [0.2] * 4 + [0.4] * 4 + [0.6] * 4 + [0.4]


@pytest.mark.parametrize(("shape", "images"), [((8, 6, 6), 8), ((4,), 8), ((8,), 8)])
def test_p_counts_images_where_d_has_several_logits_for_one_or_one_for_several(shape, images):
    """Karras et al.: p moves by images / (1000 kimg), here 4 calls of 8 images in 10 kimg."""
    augment = AdaptiveAugment(target=-0.99, kimg=10)
    for _ in range(4):
        augment.observe(torch.ones(shape), images)
    assert augment.p.item() == pytest.approx(4 * 8 / 10_000)


@pytest.mark.parametrize("augment", [DiffAugment(), AdaptiveAugment()])
def test_a_condition_image_moves_as_its_image_does_and_keeps_its_colours(augment):
    if isinstance(augment, AdaptiveAugment):
        augment.p.fill_(1.0)
    place = noise(64, 1, 16)
    torch.manual_seed(0)
    x, c = augment.pair(place.expand(-1, 3, -1, -1), place.expand(-1, 2, -1, -1))
    assert x.shape == (64, 3, 16, 16) and c.shape == (64, 2, 16, 16)
    assert torch.equal(c[:, 0], c[:, 1]) and not torch.equal(c[:, :1], place) and not torch.equal(x[:, :1], c[:, :1])
    # The colours of an image of greys change by an affine map: where it was moved to is where c was.
    inside = c[:, 0] != 0
    for image, moved, seen in zip(x[:, 0], c[:, 0], inside):
        if seen.sum() > 8:
            line = torch.stack([moved[seen], torch.ones_like(moved[seen])], 1)
            assert torch.dist(line @ torch.linalg.lstsq(line, image[seen, None]).solution, image[seen, None]) < 1e-6
    torch.manual_seed(0)
    assert augment.pair(x, torch.zeros(64, 10))[1].shape == (64, 10), "classes do not move"


def test_p_turns_at_the_target_and_stays_a_probability():
    for positive, sign in ((81, 1), (79, -1)):  # means of 0.62 and 0.58
        augment = adaptive(0.5)
        for _ in range(4):
            augment.observe(torch.arange(100.0) - 100 + positive + 0.5, 100)
        assert augment.p.item() == pytest.approx(0.5 + sign * 400 / 500_000, abs=1e-7)
    for logit, end in ((1.0, 1.0), (-1.0, 0.0)):
        augment = AdaptiveAugment(kimg=0.001)
        augment.p.fill_(0.5)
        for _ in range(8):
            augment.observe(torch.full((10,), logit, dtype=torch.bfloat16, requires_grad=True), 10)
        assert augment.p == end and not augment.p.requires_grad


def test_the_state_holds_p_and_the_observations_since_its_last_change():
    augment, resumed = AdaptiveAugment(kimg=1), AdaptiveAugment(kimg=1)
    for _ in range(6):
        augment.observe(torch.ones(50), 50)
    resumed.load_state_dict(augment.state_dict())
    assert resumed.p == pytest.approx(0.2)
    for _ in range(2):
        resumed.observe(torch.ones(50), 50)
    assert resumed.p == pytest.approx(0.4)
    assert not NoAugment().state_dict() and not DiffAugment().state_dict()


@pytest.mark.parametrize(
    "option", [{"target": 60}, {"target": "high"}, {"target": -1}, {"kimg": 0}, {"kimg": math.nan}]
)
def test_impossible_options_are_refused(option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=rf"model\.augment\.{name}={value} .*; type model\.augment\.{name}="):
        AdaptiveAugment(**option)
    with pytest.raises(ValueError, match=re.escape("policy=colour is not one of color, translation, cutout; did you")):
        DiffAugment(["translation", "colour"])


def test_every_config_is_documented_and_builds_the_defaults():
    built = {}
    for name in choices("model/augment"):
        built[name] = build(OmegaConf.load(CONFIGS / "model" / "augment" / f"{name}.yaml"))
        assert "https://arxiv.org" in header(f"model/augment/{name}")
        assert all(key.meaning for key in keys(f"model/augment/{name}"))
    types = {"none": NoAugment, "diffaugment": DiffAugment, "ada": AdaptiveAugment}
    assert {name: type(augment) for name, augment in built.items()} == types
    assert built["diffaugment"].policy == DiffAugment().policy
    assert (built["ada"].target, built["ada"].kimg) == (AdaptiveAugment().target, AdaptiveAugment().kimg)


def test_images_that_are_not_square_are_shifted_and_cut_by_their_own_sides():
    x = torch.arange(1.0, 16 * 48 + 1).view(1, 1, 16, 48).expand(400, -1, -1, -1)
    shifted = DiffAugment("translation")(x)
    rows, columns = ((shifted != 0).any(axis).squeeze(1) for axis in (3, 2))
    assert (rows.sum(1).min(), columns.sum(1).min()) == (14, 42), "up to an eighth of each side"
    cut = DiffAugment("cutout")(x) == 0
    assert cut.any(3).sum(2).max() == 8 and cut.any(2).sum(2).max() == 24
    assert torch.equal(adaptive(0.0)(x), x) and adaptive(1.0)(x).shape == x.shape
