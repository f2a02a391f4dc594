"""One run of gan train: start or resume, train, recover, finish."""

import io
import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gancli.config import build
from gancli.data.contents import contents, difference, digests, name_and_content
from gancli.metrics.terms import higher_is_better
from gancli.report.run_folder import read_run, resume_command
from gancli.runtime import ranks
from gancli.runtime.hardware import within_free_memory
from gancli.runtime.signals import Stopped, StopRequest
from gancli.runtime.terminal import Terminal
from gancli.runtime.text import plural
from gancli.training import few_images, resume, setup
from gancli.training.checkpoint_manager import CheckpointManager
from gancli.training.config_diff import CONTENT, allowed_changes
from gancli.training.distributed import choose_device, send_state
from gancli.training.evaluation import Best, Evaluation, reference_images
from gancli.training.preflight import check_untried, forecast, is_long, more_parts, preflight
from gancli.training.preview import Preview
from gancli.training.run_log import NoLog, NonFinite, RunLog, save_config

TASKS = {"evaluate": "evaluating", "log": "writing the page", "sample": "sampling", "save": "saving"}  # as shown


class TrainingRun:
    """A training with its run folder. Building one loads the data and, in a folder with checkpoints, the newest state.

    Attributes:
        config: resolved, as it is saved.
        options: config.trainer.
        resumed: checkpoint that the run continues from, or None.
        changes: of the config since that checkpoint.
        finished: the budget was used before this session.
        began: a step of this session may have been trained, and there is a checkpoint to resume from.
    """

    def __init__(self, cfg: DictConfig, folder: Path, overrides: list[str], terminal: Terminal | None = None):
        device = choose_device(cfg.device)
        setup.check_options(cfg.trainer)
        setup.check_counts(cfg)
        self.folder, self.overrides, self.options = folder, overrides, cfg.trainer
        self.terminal = terminal or Terminal(quiet=True)
        self.checkpoints = CheckpointManager(
            *(folder / "checkpoints", self.options.checkpoint_every, self.options.checkpoint_minutes),
            *(self.options.keep_every, self.options.keep_last),
        )
        self.resumed = resume.newest(self.checkpoints.folder, device)
        self.loggers = setup.build_loggers(cfg.trainer) if ranks.is_first() else []
        before = self.resumed.content["config"] if self.resumed else None
        with self.terminal.doing(f"loading data={cfg.data.name}"):
            self.data = setup.load_data(cfg, folder, before)
        smaller_batch = setup.complete_config(cfg, self.data, folder)
        few_images.augment_few(cfg, self.data, overrides, before)
        self.contents = contents(self.data, cfg.data)
        self.changes = self._compare_config(cfg)
        with within_free_memory():
            objective = setup.build_objective(cfg, self.data)
        self.options.precision = setup.choose_precision(cfg, objective, device)
        self.config: Any = OmegaConf.to_container(cfg, resolve=True)
        self.trainer, self.warnings = setup.build_trainer(cfg, objective, self.data, device)
        self.warnings += [smaller_batch] if smaller_batch and not self.resumed else []
        if self.resumed:
            self.warnings += [self.resumed.warning] if self.resumed.warning else []
            resume.load_trainer(self.trainer, self.resumed.content, self.changes, folder)
        elif self.options.start and ranks.is_first():
            self.warnings += resume.start_from(
                self.trainer, self.options.start, self.data.class_names, CONTENT in cfg.resume.allow
            )
        send_state(self.trainer)
        self.preview = Preview(objective, self.data, cfg.model.classes, self.options.sample_rows, cfg.seed, device)
        self._prepare_evaluation(build(cfg.model.quick_metrics))
        self.finished = self.trainer.progress >= 1 or self.no_longer_improves
        self.saved_step = self.trainer.step if self.resumed else None
        self.began = False
        self.log: Any = NoLog()
        self._restore_done(self.resumed.content if self.resumed else {})

    def _restore_done(self, content: dict[str, Any]) -> None:
        """Set the step at which each task was last done, by a checkpoint."""
        done = ranks.from_first({**content.get("done", {}), "save": content.get("step", 0)})
        self.done_at = {name: done.get(name, 0) for name in self.tasks}

    def _compare_config(self, cfg: DictConfig) -> list[str]:
        """Return the allowed changes since the run started, whose precision stays on another processor."""
        if not self.resumed:
            return []
        before = self.resumed.content["config"]
        if cfg.trainer.precision == "auto":
            cfg.trainer.precision = before["trainer"]["precision"]
        typed = [word.partition("=")[0].lstrip("+~") for word in self.overrides]
        old = self.resumed.content.get("data")  # older versions did not store it
        content = difference(old, self.contents) if old else None
        return allowed_changes(before, cfg, self.folder, typed, content)

    def _prepare_evaluation(self, quick_metrics: Any) -> None:
        """Set up quick metrics and, for evaluations, their real images and the best so far."""
        self.quick_metrics, self.score = quick_metrics, math.nan
        self.metric = quick_metrics.headline
        self.lower_is_better = not higher_is_better(self.metric)
        self.evaluation: Evaluation | None = None
        self.best: Best | None = None
        self._evaluation_seconds = 0.0
        self._start_seconds = self.trainer.seconds
        if not ranks.is_first():
            return
        self.reference = reference_images(self.data)
        self.gap = few_images.watch(self.trainer.objective, self.data, self.config, self.trainer.device)
        if self.options.evaluate_every:
            n, metrics = self.options.evaluate_n, list(self.options.evaluate_metrics)
            with self.terminal.doing(f"computing features of {n:,} real images"):
                self.evaluation = Evaluation(
                    *(quick_metrics, self.trainer.ema.network, self.data, self.reference),
                    *(self.config["data"], n, metrics, self.trainer.device),
                    content=digests(self.contents),
                )
            self.warnings += [self.evaluation.warning] if self.evaluation.warning else []
            self.metric, self.lower_is_better = self.evaluation.metric, self.evaluation.lower_is_better
            self.best = Best(self.metric, n, self.lower_is_better)
            if self.resumed:
                self.best.load_state_dict(self.resumed.content.get("best") or {})

    # --- training

    def train(self) -> float | None:
        """Train until the budget is used. Return the run's score for a sweeper, which minimises it."""
        if self.finished and ranks.from_first(read_run(self.folder).status == "finished"):
            return self._already_finished()
        trainer = self.trainer
        self._open_log()
        seconds_left = 0.0 if self.finished else self._preflight()
        with StopRequest() as stop, closing(self.log):
            if not self.resumed:
                self.sample(with_metrics=trainer.progress >= 1)  # those of an untrained network say nothing
                self.save()
            self.log.page()  # with the first samples
            self.began = True
            first = trainer.step + 1
            self.log.start(seconds_left)
            for step in () if self.finished else trainer.steps():
                signum = ranks.largest(stop.signum or 0)
                due = [name for name in self.tasks if self._is_due(name, step) or (name == "save" and signum)]
                if (due or trainer.progress >= 1) and (part := self.non_finite()):
                    self.recover(part)
                    continue
                if step == first and "log" not in due and trainer.progress < 1:
                    self.log.first_step()
                if trainer.progress >= 1 and not signum:
                    break  # all tasks are due, and one checkpoint holds their results
                self._do(due)
                if signum:
                    self._stop(signum)
                if "evaluate" in due and self.no_longer_improves:
                    break
            if part := self.non_finite():  # after a rollback whose minutes are over
                raise self._failure(part)
            self._finish()
        score = self.score
        if ranks.is_first() and math.isnan(score):  # an earlier session has computed it
            score = value if (value := read_run(self.folder).latest(self.metric)) is not None else score
        return score if self.lower_is_better else -score

    def _finish(self) -> None:
        """Do what is missing of the tasks of the last step, save, and then write what says that the run is finished.

        A killed process leaves a checkpoint that says which tasks are done, so that the next one does the others.
        """
        trainer, saved_seconds = self.trainer, self.checkpoints.saved_seconds
        missing = [name for name in self.tasks if name != "save" and self.done_at[name] < trainer.step]
        more_minutes = bool(trainer.budget.minutes) and saved_seconds < trainer.seconds
        is_saved = self.done_at["save"] == trainer.step and not missing and not more_minutes
        self._do([*missing, *([] if is_saved else ["save"])])
        with self.log.doing("writing the checkpoint and the page"):
            self.checkpoints.wait()
            self.log.finish(self.best.ending(trainer.progress) if self.best else {})

    @property
    def tasks(self) -> dict[str, Callable[[], None]]:
        """Tasks of every so many steps, in this order: later ones log and save the results of earlier ones."""
        evaluate = {"evaluate": self.evaluate} if self.options.evaluate_every else {}
        return {**evaluate, "log": self.log_progress, "sample": self.sample, "save": self.save}

    def _is_due(self, task: str, step: int) -> bool:
        if task == "save":
            return self.checkpoints.is_due(step, self.trainer.seconds)
        return step % self.options[f"{task}_every"] == 0

    def _do(self, names: list[str]) -> None:
        for name in names:
            with self.log.doing(TASKS[name]):
                self.tasks[name]()
            self.done_at[name] = self.trainer.step
        if "evaluate" in names and "save" not in names and self._is_best():
            self._do(["save"])

    def _is_best(self) -> bool:
        """Return whether the evaluation of this step is the best so far, on all processes."""
        return ranks.from_first(bool(self.best and self.best.step == self.trainer.step))

    @property
    def no_longer_improves(self) -> bool:
        """True after evaluate_patience evaluations without an improvement, on all processes."""
        patience = self.options.evaluate_patience
        return bool(patience) and ranks.from_first(bool(self.best and self.best.since >= patience))

    def _open_log(self) -> None:
        trainer = self.trainer
        if ranks.is_first():
            save_config(self.config, self.folder, self.overrides)
            content = self.resumed.content if self.resumed else {}
            self.log = RunLog(self.folder, trainer, self.config, self.terminal, self.loggers)
            self.log.rewind(content.get("rows"))
            self.checkpoints.clean(self.resumed.path if self.resumed else None, content)
        self.checkpoints.saved_seconds, self.checkpoints.log = trainer.seconds, self.log.note
        self.log.header(
            *(self.config, self.overrides, bool(self.resumed), len(self.data), self.changes),
            name_and_content(self.config["data"], self.contents),
        )
        if self.evaluation:
            self.log.protocol(self.evaluation)
        self.log.real_images(self.preview)
        for note in self.data.notes:
            self.log.log(note)
        self.log.warnings(
            self.warnings + self.data.warnings + setup.warnings_about(trainer.objective, self.config["model"]),
            self.data.skipped,
        )

    def _preflight(self) -> float:
        """Try everything that a long run will do, log its costs and return its seconds; ValueError if it cannot work.

        A short run, or one of several processes, is not tried: 0 seconds.
        """
        wanted = is_long(self.trainer) if self.options.preflight == "auto" else self.options.preflight
        if ranks.world_size() > 1 or not wanted:
            if ranks.is_first():
                check_untried(self.trainer, self.options, self.preview.shape, self.folder)
            return 0.0
        self.log.page()  # the trial may take long
        with self.log.doing("trying one step of each phase"):
            trial = preflight(self.trainer, self.try_sample, self.try_save)
        start = time.perf_counter()
        if self.evaluation:
            with self.log.doing("trying an evaluation"):
                self.evaluation(self.trainer.ema.network)
        seconds = time.perf_counter() - start
        values = forecast(trial, self.options, self.trainer.seconds / 60, seconds, self.folder)
        self.log.event("preflight", step=self.trainer.step, **values)
        return 60 * float(values["minutes"])

    def try_sample(self) -> int:
        """Compute a grid and its metrics and drop them; return the bytes of the grid's file."""
        file = io.BytesIO()
        with self.log.doing("trying a grid of samples"):
            self.preview.grid(self.trainer.ema.network).save(file, "PNG")
            self._quick_metrics()
        return len(file.getvalue())

    def try_save(self) -> int:
        """Write a checkpoint and remove it; return its bytes."""
        with self.log.doing("trying to write a checkpoint"):
            return self.checkpoints.try_save(self.checkpoint_content())

    def _already_finished(self) -> float | None:
        """Print that there is nothing to do; return the score that the run ended with."""
        if not ranks.is_first():
            return None
        trainer = self.trainer
        more = "it no longer improved; to go on all the same, type", "trainer.evaluate_patience=0"
        if trainer.progress >= 1:
            longer = trainer.budget.longer(trainer.step, trainer.images, trainer.seconds)
            more = "to train longer, type", longer
        command = f"{more[0]} {resume_command(self.folder)} {more[1]}"
        self.terminal.say(f"{self.folder} is finished ({plural(trainer.step, 'step')}); {command}")
        score = read_run(self.folder).latest(self.metric)
        return score if score is None or self.lower_is_better else -score

    def _stop(self, signum: int) -> None:
        self.checkpoints.wait()
        reason = Stopped(signum)
        self.log.stopped(str(reason))
        ranks.largest(0)  # a process that ends first would end the others, and the first may still be writing
        raise reason

    # --- tasks

    def evaluate(self) -> None:
        """Log the scores of the averaged G; where they are the best so far, the run is saved."""
        if not self.evaluation or not self.best:  # the first process does it
            return
        step, start = self.trainer.step, time.perf_counter()
        values = self.evaluation(self.trainer.ema.network)
        self.score = values[self.metric]
        self.best.add(self.score, step)
        seconds = time.perf_counter() - start
        self._evaluation_seconds += seconds
        fraction = self._evaluation_seconds / max(self.trainer.seconds - self._start_seconds, 1e-9)
        best = f", best {self.best.value:.4g} at {self.best.step:,}" if self.best.step < step else ""
        rest = f"{best} ({seconds:.1f} s, {fraction:.1%} of the time)"
        self.log.metrics({**values, "evaluate_seconds": seconds})
        self.log.log(f"step {step:,}  {self.metric} {self.score:.4g}{rest}")

    def log_progress(self) -> None:
        self.log.progress()

    def sample(self, with_metrics: bool = True) -> None:
        """Write a grid of the averaged G's images, and log its quick metrics."""
        if not ranks.is_first():
            return
        self.log.grid(self.preview.grid(self.trainer.ema.network))
        if with_metrics:
            values = self._quick_metrics()
            if not self.evaluation:
                self.score = values[self.metric]
            self.log.metrics(values)

    @torch.no_grad()
    def _quick_metrics(self) -> dict[str, float]:
        G = self.trainer.ema.network
        return {**self.quick_metrics.metrics(G, self.reference, self.config["seed"]), **self.gap(G)}

    def save(self) -> None:
        """Save the last checkpoint, and now and then a numbered one."""
        trainer = self.trainer
        if ranks.is_first():
            self.log.flush()
            self.checkpoints.save(self.checkpoint_content(), trainer.step, trainer.seconds)
        else:
            self.checkpoints.saved_seconds = trainer.seconds
        self.saved_step = trainer.step

    def checkpoint_content(self) -> dict[str, Any]:
        state = self.trainer.state_dict()
        model = self.config["model"]
        networks = {name: {"config": model[name], "state": network} for name, network in state["networks"].items()}
        best = {"best": self.best.state_dict()} if self.best else {}
        output = setup.output_of(self.data)
        described = {"config": self.config, "output": output, "data": self.contents}
        done = {name: step for name, step in self.done_at.items() if name != "save"}
        return {**state, **best, "networks": networks, "done": done, "rows": self.log.rows, **described}

    # --- failures

    def non_finite(self) -> str:
        """Return what is not finite on the first process, which saves, or an empty string."""
        return ranks.from_first(self.trainer.non_finite())

    def recover(self, part: str) -> None:
        """Go back to the last checkpoint at half the learning rate, or raise ValueError.

        Non-finite states are never saved, so the last checkpoint is good.
        """
        trainer, rollbacks = self.trainer, self.options.rollbacks
        if self.options.on_nan == "stop" or trainer.rollbacks == rollbacks:
            raise self._failure(part)
        problem = f"at step {trainer.step:,} {part} is not a finite number"
        content = self._last_checkpoint()
        trainer.rollback(resume.trainer_state(content))
        if self.best:
            self.best.load_state_dict(content.get("best") or {})
        self._restore_done(content)
        self.log.rewind(content.get("rows"))
        back = f"back to step {trainer.step:,} at half the learning rate ({trainer.rollbacks} of {rollbacks})"
        self.log.event("rollback", step=trainer.step, message=f"{problem}; {back}")

    def _failure(self, part: str) -> ValueError:
        rollbacks, step = self.trainer.rollbacks, self._last_checkpoint()["step"]
        tried = f" after {rollbacks} rollbacks" if rollbacks else ""
        return NonFinite(
            f"at step {self.trainer.step:,} {part} is not a finite number{tried}; the last checkpoint, of step "
            f"{step:,}, is good: in another run.dir type a lower model.lr=, trainer.clip=1, model/penalty=r1 or "
            f"trainer.on_nan=rollback"
        )

    def _last_checkpoint(self) -> dict[str, Any]:
        self.checkpoints.wait()
        newest = resume.newest(self.checkpoints.folder, self.trainer.device)
        return ranks.from_first(newest.content if newest else {})

    def out_of_memory(self) -> str:
        """Return the message of a run whose batch no longer fits into memory: what is saved, and what to type."""
        self.checkpoints.wait()
        batch, step = self.config["data"]["batch_size"], self.saved_step
        saved = "nothing is saved" if step is None else f"the checkpoint of step {step:,} is safe"
        parts = more_parts(self.trainer)
        smaller = f"trainer.accumulate={parts}" if parts else f"data.batch_size={max(batch // 2, 1)}"
        advice = f"type {smaller}"
        if step is not None:
            allow = f"resume.allow={smaller.partition('=')[0]}"
            advice = f"to resume in less memory, type {resume_command(self.folder)} {smaller} {allow}"
        return f"out of memory at step {self.trainer.step:,} with data.batch_size={batch}; {saved}; {advice}"
