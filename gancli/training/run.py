"""gan train: from a config to a run folder."""

import contextlib
import io
import math
import shlex
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from gancli import images
from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import generator_weights
from gancli.config import build
from gancli.data.classes import one_hot
from gancli.data.crops import ImageCrops
from gancli.data.dataset import ImageDataset
from gancli.data.loader import BatchLoader
from gancli.data.pairs import two_classes
from gancli.inference.generator import command_for, noise
from gancli.objectives.gan import warnings_about
from gancli.report.logger import RunLogger, append_row
from gancli.report.run_folder import read_run
from gancli.runtime import ranks
from gancli.runtime.determinism import deterministic
from gancli.runtime.hardware import describe, is_out_of_memory, multiplies_bf16
from gancli.runtime.locks import RunBusy, RunLock
from gancli.runtime.seeding import derive_seed
from gancli.runtime.signals import Stopped, StopRequest
from gancli.runtime.text import one_line
from gancli.training import Budget, Trainer
from gancli.training.checkpoint_manager import CheckpointManager
from gancli.training.config_diff import allowed
from gancli.training.cuda_graphs import CudaGraphs, unrecordable
from gancli.training.distributed import choose_device, share_state
from gancli.training.ema import EMA
from gancli.training.evaluation import Best, Evaluation
from gancli.training.monitor import Monitor
from gancli.training.preflight import is_long, preflight

COMPARED = 1000  # real images that a objective's measures look at
POINTS = 1024  # in a scatter plot
AHEAD = 512  # batches whose numbers are brought to a GPU together: a megabyte or two


def main(cfg: DictConfig, jobs: int | None = None) -> float | None:
    """One job, alone or one of `jobs`. Gives a sweeper what to minimise: the last sliced_wasserstein, say."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    swept = hydra.mode == RunMode.MULTIRUN
    overrides = list(hydra.overrides.task)
    number = f"job {hydra.job.num}" + (f" (of 0 to {jobs - 1})" if jobs else "") if swept else ""
    name = f"{number}  {' '.join(overrides)}"
    run = None
    try:
        with (
            deterministic(cfg.deterministic),
            RunLock(folder) if ranks.is_first() else contextlib.nullcontext() as lock,
        ):
            run = Run(cfg, folder, overrides, quiet=swept)
            run.warnings += [lock.warning] if lock and lock.warning else []
            value = run.train()
    except BaseException as error:
        if isinstance(error, SystemExit):  # would end the whole sweep without a word
            error = RuntimeError(f"the job called sys.exit({error.code})")
        if run and is_out_of_memory(error):
            error = run.too_large(error)
        failed, busy = isinstance(error, Exception), isinstance(error, RunBusy)
        if ranks.is_first():
            if failed and not busy and (swept or run):
                leave_traces(folder, error, overrides)  # type: ignore[arg-type]
            else:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()  # Hydra made it, and nothing was begun in it
            if run and isinstance(error, Stopped) and not swept:
                print(f"gan: to go on, type {again(overrides, folder)}", file=sys.stderr)
            if swept and failed:
                print(f"{name}  {'skipped' if busy else 'failed'}: {error}", file=sys.stderr, flush=True)
        raise error
    if swept:
        print(f"{name}  {'was done' if run.finished else 'done'}: {folder}", file=sys.stderr, flush=True)
    elif ranks.is_first():
        print(folder)
    return value


def again(overrides: list[str], folder: Path) -> str:
    """The command that resumes a run."""
    return shlex.join(["gan", "train", *(o for o in overrides if not o.startswith("run.dir=")), f"run.dir={folder}"])


def leave_traces(folder: Path, error: Exception, overrides: list[str]) -> None:
    """The traceback into the job's own log, the sentence where its page and the leaderboard find it."""
    with contextlib.suppress(OSError):
        with (folder / "log.txt").open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        append_row(folder, {"event": "failed", "message": str(error), "overrides": overrides})


class Run:
    """One training: a config, what is built from it, and the folder it writes."""

    def __init__(self, cfg: DictConfig, folder: Path, overrides: list[str], quiet: bool = False):
        self.folder, self.overrides, self.quiet, self.options = folder, overrides, quiet, cfg.trainer
        self.warnings: list[str] = []
        self.told_refusal = False
        self.allowed: list[str] = []  # what of the config this run was begun with has changed
        for name in ("log_every", "sample_every", "sample_rows", "checkpoint_every"):
            if cfg.trainer[name] < 1:
                raise ValueError(
                    f"trainer.{name} counts from 1, but {cfg.trainer[name]} was given; type trainer.{name}=100"
                )
        for name in ("every", "patience"):
            if (value := cfg.trainer[f"evaluate_{name}"]) < 0:
                raise ValueError(f"trainer.evaluate_{name}={value} is not negative; type 0 for none")
        if cfg.trainer.evaluate_patience and not cfg.trainer.evaluate_every:
            raise ValueError(
                f"trainer.evaluate_patience={cfg.trainer.evaluate_patience} counts evaluations, and there are none; "
                f"type trainer.evaluate_every=500"
            )
        if cfg.trainer.on_nan not in ("stop", "rollback"):
            raise ValueError(f"trainer.on_nan={cfg.trainer.on_nan} is neither stop nor rollback; type one of them")
        if cfg.trainer.preflight not in ("auto", True, False):
            raise ValueError(f"trainer.preflight={cfg.trainer.preflight} is not auto, true or false; type one of them")
        device = choose_device(cfg.device)
        self.keeper = CheckpointManager(
            folder / "checkpoints",
            *(self.options.checkpoint_every, self.options.checkpoint_minutes),
            *(self.options.keep_every, self.options.keep_last),
        )
        found = checkpoint.newest(self.keeper.folder, device) if ranks.is_first() else None
        self.resumed = found[0] if found else None
        self.resumed_from = found[1] if found else None
        self.warnings += [found[2]] if found and found[2] else []
        self.data: ImageDataset | ImageCrops = ranks.in_turn(lambda: build(cfg.data.source))
        if "between" in cfg.model and not len(self.data.sources):
            self.data = two_classes(self.data, *cfg.model.between)
        # What only loaded data can tell (a folder's classes, say) reaches the networks by interpolation too.
        cfg.data.update(size=self.data.size, channels=self.data.channels, classes=self.data.classes)
        cfg.run.dir = str(folder)
        if "betas" in cfg.model:
            cfg.model.betas = [float(beta) for beta in cfg.model.betas]  # Adam takes no [0, 0.9]
        self.config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        if self.resumed:
            if cfg.trainer.precision == "auto":  # it was settled when the run began
                cfg.trainer.precision = self.resumed["config"]["trainer"]["precision"]
            self.allowed = allowed(self.resumed["config"], cfg, folder)
        torch.manual_seed(derive_seed(cfg.seed, "networks"))
        objective = build(cfg.model.objective)
        objective.check_data(self.data)
        self.quick_metrics = build(cfg.model.quick_metrics)
        # Settled once for all processes and sessions, whatever machines they are on.
        precision = ranks.from_first(self._precision(objective, device))
        self.config["trainer"]["precision"] = cfg.trainer.precision = precision
        batches = BatchLoader(
            *(self.data, cfg.data.batch_size, cfg.model.classes, cfg.data.flip, cfg.seed, device),
            *(ranks.rank(), ranks.world_size()),
            prefetch=AHEAD if device.type == "cuda" else 0,
        )
        optimizers = {player: build(optimizer) for player, optimizer in cfg.model.optimizers.items()}
        beta2 = build(cfg.model.beta2) if cfg.model.beta2 else None
        graphs = None
        if device.type == "cuda" and self.options.graphs:
            reason = unrecordable(cfg.model.graph_safe, optimizers.values(), beta2, ranks.world_size())
            graphs = None if reason else CudaGraphs(device)
            self.warnings += [f"rounds are played kernel by kernel: {reason}"] if reason else []
        self.trainer = Trainer(
            objective,
            batches,
            optimizers,
            Budget(self.options.steps, self.options.kimg, self.options.minutes),
            device,
            seed=cfg.seed,
            schedule=build(cfg.model.schedule),
            beta2=beta2,
            ema=lambda network: EMA(network, **self.options.ema),
            clip=self.options.clip,
            precision=self.options.precision,
            channels_last=self.options.channels_last,
            compile=self.options.compile,
            sync_bn=self.options.sync_bn,
            graphs=graphs,
            graph_safe=cfg.model.graph_safe,
        )
        if self.resumed:
            states = {player: network["state"] for player, network in self.resumed["networks"].items()}
            try:
                self.trainer.load_state_dict({**self.resumed, "networks": states})
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:  # names or shapes
                raise ValueError(
                    f"what the run in {folder} has learned does not fit {'; '.join(self.allowed) or 'this version'} "
                    f"({one_line(error, 200)}); resume without, or begin anew with trainer.start={folder}"
                ) from error
        elif self.options.start and ranks.is_first():
            self._start_from(self.options.start, device)
        share_state(self.trainer)
        self._fix_preview(cfg, device)
        self._prepare_evaluation(device)
        self.finished = self.trainer.progress >= 1 or self.is_over  # before it is asked to train
        self.saved = self.trainer.step if self.resumed else None  # the step of the last checkpoint

    def _precision(self, objective: Any, device: torch.device) -> str:
        """What trainer.precision=auto means here."""
        if self.options.precision != "auto":
            return self.options.precision
        if device.type == "cuda":
            return "tf32"  # as torch itself has convolutions; nothing else has been measured
        alike = self.config["model"]["bf16_safe"] and not objective.double_backward
        return "bf16" if device.type == "cpu" and alike and multiplies_bf16() else "fp32"

    def _start_from(self, ckpt: str, device: torch.device) -> None:
        """Begin with the averaged G, and the D if there is one, of another run's checkpoint."""
        file = checkpoint.find(ckpt)
        content, players = checkpoint.read(file, device), self.trainer.players
        states = {player: network["state"] for player, network in content["networks"].items()}
        states["G"] = generator_weights(content)
        if missing := players.keys() - states.keys():
            self.warnings.append(f"trainer.start: {file} holds no {', '.join(sorted(missing))}; G begins there alone")
        try:
            for player in players.keys() & states.keys():
                players[player].load_state_dict(states[player])
        except RuntimeError:  # names or shapes
            theirs = content["config"]["model"]["name"]
            raise ValueError(
                f"the {player} of {file}, a {theirs}, does not fit this model's; type trainer.start= of a run with the "
                f"same networks: model.width, model.scale, data.size and the like"
            ) from None
        self.trainer.ema.network.load_state_dict(states["G"])

    def _fix_preview(self, cfg: DictConfig, device: torch.device) -> None:
        """The noise, classes and real images of every grid: those of `gan sample seed=`, in class order."""
        classes, objective = cfg.model.classes, self.trainer.objective
        self.columns = classes if 1 < classes <= 16 else 8
        points = (self.data.size, self.data.channels) == (1, 2)
        self.rows = 1 if points else self.options.sample_rows
        n = POINTS if points else self.rows * self.columns
        z = noise(range(n), objective.G.z_dim, cfg.seed).to(device)
        c = one_hot(torch.arange(n, device=device) % max(classes, 1), classes)
        # From all over the data: neighbours may be crops of one photograph.
        shown = torch.arange(n) * len(self.data) // n
        x = images.to_float(self.data.take(shown)).to(device)
        if len(self.data.sources):
            c = images.to_float(self._sources(shown)).to(device)
        torch.manual_seed(derive_seed(cfg.seed, "preview"))
        self.fixed = (z, objective.condition(x, c), x)
        chosen = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(0))[:COMPARED]
        self.reference = ImageDataset(
            *(self.data.take(chosen).cpu(), self.data.labels[chosen], self.data.class_names),
            sources=self._sources(chosen).cpu(),
        )

    def _prepare_evaluation(self, device: torch.device) -> None:
        """What is evaluated of the average, where that is asked for, and the best there was."""
        options, self.evaluation, self.best = self.options, None, None
        self.told, self.spent, self.began = "", 0.0, self.trainer.seconds  # of evaluations, in this session
        if options.evaluate_every and ranks.is_first():
            data = self.config["data"]
            name = " ".join(str(part) for part in (data["name"], data.get("path")) if part)
            self.evaluation = Evaluation(
                self.quick_metrics,
                self.trainer.ema.network,
                self.data,
                self.reference,
                name,
                data.get("split", "none"),
                options.evaluate_n,
                list(options.evaluate_metrics),
                device,
            )
            self.warnings += [self.evaluation.remark] if self.evaluation.remark else []
            self.best = Best(self.evaluation.figure, options.evaluate_n, self.evaluation.lower_is_better)
            if self.resumed:
                self.best.load_state_dict(self.resumed.get("best") or {})

    @property
    def is_over(self) -> bool:
        """Whether so many evaluations have been no better that the run ends."""
        patience = self.options.evaluate_patience
        return ranks.from_first(bool(patience and self.best and self.best.since >= patience)) if patience else False

    def _sources(self, entries: torch.Tensor) -> torch.Tensor:
        """What belongs to these images of the data, or lies as far along in a set of another length; or nothing."""
        n = len(self.data.sources)
        return self.data.sources[entries * n // len(self.data)] if n else self.data.sources

    def train(self) -> float | None:
        """Play the rounds that are left; log, picture and save as they come due."""
        trainer, options = self.trainer, self.options
        if self.finished:
            if not ranks.is_first():
                return None
            self.keeper.clean(self.resumed_from)  # it may have been killed in its very last save
            if not self.quiet:
                more = f"for more, raise the budget, as in trainer.steps={2 * trainer.step}"
                if trainer.progress < 1:
                    more = "it got no better; to go on all the same, type trainer.evaluate_patience=0"
                print(f"{self.folder} is finished ({trainer.step:,} steps); {more}", file=sys.stderr)
            before = read_run(self.folder)
            if before.status != "finished":  # it was tried with another config since, say
                append_row(self.folder, {"event": "finished", "step": trainer.step, "minutes": trainer.seconds / 60})
            score = before.latest(self.headline)
            return score if score is None or self.lower_is_better else -score
        self.record: Any = Silence()
        if ranks.is_first():
            OmegaConf.save(OmegaConf.create(self.config), self.folder / "config.yaml")
            self.record = RunLogger(self.folder, trainer.step, trainer.progress, self.quiet, options.tensorboard)
            self.rewind()
            self.keeper.clean(self.resumed_from)
        self.keeper.seconds, self.keeper.log = trainer.seconds, self.record.note
        self.introduce()
        self.try_first()
        logged = pictured = evaluated = trainer.step
        with StopRequest() as stop, contextlib.closing(self.record):
            if not self.resumed:
                self.picture(measured=trainer.progress >= 1)  # an untrained one says nothing
                self.save()
            for step in trainer.rounds():
                signum = ranks.largest(stop.signum or 0)
                due = [step % options[f"{what}_every"] == 0 for what in ("log", "sample")]
                due.append(self.keeper.due(step, trainer.seconds))
                due.append(bool(options.evaluate_every) and step % options.evaluate_every == 0)
                if (any(due) or signum or trainer.progress >= 1) and (what := self.broken()):
                    self.mend(what)
                    logged = pictured = evaluated = trainer.step
                    continue
                if due[3]:  # before the others, which tell it, and save it
                    evaluated = self.evaluate()
                if due[0]:
                    logged = self.log()
                if due[1]:
                    pictured = self.picture()
                if due[2] or signum:
                    self.save()
                if signum:
                    self.keeper.wait()
                    reason = Stopped(signum)
                    self.record.event("stopped", step=step, message=f"{reason} at step {step:,}, saved")
                    self.record.page(now=True)
                    ranks.largest(0)  # who ends first would end the others, and the first may still be writing
                    raise reason
                if due[3] and self.is_over:
                    break
            if what := self.broken():  # its minutes were over since
                self.mend(what, again=False)
            if options.evaluate_every and evaluated < trainer.step:
                self.evaluate()
            if logged < trainer.step:
                self.log()
            if pictured < trainer.step:
                self.picture()
            self.save()  # also where this step was saved already: its minutes may have run out since
            self.keeper.wait()
            self.record.history(self.rows)
            self.record.event("finished", step=trainer.step, minutes=trainer.seconds / 60, **self.ending())
            self.record.page(now=True)
        return self.score if self.lower_is_better else -self.score

    def ending(self) -> dict[str, str]:
        """Why a run is over before its budget is; and which of its checkpoints is the best."""
        if not self.best or not self.best.step:
            return {}
        best = f"best {self.best.figure} {self.best.value:.4g} at step {self.best.step:,}, checkpoints/best.safetensors"
        patience = f"no better in {self.best.since} evaluations; " if self.trainer.progress < 1 else ""
        return {"message": patience + best}

    @property
    def headline(self) -> str:
        """The figure that a sweeper is given."""
        return self.best.figure if self.best else self.quick_metrics.headline

    @property
    def lower_is_better(self) -> bool:
        return self.best.lower_is_better if self.best else self.quick_metrics.lower_is_better

    def evaluate(self) -> int:
        """The scores into metrics.jsonl, and best.safetensors where they are the best so far."""
        step = self.trainer.step
        if not self.evaluation or not self.best:  # another process does it
            self.score = math.nan
            return step
        begun = time.perf_counter()
        values = self.evaluation(self.trainer.ema.network)
        self.score = values[self.best.figure]
        if self.best.add(self.score, step):
            self.keeper.save_best(self.content)
        took = time.perf_counter() - begun
        self.spent += took
        share = self.spent / max(self.trainer.seconds - self.began, 1e-9)
        best = f", best {self.best.value:.4g} at {self.best.step:,}" if self.best.step < step else ""
        told = f"{self.best.figure} {self.score:.4g}{{at}}{best} ({took:.1f} s, {share:.1%} of the time)"
        self.told = told.format(at=f" at {step:,}")
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.watch(self.record.metrics(step, {**finite, "evaluate_seconds": took}))
        self.record.note(f"step {step:,}  {told.format(at='')}")
        return step

    def try_first(self) -> None:
        """Try all that a long run will do; what it will take goes into the log. ValueError where it will not do."""
        trainer, options = self.trainer, self.options
        if ranks.world_size() > 1 or not (is_long(trainer) if options.preflight == "auto" else options.preflight):
            return
        trial = preflight(trainer, self.try_picture, self.try_save)
        pictures, saves = trial.rounds // options.sample_every, trial.rounds // options.checkpoint_every
        seconds = trial.rounds * trial.round + pictures * trial.picture + saves * trial.save
        if self.evaluation:
            begun = time.perf_counter()
            self.evaluation(trainer.ema.network)
            seconds += trial.rounds // options.evaluate_every * (time.perf_counter() - begun)
        minutes = seconds / 60
        minutes = min(minutes, options.minutes - trainer.seconds / 60) if options.minutes else minutes
        kept = trial.rounds // options.keep_every if options.keep_every else 0
        kept = min(kept, options.keep_last) if options.keep_last else kept
        # The last checkpoint, the one before and the next; a picture lies in samples/ and, a third longer, in the page.
        kept += bool(options.evaluate_every)  # best.safetensors
        disk = (3 + kept) * trial.checkpoint_bytes + pictures * trial.picture_bytes * 7 / 3
        free = shutil.disk_usage(self.folder).free
        if disk > free:
            raise ValueError(
                f"this run needs about {size(disk)} of disk, for {3 + kept} checkpoints of "
                f"{size(trial.checkpoint_bytes)}, but {size(free)} are free in {self.folder}; make room, type "
                f"trainer.keep_last=1, or another run.dir="
            )
        memory = f", {size(trial.memory)} of memory" if trial.memory else ""
        took = f"tried in {trial.seconds:.1f} s"
        self.record.event(
            "preflight",
            step=trainer.step,
            minutes=minutes,
            disk=int(disk),
            memory=trial.memory,
            message=f"about {minutes:.0f} min, {size(disk)} of disk{memory} at most; {took}"
            if minutes >= 1
            else f"about {60 * minutes:.0f} s, {size(disk)} of disk{memory} at most; {took}",
        )

    def try_picture(self) -> int:
        file = io.BytesIO()
        self.look().save(file, "PNG")
        self.measure()
        return file.tell()

    def try_save(self) -> int:
        path = self.keeper.folder / ".preflight.partial"
        try:
            return checkpoint.write(path, self.content).stat().st_size
        finally:
            path.unlink(missing_ok=True)

    def too_large(self, error: BaseException) -> ValueError:
        """One sentence on what to do where memory is not enough for a batch."""
        self.keeper.wait()  # or it is not safe yet
        batch = self.config["data"]["batch_size"]
        safe = f"the checkpoint of step {self.saved:,} is safe" if self.saved is not None else "nothing was saved yet"
        named = ValueError(
            f"out of memory at step {self.trainer.step:,} with data.batch_size={batch}; {safe}: the same command goes "
            f"on from there, with data.batch_size={max(batch // 2, 1)} resume.allow=[data.batch_size] in less memory"
        )
        named.__cause__ = error
        return named

    def broken(self) -> str:
        """What is not finite where it is saved: one verdict for all processes."""
        return ranks.from_first(self.trainer.broken())

    def mend(self, what: str, again: bool = True) -> None:
        """`what` is no number any more: go back to the last checkpoint and halve the rate, or ValueError.

        The state is never saved then, so the last checkpoint is a good one.
        """
        trainer = self.trainer
        self.keeper.wait()
        found = checkpoint.newest(self.keeper.folder, trainer.device) if ranks.is_first() else None
        content = ranks.from_first(found[0] if found else {})
        seen = f"at step {trainer.step:,} {what} is not a finite number"
        good = f"the last checkpoint, of step {content['step']:,}, is good"
        if self.options.on_nan == "stop" or not again or trainer.rollbacks == self.options.rollbacks:
            tried = f" after {trainer.rollbacks} rollbacks" if trainer.rollbacks else ""
            raise ValueError(
                f"{seen}{tried}; {good}: in another run.dir type a lower model.lr=, trainer.clip=1, "
                f"model/penalty=r1 or trainer.on_nan=rollback"
            )
        trainer.rollback(content | {"networks": {p: n["state"] for p, n in content["networks"].items()}})
        if self.best:
            self.best.load_state_dict(content.get("best") or {})
        if ranks.is_first():
            self.rewind()
        tries = f"{trainer.rollbacks} of {self.options.rollbacks}"
        self.record.event(
            "rollback", step=trainer.step, message=f"{seen}; {good}: from there again at half the rate ({tries})"
        )

    def rewind(self) -> None:
        """Remove what was logged after this step, and start the health monitor from the rows that are left."""
        self.monitor = Monitor()
        for row in self.record.rewind(self.trainer.step):
            self.monitor.add(row)  # its events are in the log already

    def watch(self, row: dict[str, Any] | None) -> None:
        """Log the warnings that a new row begins or ends; a process that is not the first has no rows."""
        for event in self.monitor.add(row) if row else []:
            self.record.event(event.kind, step=event.step, finding=event.finding, message=event.message)

    def introduce(self) -> None:
        """The first lines of the log: what is trained, on what, where."""
        trainer, batch = self.trainer, self.config["data"]["batch_size"]
        sizes = {player: sum(p.numel() for p in ps) for player, ps in trainer.parameters.items()}
        self.record.event(
            "resumed" if self.resumed else "started",
            step=trainer.step,
            time=time.strftime("%Y-%m-%dT%H:%M:%S"),
            command=shlex.join(["gan", "train", *self.overrides]),
            overrides=self.overrides,
            machine=describe(trainer.device),
            device=str(trainer.device),
            versions=checkpoint.versions(),
            parameters=sizes,
            use=command_for(trainer.objective.G),
            images=len(self.data),
            budget=str(trainer.budget),
        )
        if self.allowed:
            self.record.event("changed", step=trainer.step, message="; ".join(self.allowed))
        names = f"{self.config['model']['name']} on {self.config['data']['name']}"
        millions = ", ".join(f"{player} {count / 1e6:.2f} M" for player, count in sizes.items())
        self.record.log(f"{names}: {len(self.data):,} images, batch {batch}; {millions} parameters; {trainer.budget}")
        self.record.log(f"{describe(trainer.device)}, {self.options.precision}; run folder {self.folder}")
        if self.options.compile and not trainer.compiled:
            self.record.log(
                "trainer.compile: not with this penalty or objective, which differentiates a gradient; eager"
            )
        if self.evaluation and self.best and self.evaluation.protocol:
            figures = list(self.evaluation.names)
            self.record.fact("protocol", step=trainer.step, figures=figures, protocol=self.evaluation.protocol)
        for remark in [*self.warnings, *self.data.warnings, *warnings_about(trainer.objective)]:
            self.record.log(f"remark: {remark}")
        for name, reason in self.data.skipped:
            self.record.log(f"skipped {name}: {reason}")

    def log(self) -> int:
        trainer = self.trainer
        if trainer.graphs and trainer.graphs.refused and not self.told_refusal:
            self.told_refusal = True
            self.record.log(f"remark: rounds are played kernel by kernel: {trainer.graphs.refused}")
        rate = next(iter(trainer.optimizers.values())).param_groups[0]["lr"]
        values = {**trainer.read(), "lr": rate}
        row = self.record.progress(trainer.step, trainer.images, trainer.seconds, trainer.progress, values, self.told)
        self.watch(row)
        self.record.page()
        return trainer.step

    @torch.no_grad()
    def look(self) -> Image.Image:
        """A grid of the averaged generator's images."""
        return images.grid(self.trainer.objective.preview(self.trainer.ema.network, *self.fixed), self.columns)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """How the averaged generator's images compare with real ones."""
        return self.quick_metrics.metrics(self.trainer.ema.network, self.reference, self.config["seed"])

    def picture(self, measured: bool = True) -> int:
        """The grid into samples/, the figures into metrics.jsonl."""
        trainer = self.trainer
        if not ranks.is_first():
            self.score = math.nan
            return trainer.step
        self.record.grid(trainer.step, self.look())
        if not measured:
            return trainer.step
        values = self.measure()
        if not self.best:
            self.score = values[self.quick_metrics.headline]
        # What cannot be told of these data is left out.
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.watch(self.record.metrics(trainer.step, finite))
        return trainer.step

    def save(self) -> None:
        """checkpoints/last.safetensors, and now and then one that is kept."""
        if not ranks.is_first():
            self.keeper.seconds = self.trainer.seconds
            return
        self.keeper.save(self.content, self.trainer.step, self.trainer.seconds)
        self.saved = self.trainer.step

    @property
    def content(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        state = self.trainer.state_dict()
        networks = {p: {"config": self.config["model"][p], "state": s} for p, s in state["networks"].items()}
        best = {"best": self.best.state_dict()} if self.best else {}
        return {**state, **best, "networks": networks, "config": self.config, "output": self.output}

    @property
    def output(self) -> dict[str, Any]:
        """What the generator's images are, for whoever has nothing but the checkpoint."""
        return {"size": self.data.size, "channels": self.data.channels, "class_names": self.data.class_names}


def size(n: float) -> str:
    """Bytes as people say them: 85 MB, 1.2 GB."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB" if n >= 1e7 else f"{n / 1e6:.1f} MB"


class Silence:
    """The record of a process that is not the first: whatever it is told, it writes nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **facts: None
