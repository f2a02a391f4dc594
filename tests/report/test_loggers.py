"""Loggers: metrics and grids for other programs, which never end a run."""

import csv
import importlib
import sys
from pathlib import Path

import pytest
from helpers import TINY, rows_of, start

from gancli.cli.known import chosen, train_keys
from gancli.report import loggers


class Dying(loggers.MetricLogger):
    """Logger that fails from its second call on."""

    calls = 0

    def metrics(self, step: int, values: loggers.Values) -> None:
        Dying.calls += 1
        if Dying.calls > 1:
            sys.exit("the server is gone")


class NeverStarting(loggers.MetricLogger):
    def start(self, folder: Path, config: dict, step: int) -> None:
        raise OSError("no route to host")

    def image(self, step: int, image: object) -> None:
        pytest.fail("it was not started")


def test_a_logger_that_dies_warns_once_and_the_run_goes_on(tmp_path):
    run = start(tmp_path / "run", "mlp")
    run.loggers = [NeverStarting(), Dying(), loggers.CSV()]
    run.train()
    messages = [row["message"] for row in rows_of(tmp_path / "run") if row.get("event") == "warning"]
    assert len([m for m in messages if "the logger NeverStarting failed" in m and "no route to host" in m]) == 1
    assert len([m for m in messages if "the logger Dying failed" in m and "the server is gone" in m]) == 1
    assert rows_of(tmp_path / "run")[-1]["event"] == "finished" and Dying.calls == 2
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        table = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    assert table == [pytest.approx(row, abs=1e-5) for row in rows_of(tmp_path / "run") if "event" not in row]


def test_csv_has_a_row_for_each_logged_one_and_a_resumed_run_goes_back(tmp_path):
    for step, rows in ((0, [(2, {"lr": 0.5}), (4, {"lr": 0.25, "D(real)": 1.0})]), (2, [(3, {"D(real)": 2.0})])):
        logger = loggers.CSV()
        logger.start(tmp_path, {}, step)
        for row in rows:
            logger.metrics(*row)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "lr", "D(real)"], ["2", "0.5", ""], ["3", "", "2.0"]]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_logger_without_its_package_names_the_extra(gan, tmp_path, monkeypatch, name):
    module = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow.tracking"}.get(name, name)
    monkeypatch.setitem(sys.modules, module, None)
    code, _, error = gan("train", *TINY, f"trainer.log=[csv,{name}]", "run.dir=run")
    assert code == 1 and f"pip install 'gancli[{name}]'" in error and not (tmp_path / "run").exists()


def test_loggers_are_chosen_by_name_and_have_keys(gan):
    assert gan("list", "loggers")[1].count("\n") == 5
    assert "there is no trainer/log 'wand'; did you mean wandb?" in gan("train", "trainer.log=[csv,wand]")[2]
    words = ["trainer.log=[csv,wandb]", "trainer.log.wandb.project=mine"]
    out = gan("train", *words, "--cfg", "job", "-p", "trainer.log")[1]
    assert "csv:" in out and "project: mine" in out
    assert "trainer.log.wandb.mode=offline" in gan("train", "trainer.log=[wandb]", "--help")[1]
    assert "type trainer.log=[tensorboard]" in gan("train", "trainer.tensorboard=true")[2]
    assert "trainer.log.mlflow.uri" in train_keys(chosen(["trainer/log=mlflow"]))
    assert gan("train", "trainer.log=[]", "--cfg", "job", "-p", "trainer.log")[1].endswith("{}\n")


@pytest.mark.slow
def test_tensorboard_wandb_offline_and_a_local_mlflow_store_hold_metrics_and_grids(gan, tmp_path, monkeypatch):
    for module in ("tensorboard", "wandb", "mlflow", "sqlalchemy"):
        pytest.importorskip(module)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    words = [*TINY, "model=mlp", "run.dir=runs/a", "trainer.log=[tensorboard,wandb,mlflow]"]
    code, _, error = gan("train", *words, "trainer.steps=2")
    assert code == 0 and "warning: the logger" not in error, error
    code, _, error = gan("train", "resume=runs/a", "trainer.steps=4")
    assert code == 0 and "warning: the logger" not in error, error

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "runs" / "a" / "tensorboard")).Reload()
    assert {"D/adversarial", "lr"} <= set(events.Tags()["scalars"]) and events.Tags()["images"] == ["samples"]
    assert [event.step for event in events.Scalars("lr")] == [2, 4]
    offline = list((tmp_path / "runs" / "a" / "wandb").glob("offline-run-*"))
    assert len({folder.name.rpartition("-")[2] for folder in offline}) == 1 and len(offline) == 2
    assert all(list(folder.glob("*.wandb")) and list(folder.rglob("samples*.png")) for folder in offline)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("gan").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["model.name"] == "mlp"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "lr")] == [2, 4]
    assert list((tmp_path / "runs" / "mlflow").rglob("step-*.png"))


@pytest.mark.slow
def test_a_local_trackio_store_holds_metrics_and_grids(gan, tmp_path, monkeypatch):
    """Its package wants an older Pillow than gan is tried with, so that it is no part of the extra dev."""
    pytest.importorskip("trackio")
    storage = importlib.import_module("trackio.sqlite_storage")
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "trackio"]:
        for name, folder in (("TRACKIO_DIR", tmp_path / "store"), ("MEDIA_DIR", tmp_path / "store" / "media")):
            if hasattr(module, name):  # read from the environment when it is imported
                monkeypatch.setattr(module, name, folder)
    words = [*TINY, "model=mlp", "run.dir=runs/a", "trainer.log=[trackio]"]
    for more in ([*words, "trainer.steps=2"], ["resume=runs/a", "trainer.steps=4"]):
        code, out, error = gan("train", *more)
        assert code == 0 and "warning: the logger" not in error and out.count("\n") == 1, out + error
    (run,) = storage.SQLiteStorage.get_runs("gan")
    rows = storage.SQLiteStorage.get_logs("gan", run)
    assert [row["step"] for row in rows if "lr" in row] == [2, 4]
    assert len(list((tmp_path / "store" / "media").rglob("*.png"))) >= 3
