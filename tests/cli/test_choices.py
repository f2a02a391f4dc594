"""Choices that do not go together are refused, or taken with a remark: a sentence each, before anything is trained."""

import pytest
from helpers import TINY

SHAPES = [*TINY, "run.dir=r"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.packing=3"], "model.packing=3 does not divide the batch of 8; type data.batch_size=6"),
        (["model.packing=0"], "model.packing=0 is out of range, it must be 1 or more; type model.packing=1"),
        (["model.n_critic=0"], "model.n_critic=0 is out of range"),
        (["model/augment=ada", "model/loss=wasserstein"], "type model/augment=diffaugment, or model/loss="),
        (["model/augment=ada", "model=r3gan"], "which this loss does not define"),
        (["model=sngan_proj", "data.kind=ring", "data.size=null"], "8 pixels or more"),
        (["model=acgan", "model.classes=0"], "acgan needs classes, but data.classes=0; choose data with classes, or"),
        (["model=sngan_proj", "model.classes=0"], "projection needs classes, but data.classes=0;"),
        (["model=acgan", "model.packing=2"], "type model.packing=1 or model=cgan"),
        (["model.norm=spectrall"], "model.norm=spectrall is not one of batch, none, spectral; did you mean spectral?"),
        (["model.minibatch=stdd"], "did you mean std?"),
        (["model=sngan", "model.norm=batch"], "model.norm=batch is not one of spectral, none"),
        (["model/penalty=r1", "model.penalty.weight=0"], "model.penalty.weight=0 is out of range, it must be above 0"),
        (["model/penalty=r1", "model.penalty.every=0"], "model.penalty.every=0 is out of range"),
        (["model/augment=diffaugment", "model.augment.policy=[colour]"], "did you mean color?"),
        (["model/augment=diffaugment", "model=mlp", "data.kind=ring", "data.size=null"], "type model/augment=none"),
        (["model=unrolled", "model.unroll=-1"], "model.unroll=-1 is out of range"),
        (["trainer.on_nan=ignore"], "trainer.on_nan=ignore is neither stop nor rollback"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(words, said, gan):
    code, out, error = gan("train", *SHAPES, *words)
    assert code == 1 and not out, error
    last = error.strip().splitlines()[-1]
    assert last.startswith("gan: ") and said in last


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model/penalty=r1_r", "model=dcgan"], "did you mean r1_r2?"),
        (["model/loss=hing"], "did you mean hinge?"),
        (["model/augment=dif"], "there are: ada, diffaugment, none"),
    ],
)
def test_a_misspelt_choice_is_answered_with_the_nearest(words, said, gan):
    code, _, error = gan("train", *SHAPES, *words)
    assert code == 2 and said in error


@pytest.mark.parametrize("words", [["model/penalty=gp"], ["model/penalty=r1"], ["model=unrolled"]])
def test_compile_gives_way_to_a_second_differentiation_and_says_so(words, gan):
    code, _, error = gan("train", *SHAPES, "trainer.compile=true", *words)
    assert code == 0
    assert error.count("trainer.compile: not with this penalty or objective, which differentiates a gradient") == 1


@pytest.mark.slow
def test_compiled_networks_train_and_their_checkpoint_is_an_ordinary_one(gan, tmp_path):
    import gancli

    code, _, error = gan("train", *SHAPES, "model=mlp", "trainer.compile=true")
    assert code == 0, error
    assert gancli.load(tmp_path / "r").sample(3).shape == (3, 3, 16, 16)


def test_a_penalty_for_single_images_remarks_on_batch_norm(gan):
    _, _, error = gan("train", *SHAPES, "model/penalty=gp")
    assert error.count("type model.norm=none") == 1
    _, _, error = gan("train", *SHAPES, "model/penalty=gp", "model.norm=none", "run.dir=other")
    assert "model.norm" not in error


def test_adas_probability_is_logged_and_in_the_checkpoint(gan, tmp_path):
    from gancli.checkpoint import format as checkpoint

    words = ["model/augment=ada", "model.augment.kimg=0.05", "model.augment.target=-0.9", "data.flip=false"]
    code, _, error = gan("train", *SHAPES, *words)
    assert code == 0 and "augment_p" in error
    p = checkpoint.read(tmp_path / "r" / "checkpoints" / "last.safetensors")["objective"]["augment"]["p"]
    assert 0 < float(p) <= 1


def test_every_penalty_and_augmentation_goes_with_the_default_model(gan):
    from gancli.config import choices

    for group in ("model/penalty", "model/augment"):
        for name in choices(group):
            code, _, error = gan("train", *SHAPES, f"{group}={name}", f"run.dir={group}-{name}")
            assert code == 0, error
