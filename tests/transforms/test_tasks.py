"""Conditions and baselines of the tasks, against closed forms, Pillow and SciPy; what is random in them."""

import math

import numpy as np
import pytest
import torch
from helpers import ROOT, soft_images
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from gancli.config import build, choices, header, keys, register_resolvers
from gancli.images import enlarge, to_array, to_float, to_uint8
from gancli.transforms.degradation import Degradation
from gancli.transforms.tasks import Colorize, Deblur, Denoise, Edges, GivenSources, Inpaint

TASKS = {
    "colorize": Colorize(),
    "denoise": Denoise(25.0),
    "deblur": Deblur(1.6),
    "edges": Edges(),
    **{mask: Inpaint(mask) for mask in ("centre", "box", "free", "mixed")},
    "downsample": Degradation(4),
    "degrade": Degradation(4, blur=3.0, noise=20.0, fraction=0.9),
    "jpeg": Degradation(4, jpeg=30),
}
RANDOM = {"denoise", "box", "free", "mixed", "degrade", "jpeg"}


def levels(y: Tensor) -> Tensor:
    """Return grey levels, 0 to 255."""
    return (y + 1) * 255 / 2


def eight_bits(y: Tensor) -> bool:
    return torch.equal(to_float(to_uint8(y)), y)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_c_has_the_stated_channels_range_and_no_gradient(task):
    x = soft_images()
    before = x.clone()
    for variant in (x, x.contiguous(memory_format=torch.channels_last), x.bfloat16(), x.clone().requires_grad_()):
        c = task(variant)
        assert task.baseline(c).shape == x.shape and c.dtype == torch.float32
        assert c.abs().max() <= 1 and not c.requires_grad
    assert torch.equal(x, before)
    assert c.shape[1] == (1 if isinstance(task, Colorize | Edges) else 4 if task.masked else 3)
    assert torch.equal(Edges().condition(x, torch.zeros(8, 0)), Edges()(x)), "computed from x alone"


def test_colorize_gives_pillows_grey():
    x, task = soft_images(), TASKS["colorize"]
    c = task(x)
    assert eight_bits(c) and torch.equal(task.baseline(c), c.repeat(1, 3, 1, 1))
    assert np.array_equal(to_array(c)[..., 0], [np.asarray(Image.fromarray(a).convert("L")) for a in to_array(x)])


def test_denoise_adds_noise_of_its_sigma():
    for sigma in (5.0, 25.0):
        c = Denoise(sigma)(torch.zeros(50, 3, 32, 32))
        noise = levels(c) - 127.5
        assert eight_bits(c) and abs(noise.mean()) < 0.02 * sigma and abs(noise.std() / sigma - 1) < 0.01
        assert abs(noise.flatten(1).std(1) / sigma - 1).max() < 0.05  # in every image
        assert abs((noise.abs() < sigma).float().mean() - 0.683) < 0.03  # as of a normal distribution
    assert Denoise(25)(torch.ones(1, 1, 32, 32)).max() == 1  # clipped as a file would be


@pytest.mark.parametrize("mask", ["centre", "box", "free", "mixed"])
@pytest.mark.parametrize("shape", [(32, 3, 24, 24), (16, 1, 17, 30)])
def test_inpaint_keeps_known_pixels_and_fills_the_hole_with_their_mean(mask, shape):
    x, task = soft_images(shape[0], shape[1], 30)[:, :, : shape[2], : shape[3]], Inpaint(mask)
    c = task(x)
    hole = c[:, -1:]
    assert set(hole.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(c[:, :-1], torch.where(hole == 1, 0.0, x))
    assert (hole.sum((1, 2, 3)) > 0).all() and (hole.mean((1, 2, 3)) < 0.6).all()
    for image, filled, m in zip(x, task.baseline(c), hole[:, 0] == 1):
        assert torch.equal(filled[:, ~m], image[:, ~m])
        assert torch.allclose(filled[:, m], image[:, ~m].mean(1, keepdim=True).expand(-1, int(m.sum())), atol=1e-6)


def test_sources_of_the_data_are_given_as_they_are():
    x, c = soft_images(), soft_images(channels=1)
    task = GivenSources(channels=1)
    assert task.condition(x, c) is c and torch.equal(task.baseline(c), c.repeat(1, 3, 1, 1))
    to_grey = GivenSources(channels=3, target_channels=1)
    assert torch.equal(to_grey.baseline(x), Colorize()(x)) and torch.equal(GivenSources(channels=3).baseline(x), x)


def test_the_baseline_of_super_resolution_is_bicubic():
    c = Degradation(4)(soft_images())
    assert torch.equal(Degradation(4).baseline(c), enlarge(c, 4))


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_same_c_each_image_its_own_and_none_where_nothing_is_random(name):
    x, results = soft_images(1).expand(4, -1, -1, -1), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(TASKS[name](x))
        assert torch.equal(torch.get_rng_state(), before) == (name not in RANDOM)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2]) == torch.equal(results[0][0], results[0][1]) == (name not in RANDOM)


@pytest.mark.parametrize("name", TASKS)
def test_only_jpeg_waits_for_the_device_and_autocast_changes_nothing(name):
    task, x = TASKS[name], torch.empty(2, 3, 16, 16, device="meta")  # reading a value of a meta tensor fails
    assert name == "jpeg" or task.baseline(task(x)).shape == x.shape
    results = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append(task(soft_images()))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GivenSources(channels=0), r"the data has none; type data=pairs .* task=colorize"),
        (lambda: GivenSources(channels=3).condition(soft_images(), torch.zeros(8, 0)), "the data has none; type data="),
        (lambda: GivenSources(channels=3).condition(soft_images(), soft_images(channels=1)), "source_channels=1$"),
        (lambda: GivenSources(channels=3)(soft_images()), "takes its sources from the data"),
        (lambda: Colorize()(soft_images(channels=1)), r"grey images cannot be colorized; type data\.channels=3"),
        (lambda: Denoise(channels=1)(soft_images()), r"task\.channels=1 is not possible.* 3 channels into 3; leave"),
        (lambda: Inpaint("box", channels=3)(soft_images()), r"task\.channels=3 is not possible.* 3 channels into 4"),
        (lambda: Inpaint("center"), r"mask=center is not one of centre, box, free, mixed; did you mean centre"),
        (lambda: Inpaint(masked=False), r"task\.masked=false is not possible, it is true for this task; leave it out"),
        (lambda: Edges(masked=True), r"task\.masked=true is not possible, it is false"),
        *(
            (lambda task=task, sigma=sigma: task(sigma), r"model\.task\.sigma=.*; type model\.task\.sigma=(25|1\.6)$")
            for task in (Denoise, Deblur)
            for sigma in (0, -1.0, math.nan, math.inf, "much", None, True)
        ),
        (lambda: Edges()(torch.zeros(4, 2, 1, 1)), r"points of the plane; type data\.kind=shapes"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", choices("model/task"))
def test_every_config_is_documented_and_builds(name, channels):
    register_resolvers()
    task_yaml = OmegaConf.load(ROOT / "configs" / "model" / "task" / f"{name}.yaml")
    data = {"channels": channels, "source_channels": 1}
    cfg = OmegaConf.create({"data": data, "model": {"task": task_yaml}})
    assert header(f"model/task/{name}") and all(key.meaning for key in keys(f"model/task/{name}"))
    task = build(cfg.model.task)
    assert isinstance(task, Inpaint) == task.masked == cfg.model.task.masked
    if name != "colorize" or channels == 3:
        x = soft_images(channels=channels)
        c = task.condition(x, soft_images(channels=1))
        assert c.shape[1] == cfg.model.task.channels and task.baseline(c).shape == x.shape
    if name == "given":
        with pytest.raises(ValueError, match="the data has none; type data=pairs"):
            build(OmegaConf.create({"data": {"channels": 3}, "model": {"task": task_yaml}}).model.task)
