"""Log of a run while it trains: its first lines, metrics, and the warnings of the health monitor."""

import contextlib
import json
import math
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gancli.checkpoint import format as checkpoint
from gancli.config import data_title, defaults
from gancli.data.listing import skipped_lines
from gancli.inference.generator import command_for
from gancli.report.logger import RunLogger, append_row
from gancli.report.loggers import MetricLogger
from gancli.report.run_folder import resume_command
from gancli.report.run_page import write_page
from gancli.runtime.cache import remember_text
from gancli.runtime.files import TEXT_ERRORS, relative, write_text
from gancli.runtime.hardware import describe
from gancli.runtime.terminal import Progress, Terminal
from gancli.runtime.text import plural, printable, sentence, shell_join
from gancli.training.evaluation import Evaluation
from gancli.training.loop import Trainer
from gancli.training.monitor import Monitor
from gancli.training.preview import Preview


class RunLog:
    """Log of a run in its folder and on the terminal, with the health monitor's warnings."""

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        config: dict[str, Any],
        terminal: Terminal,
        loggers: Sequence[MetricLogger] = (),
    ):
        self.trainer, self.folder, self.config, self.terminal = trainer, folder, config, terminal
        self.logger = RunLogger(folder, terminal, loggers)
        self.event, self.log, self.note = self.logger.event, self.logger.log, self.logger.note
        self.flush = self.logger.flush
        self.doing = terminal.doing
        self._graphs_warned = self._page_named = False
        self.monitor = Monitor(config)

    @property
    def rows(self) -> int:
        """Number of metric rows so far."""
        return self.logger.rows

    def rewind(self, rows: int | None = None) -> None:
        """Remove what was logged after the trainer's step; the monitor starts from the rows that are left.

        Args:
            rows: number of metric rows when the state was saved; None: not known.
        """
        self.monitor = Monitor(self.config)
        for row in self.logger.rewind(self.trainer.step, rows):
            self.monitor.add(row)  # its events are in the log already
        self.logger.start_clock(self.trainer.images)

    def header(
        self,
        config: dict[str, Any],
        overrides: list[str],
        resumed: bool,
        images: int,
        changes: list[str],
        files: dict[str, str],
    ) -> None:
        """Log what is trained, on what data and on which machine.

        Args:
            changes: of the config since the run started.
            files: name and content of the data, if they are files of the user; else empty.
        """
        trainer = self.trainer
        sizes = {name: sum(p.numel() for p in parameters) for name, parameters in trainer.parameters.items()}
        self.logger.fact(
            "resumed" if resumed else "started",
            step=trainer.step,
            time=time.strftime("%Y-%m-%dT%H:%M:%S"),
            command=shell_join(["gan", "train", *overrides]),
            cwd=str(Path.cwd()),
            overrides=overrides,
            machine=describe(trainer.device),
            device=str(trainer.device),
            versions=checkpoint.versions(),
            parameters=sizes,
            use=command_for(trainer.objective.G),
            images=images,
            **({"files": files} if files else {}),
            budget=str(trainer.budget),
        )
        if self.logger.others.loggers:
            with self.doing("starting the loggers"):
                self.logger.others.start(self.folder, config, trainer.step)
        if changes:
            self.event("changed", step=trainer.step, message="; ".join(changes))
        data = printable(data_title(config["data"]["name"], config["data"].get("path")))
        names = f"{config['model']['name']} on {data}"
        millions = ", ".join(f"{name} {count / 1e6:.{2 if count > 5e4 else 4}f} M" for name, count in sizes.items())
        batch, precision = config["data"]["batch_size"], config["trainer"]["precision"]
        verb = f"resumed at step {trainer.step:,}" if resumed else "training"
        self.log(f"{verb}: {names}, {plural(images, 'image')}, batch {batch}, {trainer.budget}")
        chosen = any(word.startswith(("model=", "experiment=")) for word in overrides)
        if config["data"]["name"] == "folder" and not (chosen or resumed):
            model = defaults("data/folder")["model"]
            self.log(f"model={model} is for few images; type model=dcgan, or another of gan list models, for many")
        self.log(f"{millions} parameters; {describe(trainer.device)}, {precision}")
        if config["trainer"]["compile"] and not trainer.compiled:
            self.log(
                "trainer.compile: this penalty or objective differentiates a gradient, so its networks run eagerly"
            )

    def protocol(self, evaluation: Evaluation) -> None:
        """Log which metrics follow which protocol, for the page and the leaderboard."""
        if evaluation.protocol:
            step = self.trainer.step
            self.logger.fact("protocol", step=step, metrics=evaluation.names, protocol=evaluation.protocol)

    def real_images(self, preview: Preview) -> None:
        """Write samples/real.png, and log what the columns of the grids are, for the page."""
        if real := preview.real_grid():
            self.logger.real_images(real)
        layout = {"columns": preview.columns, "parts": preview.parts, "class_names": preview.class_names}
        self.logger.fact("grids", step=self.trainer.step, **layout)

    def warnings(self, warnings: list[str], skipped: list[tuple[str, str]]) -> None:
        """Log warnings, and how many files were skipped for which reasons."""
        for line in [*(f"warning: {warning}" for warning in warnings), *skipped_lines(skipped)]:
            self.log(line)

    def page(self) -> None:
        """Write the page of a run that is about to train, and log once where it is."""
        self.logger.page(now=True)
        if not self._page_named:
            self._page_named = True
            self.log(f"open {relative(self.folder / 'index.html')} to watch it train")

    def start(self, seconds_left: float = 0.0) -> None:
        """Show from now on how far the trainer is; seconds_left: forecast, 0: none."""
        trainer, budget = self.trainer, self.trainer.budget
        steps = 0 if budget.kimg or budget.minutes else budget.steps or 0
        self.logger.start_clock(trainer.images)
        self.terminal.track(lambda: Progress(trainer.step, steps, trainer.images, trainer.progress), seconds_left)

    def first_step(self) -> None:
        """Show the terms of the first step of this session: until the first row there may be minutes."""
        self.logger.first_step(self.trainer.step, self.trainer.images, self.trainer.mean_terms())

    def progress(self) -> None:
        """Log the mean of every term since the last call."""
        trainer = self.trainer
        if trainer.graphs and trainer.graphs.failure and not self._graphs_warned:
            self._graphs_warned = True
            self.log(f"warning: no CUDA graphs: {trainer.graphs.failure}")
        rate = float(next(iter(trainer.optimizers.values())).param_groups[0]["lr"])
        values = {**trainer.read_terms(), "lr": rate}
        row = self.logger.progress(trainer.step, trainer.images, trainer.seconds, values)
        self._watch(row)
        self.logger.page()

    def metrics(self, values: dict[str, float]) -> None:
        """Log metrics of this step, without those that are not finite."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._watch(self.logger.metrics(self.trainer.step, finite))

    def grid(self, image: Any) -> None:
        """Write a grid of samples."""
        self.logger.grid(self.trainer.step, image)

    def finish(self, message: dict[str, str]) -> None:
        """Write the history of samples, the page and, when all is on the disk, the event that says so."""
        self.logger.finish(self.trainer.step, self.trainer.seconds / 60, message)

    def stopped(self, reason: str) -> None:
        """Log that the run stopped on request, after saving."""
        step = self.trainer.step
        self.event("stopped", step=step, message=f"{reason} at step {step:,}, saved")
        self.note(f"to resume, type {resume_command(self.folder)}")
        self.logger.page(now=True)

    def close(self) -> None:
        self.logger.close()

    def _watch(self, row: dict[str, Any]) -> None:
        """Log the warnings that a row begins or ends."""
        for event in self.monitor.add(row):
            self.event(event.type, step=event.step, finding=event.finding, message=event.message)


class NoLog:
    """Log of a process that is not the first: accepts every call and writes nothing."""

    rows = 0

    def doing(self, task: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **values: None


class NonFinite(ValueError):
    """A run has ended with a value that is not finite, and would again."""


class _Dumper(yaml.SafeDumper):
    """YAML in which every text is read back as it was: characters that cannot be printed are escaped."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def save_config(config: dict[str, Any], folder: Path, overrides: list[str]) -> None:
    """Write config.yaml. Hydra has resolved the config: ${...} in it is a name.

    Config and words are remembered as this user's first, so that a kill leaves no run that is taken for another's.
    """
    text = yaml.dump(config, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
    remember_text(json.dumps(overrides))
    remember_text(text)
    write_text(folder / "config.yaml", text, durable=True)


def record_failure(folder: Path, error: Exception, overrides: list[str]) -> None:
    """Write the traceback to the run's log.txt, and the message to metrics.jsonl, its page and so the leaderboard."""
    resumable = not isinstance(error, NonFinite)
    with contextlib.suppress(OSError):
        with (folder / "log.txt").open("a", encoding="utf-8", errors=TEXT_ERRORS) as file:
            traceback.print_exception(error, file=file)
            if resumable and any((folder / "checkpoints").glob("last.*")):
                file.write(f"to resume, type {resume_command(folder)}\n")
        reason = {"message": sentence(error), "overrides": overrides, "resumable": resumable}
        append_row(folder, {"event": "failed", **reason})
        remember_text(json.dumps(overrides))
    if (folder / "index.html").exists():
        with contextlib.suppress(Exception):  # the failure itself is what must be raised
            write_page(folder)
