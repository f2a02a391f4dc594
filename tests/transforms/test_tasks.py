"""What is known of an image: against closed forms, Pillow and SciPy; what is drawn, and for whom."""

import math

import numpy as np
import pytest
import torch
from helpers import ROOT
from omegaconf import OmegaConf
from PIL import Image
from scipy.ndimage import gaussian_filter, sobel
from torch import Tensor
from torch.nn.functional import interpolate

from gancli.config import build, choices, header, keys, register_resolvers
from gancli.images import enlarge, to_array, to_float, to_uint8
from gancli.metrics.psnr_ssim import fidelity
from gancli.transforms.degradation import Degradation
from gancli.transforms.tasks import Colorize, Deblur, Denoise, Edges, GivenSources, Inpaint, Task

KINDS = ["centre", "box", "free", "mixed"]
TASKS = {
    "colorize": Colorize(),
    "denoise": Denoise(25.0),
    "deblur": Deblur(1.6),
    "edges": Edges(),
    **{kind: Inpaint(kind) for kind in KINDS},
}


def pictures(n: int = 8, channels: int = 3, side: int = 24) -> Tensor:
    """Soft clouds with some grain, in steps of 8 bits."""
    generator = torch.Generator().manual_seed(0)
    clouds = interpolate(torch.randn(n, channels, 6, 6, generator=generator), (side, side), mode="bicubic")
    return to_float(to_uint8(0.4 * clouds + 0.1 * torch.randn(n, channels, side, side, generator=generator)))


def levels(y: Tensor) -> Tensor:
    """Grey levels 0 to 255."""
    return (y + 1) * 255 / 2


def eight_bits(y: Tensor) -> bool:
    return torch.equal(to_float(to_uint8(y)), y)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# What c is.


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_c_has_the_channels_the_range_and_no_slope(task):
    x = pictures()
    before = x.clone()
    for seen in (x, x.contiguous(memory_format=torch.channels_last), x.bfloat16(), x.clone().requires_grad_()):
        c = task(seen)
        assert c.shape[0] == 8 and c.shape[2:] == x.shape[2:] and c.dtype == torch.float32
        assert c.abs().max() <= 1 and not c.requires_grad
    assert torch.equal(x, before)
    assert c.shape[1] == (1 if isinstance(task, Colorize | Edges) else 4 if task.masked else 3)


def test_colorize_gives_pillows_grey():
    x = pictures()
    theirs = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in to_array(x)])
    c = TASKS["colorize"](x)
    assert eight_bits(c) and np.array_equal(to_uint8(c)[:, 0].numpy(), theirs)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert (levels(c) - (weights * levels(x)).sum(1, keepdim=True)).abs().max() < 0.51
    assert torch.equal(TASKS["colorize"].baseline(c), c.repeat(1, 3, 1, 1))


def test_denoise_has_noise_of_its_sigma():
    for sigma in (5.0, 25.0):
        c = Denoise(sigma)(torch.zeros(50, 3, 32, 32))
        noise = levels(c) - 127.5
        assert eight_bits(c) and abs(noise.mean()) < 0.02 * sigma and abs(noise.std() / sigma - 1) < 0.01
        assert abs(noise.flatten(1).std(1) / sigma - 1).max() < 0.05  # in every image
        assert abs((noise.abs() < sigma).float().mean() - 0.683) < 0.03  # a normal one's share, in whole levels
    c = TASKS["denoise"](pictures())
    assert torch.equal(TASKS["denoise"].baseline(c), c)
    assert Denoise(25)(torch.ones(1, 1, 32, 32)).max() == 1  # clipped as a file would be


def test_deblur_is_blurred_by_scipys_gaussian():
    x, task = pictures(2), Deblur(1.3)
    expected = [
        [gaussian_filter(p, 1.3, mode="nearest", radius=8) for p in image] for image in levels(x).double().numpy()
    ]
    c = task(x)
    assert eight_bits(c) and abs(levels(c).numpy() - np.array(expected)).max() < 0.51
    assert torch.equal(task.baseline(c), c)


def test_edges_are_the_gradient_by_sobel():
    x, task = pictures(3), TASKS["edges"]
    grey = levels(TASKS["colorize"](x))[:, 0].double().numpy()
    expected = np.stack([np.hypot(*(sobel(p, axis, mode="nearest") for axis in (0, 1))) for p in grey]) / 4
    c = task(x)
    assert eight_bits(c) and abs(levels(c)[:, 0].numpy() - expected.clip(0, 255)).max() < 0.51
    assert torch.equal(Edges(target_channels=1).baseline(c), c) and torch.equal(task.baseline(c), c.repeat(1, 3, 1, 1))


def test_a_full_step_is_white_and_a_plain_is_black():
    for dim in (2, 3):
        x = -torch.ones(1, 1, 8, 8)
        x.narrow(dim, 4, 4).fill_(1)
        c = Edges()(x)
        assert (c.narrow(dim, 3, 2) == 1).all() and (c.narrow(dim, 0, 3) == -1).all() and c.shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(32, 3, 24, 24), (16, 1, 17, 30)])
def test_inpaint_keeps_what_is_known_and_marks_the_rest(kind, shape):
    x = pictures(shape[0], shape[1], 30)[:, :, : shape[2], : shape[3]]
    c = Inpaint(kind)(x)
    known, mask = c[:, :-1], c[:, -1:]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(known, torch.where(mask == 1, 0.0, x))
    assert (mask.sum((1, 2, 3)) > 0).all() and (mask.mean((1, 2, 3)) < 0.6).all()


def masks(kind: str, n: int = 2000, side: int = 16) -> Tensor:
    """(n, side, side) of 0 and 1."""
    return Inpaint(kind)(torch.zeros(n, 1, side, side))[:, 1]


def test_the_middle_half_is_a_quarter():
    expected = torch.zeros(16, 16)
    expected[4:12, 4:12] = 1
    assert torch.equal(masks("centre", 3), expected.expand(3, -1, -1))


def test_boxes_have_all_extents_and_lie_everywhere():
    m = masks("box")
    rows, columns = m.amax(2), m.amax(1)
    assert torch.equal(m, rows[:, :, None] * columns[:, None, :])
    for line in (rows, columns):
        assert ((line.diff(dim=1) == 1).sum(1) <= 1).all(), "in one piece"
        extents = line.sum(1)
        assert sorted(extents.unique().tolist()) == [4, 5, 6, 7, 8]
        assert abs(extents.mean() - 6) < 0.1
        first = line.argmax(1)[extents == 8]
        assert sorted(first.unique().tolist()) == list(range(9))
    assert not torch.equal(rows.sum(1), columns.sum(1))
    assert abs(m.mean() - 36 / 256) < 0.005


def test_strokes_are_thick_lie_everywhere_and_differ():
    m = masks("free", 400, 64)
    share = m.mean((1, 2))
    assert 0.1 < share.mean() < 0.2 and share.max() < 0.5
    where = m.mean(0).view(4, 16, 4, 16).mean((1, 3))
    assert where.min() > 0.05, "no part of the image is spared"
    assert where.max() < 2.5 * where.min()
    # A stroke is at least 12 / 256 of 64 = 3 pixels wide: nearly all of it is left where a plus of 5 pixels fits in.
    padded = torch.nn.functional.pad(m, (1, 1, 1, 1), value=1)
    core = m * padded[:, 2:, 1:-1] * padded[:, :-2, 1:-1] * padded[:, 1:-1, 2:] * padded[:, 1:-1, :-2]
    assert core.sum() > 0.5 * m.sum() and (core.flatten(1).amax(1) == 1).float().mean() > 0.98
    assert len({tuple(image.flatten().tolist()) for image in m}) == 400


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_small_images_have_a_hole_too(kind, side):
    assert (masks(kind, 500, side).flatten(1).sum(1) > 0).all()


def test_mixed_draws_each_kind_a_third_of_the_time():
    m = masks("mixed", 1500)
    centre = (m == masks("centre", 1)).flatten(1).all(1)
    box = (m == m.amax(2)[:, :, None] * m.amax(1)[:, None, :]).flatten(1).all(1) & ~centre
    assert abs(centre.float().mean() - 1 / 3) < 0.04 and abs(box.float().mean() - 1 / 3) < 0.05


# Randomness.


DRAWING = {name: TASKS[name] for name in ("denoise", "box", "free", "mixed")}


@pytest.mark.parametrize("task", DRAWING.values(), ids=DRAWING)
def test_same_seed_same_c_and_every_image_its_own(task):
    x, seen = pictures(1).expand(4, -1, -1, -1), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(task(x))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0][0], seen[0][1])


@pytest.mark.parametrize("name", ["colorize", "deblur", "edges", "centre"])
def test_what_is_not_random_draws_nothing(name):
    before = torch.get_rng_state()
    TASKS[name](pictures())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_nothing_waits_for_the_device(task):
    # On meta there is nothing to read, so a step that reads a value would fail.
    x = torch.empty(2, 3, 16, 16, device="meta")
    assert task.baseline(task(x)).shape == x.shape


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_autocast_changes_nothing(task):
    x, seen = pictures(), []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            seen.append(task(x))
    assert torch.equal(*seen)


# What there is without a network, and how near it is.


def by_hand(made: Tensor, real: Tensor) -> list[float]:
    """PSNR of each image, in NumPy."""
    squares = [(a.astype(float) - b) ** 2 for a, b in zip(to_array(made), to_array(real))]
    return [10 * math.log10(255**2 / square.mean()) for square in squares]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_psnr_is_the_mean_of_the_images_over_all_channels(task):
    x = pictures()
    c = task(x)
    naive = task.baseline(c)
    assert naive.shape == x.shape and naive.abs().max() <= 1
    assert task.compare(naive, x, c)["psnr"] == pytest.approx(np.mean(by_hand(naive, x)))


def test_psnr_of_a_known_error():
    x = to_float(torch.full((2, 3, 4, 4), 100, dtype=torch.uint8))
    made = x.clone()
    made[0] += 2 * 10 / 255  # ten levels everywhere
    made[1, 2] += 2 * 10 / 255  # in one of three channels
    expected = (20 * math.log10(25.5) + 20 * math.log10(25.5 * 3**0.5)) / 2
    assert Denoise().compare(made, x, x)["psnr"] == pytest.approx(expected)
    assert Denoise().compare(x + 0.4 * 2 / 255, x, x)["psnr"] == math.inf  # 8 bits see no difference


def test_a_hole_is_filled_with_the_mean_of_what_is_known():
    x, task = pictures(), Inpaint("box")
    c = task(x)
    naive = task.baseline(c)
    for image, filled, hole in zip(x, naive, c[:, -1] == 1):
        assert torch.equal(filled[:, ~hole], image[:, ~hole])
        colour = image[:, ~hole].mean(1, keepdim=True)
        assert torch.allclose(filled[:, hole], colour.expand(-1, int(hole.sum())), atol=1e-6)


def test_hole_psnr_is_of_the_hole_alone():
    x, task = pictures(), Inpaint("mixed")
    c = task(x)
    made = pictures(9)[1:]
    expected = [
        by_hand(a[None, :, m][..., None], b[None, :, m][..., None])[0] for a, b, m in zip(made, x, c[:, -1] == 1)
    ]
    said = task.compare(made, x, c)
    assert list(said) == ["psnr", "hole_psnr"] and said["hole_psnr"] == pytest.approx(np.mean(expected))
    # Elsewhere it changes nothing.
    composed = torch.where(c[:, -1:] == 1, made, x)
    assert task.compare(composed, x, c)["hole_psnr"] == said["hole_psnr"] < task.compare(composed, x, c)["psnr"]


def test_the_pairs_of_the_data_are_given_as_they_are():
    x, c = pictures(), pictures(channels=1)
    task = GivenSources(channels=1)
    assert task.condition(x, c) is c and torch.equal(task.baseline(c), c.repeat(1, 3, 1, 1))
    colour = GivenSources(channels=3, target_channels=1)
    assert torch.equal(colour.baseline(x), Colorize()(x)) and torch.equal(GivenSources(channels=3).baseline(x), x)
    assert task.compare(task.baseline(c), x, c)["psnr"] == pytest.approx(np.mean(by_hand(c.repeat(1, 3, 1, 1), x)))


def test_other_tasks_make_c_of_x_whatever_was_drawn():
    x, nothing = pictures(), torch.zeros(8, 0)
    assert torch.equal(Edges().condition(x, nothing), Edges()(x))


def test_super_resolution_is_a_task():
    x, task = pictures(), Degradation(4)
    assert isinstance(task, Task) and not task.masked
    c = task.condition(x, torch.zeros(8, 0))
    assert torch.equal(c, task(x)) and torch.equal(task.baseline(c), enlarge(c, 4))
    made = enlarge(c, 4)
    assert task.compare(made, x, c) == {"psnr": fidelity(made, x, 4)["psnr"]}


# What does not fit.


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GivenSources(channels=0), r"these bring none; type data=pairs .* task=colorize"),
        (lambda: GivenSources(channels=3).condition(pictures(), torch.zeros(8, 0)), "these bring none; type data=pairs"),
        (lambda: GivenSources(channels=3).condition(pictures(), pictures(channels=1)), r"1 channels, .*source_channels=1$"),
        (lambda: GivenSources(channels=3)(pictures()), "of an image alone nothing is known"),
        (lambda: Colorize()(pictures(channels=1)), r"grey images have no colours .* data\.channels=3"),
        (lambda: Denoise(channels=1)(pictures()), r"has 3, but model\.task\.channels=1; leave it out"),
        (lambda: Inpaint("box", channels=3)(pictures()), r"has 4, but model\.task\.channels=3"),
        (lambda: Inpaint("center"), r"mask=center is not one of centre, box, free, mixed; did you mean centre"),
        (lambda: Inpaint(masked=False), r"true here, but model\.task\.masked=false; leave it out"),
        (lambda: Edges(masked=True), r"false here, but model\.task\.masked=true"),
        *(
            (lambda task=task, sigma=sigma: task(sigma), r"model\.task\.sigma=.*; type model\.task\.sigma=(25|1\.6)$")
            for task in (Denoise, Deblur)
            for sigma in (0, -1.0, math.nan, math.inf, "much", None, True)
        ),
        *((lambda task=task: task(torch.zeros(4, 2, 1, 1)), r"points of the plane; type data\.kind=shapes") for task in
          TASKS.values()),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(make, said):
    with pytest.raises(ValueError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


# The configs.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", choices("model/task"))
def test_every_config_says_what_it_is_and_builds(name, channels):
    register_resolvers()
    cfg = OmegaConf.create(
        {
            "data": {"channels": channels, "source_channels": 1},
            "model": {"task": OmegaConf.load(ROOT / "configs" / "model" / "task" / f"{name}.yaml")},
        }
    )
    assert header(f"model/task/{name}") and {"channels", "masked"} <= set(cfg.model.task)
    assert all(key.meaning for key in keys(f"model/task/{name}"))
    task = build(cfg.model.task)
    x, c = pictures(channels=channels), pictures(channels=1)
    if name == "colorize" and channels == 1:
        return  # it says so, above
    c = task.condition(x, c)
    assert c.shape[1] == cfg.model.task.channels and task.baseline(c).shape == x.shape
    assert isinstance(task, Inpaint) == task.masked == cfg.model.task.masked


def test_data_without_sources_do_not_go_with_given():
    cfg = OmegaConf.create(
        {"data": {"channels": 3}, "model": {"task": OmegaConf.load(ROOT / "configs/model/task/given.yaml")}}
    )
    with pytest.raises(ValueError, match="these bring none; type data=pairs"):
        build(cfg.model.task)
