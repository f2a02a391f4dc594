"""deterministic=true: the same bits with any number of threads. docs/explanation/determinism.md says what holds."""

import re

import pytest
import torch
from helpers import TINY, assert_same, learned

from gancli.runtime.determinism import deterministic

# Convolutions, which with two threads give other last bits than with one, and everything else that is computed.
MODELS = [
    ["model=dcgan", "model/augment=ada", "model/penalty=r1", "model.minibatch=discrimination"],
    ["model=sngan_proj"],
    ["model=srgan"],
]


@pytest.fixture
def set_threads():
    """Set torch's number of threads, as OMP_NUM_THREADS does; restore it afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("words", MODELS, ids=lambda words: words[0].removeprefix("model="))
def test_any_number_of_threads_gives_the_same_bits(words, gan, set_threads, tmp_path):
    words = ["train", *TINY, *words, "trainer.steps=2", "deterministic=true"]
    for threads in (1, 2):
        set_threads(threads)
        code, _, error = gan(*words, f"run.dir={threads}")
        assert code == 0, error
        assert torch.get_num_threads() == threads, "restored for the next job of a sweep"
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic
    assert_same(*(learned(tmp_path / str(threads)) for threads in (1, 2)))
    assert "1 of " in (tmp_path / "2" / "log.txt").read_text(), "the log says how many threads were used"


def test_an_operation_without_a_deterministic_version_is_named(gan, monkeypatch):
    from gancli.objectives import GAN

    def racing(objective, x, c, fakes=None):
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))

    assert gan("train", *TINY, "run.dir=run", "trainer.steps=2")[0] == 0
    monkeypatch.setattr(GAN, "generator_loss", racing)
    code, _, error = gan("train", *TINY, "run.dir=run", "deterministic=true")  # resumes a run without it
    assert code == 1 and re.search(r"no deterministic put_; type deterministic=false", error), error
    with pytest.raises(RuntimeError, match="of our own"), deterministic(True):
        raise RuntimeError("of our own")
