"""Image-to-image objectives: terms by hand, the image pool, which data fit, and their networks."""

from pathlib import Path

import pytest
import torch
from helpers import TINY, assert_same, start
from PIL import Image
from torch import nn
from torch.nn.functional import pad, softplus

from gancli.networks.layers import Dropout, ReflectionPad
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.networks.translation import ResidualGenerator
from gancli.networks.unet import UNet
from gancli.objectives.cyclegan import Pool


def test_content_and_adversarial_loss_by_hand(tmp_path):
    run = start(tmp_path, "pix2pix", "model.adversarial=0.25")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    _, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    _, source, fake = fakes
    terms, _ = objective.generator_loss(x, c, fakes)
    assert source.shape == (8, 1, 16, 16)  # the luma: data without sources are colorized
    assert torch.allclose(terms["G/content"], (fake - x).abs().mean())
    assert torch.allclose(terms["G/adversarial"], 0.25 * softplus(-objective.D(fake, source).logits).mean())


def test_a_budget_of_pretraining_trains_g_alone(tmp_path):
    run = start(tmp_path, "pix2pix", "model.pretrain=1")
    assert [update.network for update in run.trainer.objective.updates(0, 0.99)] == ["G"]


@pytest.mark.parametrize("mask", ["centre", "box", "free", "mixed"])
def test_pixels_outside_the_mask_are_kept_to_the_bit(mask, tmp_path):
    run = start(tmp_path, "inpainting", f"model.task.mask={mask}")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    source = objective.condition(x, c)
    fake, hole = objective.G(source.new_zeros(8, 0), source), source[:, -1:].bool().expand_as(x)
    assert torch.equal(fake[~hole], x[~hole]) and not torch.equal(fake[hole], x[hole])
    assert not source[:, :-1][hole].any(), "G does not see the pixels that it replaces"


class Brighten(nn.Module):
    """G that adds a number to its source."""

    channels = source_channels = 3

    def __init__(self, number: float):
        super().__init__()
        self.number = number

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return c + self.number


class Mean(nn.Module):
    """D whose logit is the mean of the image."""

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> DiscriminatorOutputs:
        return DiscriminatorOutputs(x.mean((1, 2, 3)))


def test_the_pool_replaces_every_other_image_by_an_older_one():
    torch.manual_seed(0)
    pool = Pool(50)
    batches = [(10 * i + torch.arange(10.0))[:, None, None, None] for i in range(400)]  # the last digit is the row
    results = [pool(batch) for batch in batches]
    assert_same(results[:5], batches[:5])  # while the pool fills
    older = torch.stack([result < batch for result, batch in zip(results, batches)])
    assert 0.45 < older[5:].float().mean() < 0.55
    # Every image stays in its row.
    assert all(torch.equal(result % 10, batch % 10) for result, batch in zip(results, batches))
    assert all((result <= batch).all() for result, batch in zip(results, batches))
    # Images of the first batches may be returned a second time, all others once.
    later = torch.cat(results[5:]).flatten()
    assert len(later.unique()) == len(later) and pool.images.shape == (5, 10, 1, 1, 1)


def test_the_pool_continues_from_its_state_and_does_not_change_it():
    torch.manual_seed(0)
    pool, restored = Pool(4), Pool(4)
    for _ in range(5):
        pool(torch.randn(2, 1, 2, 2))
    restored.images = state = pool.images
    copy, batch = state.clone(), torch.randn(2, 1, 2, 2)
    torch.manual_seed(1)
    expected = pool(batch)
    torch.manual_seed(1)
    assert torch.equal(restored(batch), expected) and torch.equal(state, copy)
    assert not pool(torch.zeros(3, 1, 2, 2)).any(), "another batch size starts a new pool"


@pytest.mark.parametrize("border", [1, 3])
def test_reflection_padding_equals_torchs(border):
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    ours, theirs = ReflectionPad(border)(x), pad(x, (border,) * 4, mode="reflect")
    assert torch.equal(ours, theirs)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_dropout_zeroes_a_fraction_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.ones(100, 10, 10, 10)
    y = layer(x)
    assert torch.allclose(y.unique(), torch.tensor([0, 4 / 3]))
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(ValueError, match=r"model.dropout=1 is out of range.*; type model.dropout=0.5"):
        Dropout(1)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (28, 28), (17, 9)])
@pytest.mark.parametrize("network", [UNet(3, 1, 32, width=4), ResidualGenerator(3, 1, width=4, depth=1)])
def test_generators_take_any_size(network, size):
    y = network.eval()(torch.zeros(2, 0), torch.randn(2, 1, *size))
    assert y.shape == (2, 3, *size) and y.isfinite().all() and y.abs().max() <= 1


@pytest.fixture
def two_folders(tmp_path) -> list[str]:
    """Return the words for data in two folders of twelve images each."""
    for name, level in (("a", 0), ("b", 255)):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("RGB", (16, 16), (level, 20 * i, 0)).save(tmp_path / name / f"{i}.png")
    words = [word for word in TINY if not word.startswith(("data=", "data.n=", "data.size="))]
    return [*words, f"data.path={tmp_path / 'b'}", f"data.sources={tmp_path / 'a'}", "data.size=16"]


@pytest.mark.parametrize(("model", "data"), [("pix2pix", "pairs"), ("cyclegan", "unpaired"), ("cyclegan", "pairs")])
def test_models_train_on_two_folders_and_translate(model, data, gan, two_folders):
    code, out, error = gan("train", f"model={model}", f"data={data}", *two_folders, "run.dir=run")
    assert code == 0 and out.endswith("run\n"), error
    assert "gan translate IMAGE" in Path("run/index.html").read_text()
    code, out, error = gan("translate", "a/3.png", "ckpt=run", "out=translated.png")
    assert code == 0 and Image.open("translated.png").size == (16, 16), error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=dcgan", "data=pairs"], "computes its own sources; type model=pix2pix or model=cyclegan"),
        (["model=vae", "data=unpaired"], "type model=pix2pix or model=cyclegan"),
        (["model=pix2pix", "data=unpaired"], "two sets of images without pairs; type model=cyclegan, or data=pairs"),
        (["model=pix2pix", "data=pairs", "task=denoise"], "computes its own sources; type model=pix2pix or"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(words, message, gan, two_folders):
    code, out, error = gan("train", *two_folders, *words)
    assert code == 1 and not out and message in error and len(error.strip().splitlines()) == 1, error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=cyclegan", "data.kind=ring", "data.size=null"], "points"),
        (["model=cyclegan", "model.between=[0,9]"], "class"),
        (["model=pix2pix", "task=given"], "or data=pairs data.path=DIR"),
        (["model=pix2pix", "data.channels=1"], "grey images cannot be colorized"),
        (["model=pix2pix", "task=edgse"], "there is no model/task 'edgse'; did you mean edges?"),
        (["model=cyclegan", "model.cycle=-1"], "model.cycle=-1 is out of range"),
        (["model=pix2pix", "model.norm=bacth"], "did you mean batch?"),
        (["model=vae", "model.beta=-1"], "model.beta=-1 is out of range, it must be 0 or more"),
        (["model=vae", "model.warmup=2"], "model.warmup=2 is out of range, it must be from 0 to 1"),
        (["model=aegan", "model.pretrain=1.5"], "model.pretrain=1.5 is out of range"),
        (["model=aegan", "model.prior=-1"], "model.prior=-1 is out of range"),
        (["model=vae", "likelihood=beroulli"], "did you mean bernoulli?"),
    ],
)
def test_settings_out_of_range_are_refused(words, message, gan):
    code, out, error = gan("train", *TINY, *words)
    assert code in (1, 2) and not out and message in error and len(error.strip().splitlines()) == 1, error
