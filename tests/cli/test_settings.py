"""Settings that cannot be trained: one sentence and exit 1, and nothing is left behind."""

import pytest
from helpers import TINY

import gancli

NO_DATA = [word for word in TINY if not word.startswith("data")]
POINTS = ["data.kind=ring", "data.size=null"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([*POINTS], "type model=mlp"),
        (["data.kind=rign", "data.size=null"], "did you mean"),
        (["data.batch_size=0"], "data.batch_size=0"),
        (["device=cuda:7"], "device=cpu"),
        (["device=tpu"], "device=auto, cpu, cuda or mps"),
        (["trainer.steps=0"], "trainer.steps"),
        (["trainer.minutes=-1"], "trainer.minutes"),
        (["trainer.precision=fp8"], "fp32, tf32, bf16"),
        (["trainer.log_every=0"], "trainer.log_every"),
        (["trainer.ema.ramp=2"], "trainer.ema.ramp=2"),
        (["trainer.clip=-1"], "trainer.clip=-1"),
        (["trainer.accumulate=0"], "trainer.accumulate=0 is out of range"),
        (["trainer.accumulate=3", "model=mlp"], "type trainer.accumulate=2 or another data.batch_size="),
        (["trainer.accumulate=8", "model=mlp", "model.packing=2"], "type trainer.accumulate=4"),
        (["trainer.accumulate=2", "model=unrolled"], "steps of D on all images of a batch (model.unroll=0"),
        (["run.dir=a_file/run"], "a_file"),
        (["model.packing=3"], "data.batch_size=6"),
        (["model.packing=0"], "type model.packing=1"),
        (["model.n_critic=0"], "model.n_critic"),
        (["model/augment=ada", "model/loss=wasserstein"], "type model/augment=diffaugment, or model/loss="),
        (["model/augment=ada", "model=r3gan"], "model/augment"),
        (["model=sngan_proj", *POINTS], "8 pixels or more"),
        (["model=acgan", "model.classes=0"], "acgan needs classes"),
        (["model=sngan_proj", "model.classes=0"], "needs classes"),
        (["model=acgan", "model.packing=2"], "type model.packing=1 or model=cgan"),
        (["model/augment=diffaugment", "model=mlp", *POINTS], "type model/augment=none"),
        (["model=unrolled", "model.unroll=-1"], "model.unroll"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_trained_gets_one_sentence_and_leaves_nothing(gan, tmp_path, words, sentence):
    (tmp_path / "a_file").touch()
    code, out, error = gan("train", *TINY, "run.dir=run", *words)
    assert code == 1 and not out
    # Warnings may come before.
    assert error.splitlines()[-1].startswith("gan: ") and sentence in error.splitlines()[-1], error
    # A few are detected in the first step only.
    assert [p.name for p in tmp_path.iterdir() if "training:" not in error or p.name != "run"] == ["a_file"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data=folder", "data.path=nowhere"], "nowhere"),
        (["data=folder", "data.path=empty"], "empty"),
        (["data=folder", "data.path=corrupt"], "corrupt"),
        (["data=mnist", "data.root=empty"], "data=mnist10k"),
        (["data=mnist10k", "data.size=7", "data.batch_size=8"], "type model=mlp"),
    ],
)
def test_data_that_cannot_be_trained_on_get_one_sentence(gan, tmp_path, monkeypatch, words, sentence):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    (tmp_path / "empty").mkdir()
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "a.png").write_bytes(b"no image")
    code, out, error = gan("train", *NO_DATA, "run.dir=run", *words)
    assert code == 1 and not out and len(error.splitlines()) == 1 and sentence in error, error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corrupt", "empty"]


@pytest.mark.parametrize("words", [["model/penalty=gp"], ["model/penalty=r1"], ["model=unrolled"]])
def test_compile_is_off_with_one_warning_where_gradients_are_differentiated_again(words, gan):
    code, _, error = gan("train", *TINY, "run.dir=r", "trainer.compile=true", *words)
    assert code == 0
    assert error.count("trainer.compile: this penalty or objective differentiates a gradient") == 1


@pytest.mark.slow
def test_compiled_networks_train_and_their_checkpoint_is_an_ordinary_one(gan, tmp_path):
    code, _, error = gan("train", *TINY, "run.dir=r", "model=mlp", "trainer.compile=true")
    assert code == 0, error
    assert gancli.load(tmp_path / "r").sample(3).shape == (3, 3, 16, 16)


@pytest.mark.slow
def test_batch_norm_in_d_gets_a_warning_with_a_penalty_for_single_images(gan):
    assert gan("train", *TINY, "run.dir=a", "model/penalty=gp")[2].count("type model.norm=none") == 1
    assert "type model.norm=none" not in gan("train", *TINY, "run.dir=b", "model/penalty=gp", "model.norm=none")[2]
