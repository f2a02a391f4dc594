"""Image-to-image objectives: terms by hand, the image pool, which data fit, and their networks."""

from pathlib import Path

import pytest
import torch
from helpers import TINY, start
from PIL import Image
from torch import nn
from torch.nn.functional import pad

from gancli.networks.layers import Dropout, ReflectionPad
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.networks.translation import PatchDiscriminator, ResidualGenerator
from gancli.networks.unet import UNet
from gancli.objectives.cyclegan import Pool


def test_content_and_opinion_by_hand(tmp_path):
    run = start(tmp_path / "run", "pix2pix", "model.adversarial=0.25")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    _, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    _, given, made = fakes
    terms, _ = objective.generator_loss(x, c, fakes)
    assert given.shape == (8, 1, 16, 16)  # the luma: colorize is what it does where the data bring no pairs
    assert torch.allclose(terms["G/content"], (made - x).abs().mean())
    opinion = torch.nn.functional.softplus(-objective.D(made, given).logits).mean()
    assert torch.allclose(terms["G/adversarial"], 0.25 * opinion)


def test_all_of_the_budget_alone_is_the_content_alone(tmp_path):
    run = start(tmp_path / "run", "pix2pix", "model.pretrain=1")
    assert [update.network for update in run.trainer.objective.updates(0, 0.99)] == ["G"]


@pytest.mark.parametrize("mask", ["centre", "box", "free", "mixed"])
def test_what_is_not_masked_is_given_back_to_the_bit(mask, tmp_path):
    run = start(tmp_path / "run", "inpainting", f"model.task.mask={mask}")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    given = objective.condition(x, c)
    made, hole = objective.G(given.new_zeros(8, 0), given), given[:, -1:].bool().expand_as(x)
    assert torch.equal(made[~hole], x[~hole]) and not torch.equal(made[hole], x[hole])
    # And what was in the hole has no say in what is painted into it.
    assert not given[:, :-1][hole].any()


class Fixed(nn.Module):
    """x plus a number."""

    channels = source_channels = 3

    def __init__(self, number: float):
        super().__init__()
        self.number = number

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return c + self.number


class Mean(nn.Module):
    def forward(self, x: torch.Tensor, c: torch.Tensor) -> DiscriminatorOutputs:
        return DiscriminatorOutputs(x.mean((1, 2, 3)))


def test_there_and_back_by_hand(tmp_path):
    """Generators that add a and b: a cycle is a + b away both ways, and the other set is changed by b and by a."""
    run = start(tmp_path / "run", "cyclegan", "model.pool=0")
    objective = run.trainer.objective
    objective.G.there, objective.G.back = Fixed(0.3), Fixed(-0.1)
    objective.D.target, objective.D.source = mean, _ = Mean(), Mean()
    x, c = run.trainer.next_batch()
    assert x.shape == c.shape == (8, 3, 16, 16)
    terms, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    for name, real, made in (("target", x, c + 0.3), ("source", c, x - 0.1)):
        expected = 0.5 * (mean(real, c).logits - 1).square().mean() + 0.5 * mean(made, c).logits.square().mean()
        assert torch.allclose(terms[f"D/{name}"], expected)
    terms, _ = objective.generator_loss(x, c, fakes)
    assert float(terms["G/cycle"]) == pytest.approx(10 * 2 * 0.2, rel=1e-4)
    assert float(terms["G/identity"]) == pytest.approx(5 * (0.3 + 0.1), rel=1e-4)
    assert torch.allclose(terms["G/target"], 0.5 * (mean(c + 0.3, c).logits - 1).square().mean())
    assert torch.allclose(terms["G/source"], 0.5 * (mean(x - 0.1, c).logits - 1).square().mean())


def test_the_pool_gives_every_other_image_for_an_older_one():
    torch.manual_seed(0)
    pool = Pool(50)
    batches = [(10 * i + torch.arange(10.0))[:, None, None, None] for i in range(400)]  # the last digit is the row
    shown = []
    for i, batch in enumerate(batches):
        shown.append(pool(batch))
        assert i >= 5 or torch.equal(shown[-1], batch)  # it is being filled
        # Of its own row, and never of the future.
        assert torch.equal(shown[-1] % 10, batch % 10) and (shown[-1] <= batch).all()
    older = torch.stack([old < new for old, new in zip(shown[5:], batches[5:])])
    assert 0.45 < older.float().mean() < 0.55
    # What was kept from the beginning was shown then, and may be once more; nothing else is shown twice.
    later = torch.cat(shown[5:]).flatten()
    assert len(later.unique()) == len(later) and pool.images.shape == (5, 10, 1, 1, 1)


def test_the_pool_goes_on_where_its_state_was_taken_and_does_not_change_it():
    torch.manual_seed(0)
    pool, again = Pool(4), Pool(4)
    for _ in range(5):
        pool(torch.randn(2, 1, 2, 2))
    state = pool.images
    copy, batch = state.clone(), torch.randn(2, 1, 2, 2)
    again.images = state
    torch.manual_seed(1)
    expected = pool(batch)
    torch.manual_seed(1)
    assert torch.equal(again(batch), expected) and torch.equal(state, copy)
    assert torch.equal(pool(torch.zeros(3, 1, 2, 2)), torch.zeros(3, 1, 2, 2))  # another batch size begins anew


@pytest.mark.parametrize("border", [1, 3])
def test_reflection_is_torchs(border):
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    ours, theirs = ReflectionPad(border)(x), pad(x, (border,) * 4, mode="reflect")
    assert torch.equal(ours, theirs)
    weight = torch.randn_like(ours)
    slopes = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)]
    assert torch.allclose(*slopes, atol=1e-6)


def test_dropout_leaves_out_a_share_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.ones(100, 10, 10, 10)
    y = layer(x)
    assert torch.allclose(y.unique(), torch.tensor([0, 4 / 3]))
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(ValueError, match=r"model.dropout=1 is out of range.*; type model.dropout=0.5"):
        Dropout(1)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (28, 28), (17, 9)])
@pytest.mark.parametrize("make", [lambda: UNet(3, 1, 32, width=4), lambda: ResidualGenerator(3, 1, width=4, depth=1)])
def test_any_size_goes_in_and_comes_out(make, size):
    network = make().eval()
    made = network(torch.zeros(2, 0), torch.randn(2, 1, *size))
    assert made.shape == (2, 3, *size) and made.isfinite().all() and made.abs().max() <= 1


@pytest.mark.parametrize(("size", "patch"), [(16, 16), (28, 34), (32, 34), (64, 70), (256, 70)])
def test_a_logit_sees_a_patch(size, patch):
    """What moves one logit of the middle, by its gradient: 70x70 pixels, fewer where images are small."""
    D = PatchDiscriminator(1, size=size, width=4, norm="none")
    x = torch.randn(1, 1, 256, 256, requires_grad=True)
    logits = D(x, x[:, :0]).logits
    logits[0, logits.shape[1] // 2, logits.shape[2] // 2].backward()
    seen = x.grad[0, 0].abs() > 0
    assert (int(seen.any(0).sum()), int(seen.any(1).sum())) == (patch, patch)


def two_folders(folder):
    for name, level in (("a", 0), ("b", 255)):
        for i in range(12):
            (folder / name).mkdir(exist_ok=True)
            Image.new("RGB", (16, 16), (level, 20 * i, 0)).save(folder / name / f"{i}.png")
    return f"data.path={folder / 'b'}", f"data.sources={folder / 'a'}", "data.size=16"


FOLDERS = [word for word in TINY if not word.startswith(("data=", "data.n=", "data.size="))]


@pytest.mark.parametrize(("model", "data"), [("pix2pix", "pairs"), ("cyclegan", "unpaired"), ("cyclegan", "pairs")])
def test_two_folders_are_trained_on(model, data, gan, tmp_path):
    words = ["train", f"model={model}", f"data={data}", *two_folders(tmp_path), *FOLDERS, "run.dir=run"]
    code, out, error = gan(*words)
    assert code == 0 and out.endswith("run\n"), error
    assert "gan translate IMAGE" in Path("run/index.html").read_text()  # what its page says to type next
    code, out, error = gan("translate", "a/3.png", "ckpt=run", "out=made.png")
    assert code == 0 and Image.open("made.png").size == (16, 16), error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["model=dcgan", "data=pairs"],
            "generates from noise or computes its own sources; type model=pix2pix or model=cyclegan",
        ),
        (["model=vae", "data=unpaired"], "type model=pix2pix or model=cyclegan"),
        (["model=pix2pix", "data=unpaired"], "two sets of images without pairs; type model=cyclegan, or data=pairs"),
        (["model=pix2pix", "data=pairs", "task=denoise"], "computes its own sources; type model=pix2pix or"),
    ],
)
def test_data_that_do_not_fit_get_one_sentence(gan, tmp_path, words, message):
    code, out, error = gan("train", *words, *two_folders(tmp_path), *FOLDERS)
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
    ],
)
def test_what_cannot_be_trained_gets_one_sentence(gan, words, message):
    code, out, error = gan("train", *TINY, *words)
    assert code in (1, 2) and not out and message in error and len(error.strip().splitlines()) == 1, error
