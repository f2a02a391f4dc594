"""Loggers besides the run folder's own files: metrics and grids for other programs. `trainer.log=[csv,wandb]`.

A logger of yours is a class with these methods and a yaml in configs/trainer/log/.
"""

import contextlib
import csv
import importlib
import io
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gancli.config import flatten
from gancli.runtime.files import write_text
from gancli.runtime.text import one_line

Values = dict[str, float]


class MetricLogger:
    """Base of loggers. A method that raises ends this logger and not the run."""

    def start(self, folder: Path, config: dict[str, Any], step: int) -> None:
        """Begin or resume a run at a step."""

    def rewind(self, step: int) -> None:
        """Remove what was logged after a step, which will be logged again; other programs may show both."""

    def metrics(self, step: int, values: Values) -> None:
        """Log metrics of a step; a step may have several calls."""

    def image(self, step: int, image: Image.Image) -> None:
        """Log a grid of samples."""

    def close(self) -> None:
        """Write what is left; also called for a run that stopped or failed."""


class Loggers:
    """All loggers of a run. One that fails is named once, and the run goes on without it."""

    def __init__(self, loggers: Sequence[MetricLogger], warn: Callable[[str], None]):
        self.loggers, self.active, self.warn = loggers, list[MetricLogger](), warn

    def start(self, folder: Path, config: dict[str, Any], step: int) -> None:
        """Start each logger; before, no call reaches one."""
        self.active = list(self.loggers)
        self.call("start", folder, config, step)

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of each logger."""
        for logger in list(self.active):
            try:
                getattr(logger, method)(*arguments)
            except (Exception, SystemExit) as error:
                self.active.remove(logger)
                name, reason = type(logger).__name__, one_line(f"{type(error).__name__}: {error}", 200)
                self.warn(f"the logger {name} failed, and the run goes on without it ({reason})")

    def close(self) -> None:
        """Close each logger, once."""
        self.call("close")
        self.active = []


class CSV(MetricLogger):
    """metrics.csv in the run folder: a row for each logged step, a column for each metric."""

    def start(self, folder: Path, config: dict[str, Any], step: int) -> None:
        self.file = folder / "metrics.csv"
        old = csv.DictReader(io.StringIO(self.file.read_text(encoding="utf-8")) if self.file.exists() else [])
        self.rows: list[dict[str, Any]] = list(old)
        self.columns = list(old.fieldnames or ["step"])
        self.rewind(step)

    def rewind(self, step: int) -> None:
        self.rows = [row for row in self.rows if float(row["step"]) <= step]
        self._write()

    def metrics(self, step: int, values: Values) -> None:
        row = {"step": step, **values}
        self.rows.append(row)
        if new := [key for key in row if key not in self.columns]:
            self.columns += new
            self._write()
        else:
            with self.file.open("a", encoding="utf-8", newline="") as file:
                file.write(self._lines([row]))

    def _write(self) -> None:
        write_text(self.file, self._lines([{name: name for name in self.columns}, *self.rows]))

    def _lines(self, rows: list[dict[str, Any]]) -> str:
        buffer = io.StringIO()
        csv.DictWriter(buffer, self.columns, lineterminator="\n").writerows(rows)
        return buffer.getvalue()


class TensorBoard(MetricLogger):
    """TensorBoard's files in the run folder's tensorboard/."""

    def __init__(self) -> None:
        self.module = needed("torch.utils.tensorboard", "tensorboard")

    def start(self, folder: Path, config: dict[str, Any], step: int) -> None:
        self.writer = self.module.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def metrics(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def image(self, step: int, image: Image.Image) -> None:
        self.writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WandB(MetricLogger):
    """A run of Weights & Biases, by default offline in the run folder's wandb/, for `wandb sync`.

    Args:
        mode: offline, or online, which needs an account and sends metrics, grids and the config to it.
        entity: user or team; empty for the account's default.
    """

    def __init__(self, project: str = "gan", mode: str = "offline", entity: str = ""):
        self.wandb = needed("wandb", "wandb")
        self.project, self.mode, self.entity = project, mode, entity

    def start(self, folder: Path, config: dict[str, Any], step: int) -> None:
        options = {"project": self.project, "entity": self.entity or None, "mode": self.mode, "name": folder.name}
        settings = self.wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
        identity = stored(folder / "wandb.id", lambda: secrets.token_hex(8))
        self.run = self.wandb.init(
            **options, dir=str(folder), id=identity, resume="allow", config=config, settings=settings
        )
        # Its own steps only grow, and a resumed run goes back to its checkpoint.
        self.run.define_metric("*", step_metric="step")

    def metrics(self, step: int, values: Values) -> None:
        self.run.log({"step": step, **values})

    def image(self, step: int, image: Image.Image) -> None:
        self.run.log({"step": step, "samples": self.wandb.Image(image)})

    def close(self) -> None:
        self.run.finish()


class MLflow(MetricLogger):
    """A run in an MLflow store.

    Args:
        uri: of the store; empty for MLFLOW_TRACKING_URI, or without it mlflow.db next to the run folder.
    """

    def __init__(self, experiment: str = "gan", uri: str = ""):
        self.mlflow = needed("mlflow.tracking", "mlflow")
        needed("sqlalchemy", "mlflow")
        self.experiment, self.uri = experiment, uri

    def start(self, folder: Path, config: dict[str, Any], step: int) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        store = folder.parent.absolute()
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store}/mlflow.db"
        self.client = self.mlflow.MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(self.experiment)
        place = {"artifact_location": (store / "mlflow").as_uri()} if uri.startswith("sqlite") else {}
        experiment = found.experiment_id if found else self.client.create_experiment(self.experiment, **place)

        def begin() -> str:
            return str(self.client.create_run(experiment, run_name=folder.name).info.run_id)

        self.id = stored(folder / "mlflow.id", begin)
        self.client.update_run(self.id, status="RUNNING")
        for key, value in flatten(config).items() if step == 0 else ():
            self.client.log_param(self.id, mlflow_name(key), str(value)[:500])

    def metrics(self, step: int, values: Values) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, [Metric(mlflow_name(key), value, now, step) for key, value in values.items()])

    def image(self, step: int, image: Image.Image) -> None:
        self.client.log_image(self.id, image, artifact_file=f"samples/step-{step:07d}.png")

    def close(self) -> None:
        self.client.set_terminated(self.id)


class Trackio(MetricLogger):
    """A run in Trackio's local data base, in the folder TRACKIO_DIR or its default, which `trackio show` shows."""

    def __init__(self, project: str = "gan"):
        self.trackio = needed("trackio", "trackio")
        self.project = project

    def start(self, folder: Path, config: dict[str, Any], step: int) -> None:
        name = f"{folder.name}-{stored(folder / 'trackio.id', lambda: secrets.token_hex(4))}"
        options = {"resume": "allow", "embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        with contextlib.redirect_stdout(io.StringIO()):  # which is for results
            self.run = self.trackio.init(project=self.project, name=name, config=flatten(config), **options)

    def metrics(self, step: int, values: Values) -> None:
        self.run.log(values, step=step)

    def image(self, step: int, image: Image.Image) -> None:
        self.run.log({"samples": self.trackio.Image(image)}, step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.finish()


def mlflow_name(key: str) -> str:
    """Return a key with the characters that MLflow takes: D(real) as D_real."""
    return re.sub(r"[^\w\-. /]+", "_", key).strip("_")


def needed(module: str, extra: str) -> Any:
    """Import a module of an extra; ValueError names the extra where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(
            f"trainer.log={extra} needs a package that is not installed; type pip install 'gancli[{extra}]'"
        ) from None


def stored(file: Path, new: Callable[[], str]) -> str:
    """Return the name that a run has in another program, a new one at first, so that it resumes there too."""
    if file.is_file() and (match := re.fullmatch(r"\w{1,64}", file.read_text(encoding="utf-8").strip())):
        return match[0]
    name = new()
    write_text(file, name + "\n")
    return name
