"""From a config to a training: few images, counts below 1, settings that are seldom intended, budgets to enlarge."""

import pytest
from helpers import learned, start, stop

from gancli.evaluation.scores import estimators
from gancli.objectives.gan import warnings_about
from gancli.training.schedules import Budget


@pytest.mark.parametrize(("n", "batch", "typed"), [(5, 5, ()), (1, 2, ()), (5, 4, ("model.packing=2",))])
def test_data_smaller_than_a_batch_train_with_a_smaller_one_and_resume(tmp_path, n, batch, typed):
    words = ("dcgan", f"data.n={n}", *typed)
    run = start(tmp_path, *words)
    assert run.config["data"]["batch_size"] == batch == run.trainer.batches.batch_size
    few = "there is 1 image" if n == 1 else "there are 5 images"
    assert run.warnings == [f"data.batch_size is {batch} instead of 8: {few}"]
    stop(run, 3)
    resumed = start(tmp_path, *words)
    assert not resumed.warnings and resumed.trainer.step == 3
    resumed.train()
    assert learned(tmp_path)["step"] == 6


@pytest.mark.parametrize(
    ("model", "typed", "right"),
    [
        *[("dcgan", f"model.width={value}", "model.width=64") for value in (0, -3, 2.5)],
        *[("dcgan", "model.z_dim=0", "model.z_dim=100"), ("r3gan", "model.blocks=0", "model.blocks=2")],
        *[("cyclegan", "model.depth=0", "model.depth=6"), ("pix2pix", "model.patch=0", "model.patch=3")],
        *[("mlp", "data.batch_size=0", "data.batch_size=64"), ("mlp", "data.batch_size=-1", "data.batch_size=64")],
        *[("mlp", "data.n=0", "data.n=10000"), ("mlp", "data.size=0", "data.size=32")],
    ],
)
def test_a_count_below_one_names_the_key_and_a_value_that_works(tmp_path, model, typed, right):
    with pytest.raises(ValueError, match=rf"{typed} is out of range.*; type {right}$"):
        start(tmp_path, model, typed)


def test_wasserstein_without_a_bound_on_d_warns_of_it(tmp_path):
    def warned(model: str, *overrides: str) -> list[str]:
        run = start(tmp_path / "-".join([model, *overrides]).replace("/", "-"), model, *overrides)
        return warnings_about(run.trainer.objective, run.config["model"])

    (warning,) = warned("dcgan", "model/loss=wasserstein")
    assert warning.endswith("type model/penalty=gp model.norm=none, or model/loss=least_squares")
    assert warned("cyclegan", "model/loss=wasserstein")[0].endswith("bounds it; type model/loss=least_squares")
    for bounded in ("model.norm=spectral", "model/penalty=clip"):
        assert warned("dcgan", "model/loss=wasserstein", bounded) == []
    assert warned("dcgan") == warned("wgan_gp") == []


def test_an_ended_run_is_continued_by_the_budget_that_ended_it():
    assert Budget(steps=100).longer(100, 800, 9.0) == "trainer.steps=200"
    assert Budget(minutes=5).longer(100, 800, 301.0) == "trainer.minutes=10"
    assert Budget(minutes=0.1).longer(100, 800, 6.1) == "trainer.minutes=0.2"
    assert Budget(kimg=0.8, minutes=5).longer(100, 800, 9.0) == "trainer.kimg=1.6"
    assert [str(Budget(steps=1)), str(Budget(minutes=1)), str(Budget(minutes=2))] == ["1 step", "1 minute", "2 minutes"]


def test_the_protocol_says_how_many_subsets_the_kernel_distance_has():
    assert "kd: 1 subset of 500;" in estimators(500, 500, [])
    assert "kd: 100 subsets of 500;" in estimators(500, 2000, [])
    assert "kd: 100 subsets of 1,000;" in estimators(10_000, 60_000, [])
