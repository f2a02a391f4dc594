"""gan train: from a config to a run folder."""

import contextlib
import math
import shlex
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

from gancli import checkpoint, images
from gancli.config import build, choose_device, flatten, seed_of
from gancli.data.batches import Batches
from gancli.data.image_set import ImageSet
from gancli.data.photographs import Photographs
from gancli.ema import EMA
from gancli.machine import describe
from gancli.report.read import read_run
from gancli.report.record import Record, append_row
from gancli.sampling import noise, one_hot
from gancli.trainer import Budget, Stopped, StopRequest, Trainer

# Of a run that is continued, only these may differ: everything else changes what is learned.
FREE = (
    *("run.", "device", "data.root", "data.source.root", "trainer.steps", "trainer.kimg", "trainer.minutes"),
    *("trainer.log_every", "trainer.sample_", "trainer.checkpoint_every", "trainer.keep_every", "trainer.tensorboard"),
    *("data.cache", "data.source.cache"),
)
COMPARED = 1000  # real images that a game's measures look at
POINTS = 1024  # in a scatter plot


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
        run = Run(cfg, folder, overrides, quiet=swept)
        value = run.train()
    except BaseException as error:
        if isinstance(error, SystemExit):  # would end the whole sweep without a word
            error = RuntimeError(f"the job called sys.exit({error.code})")
        if isinstance(error, Exception):
            if swept or run:
                leave_traces(folder, error, overrides)
            elif folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()  # Hydra made it, and nothing was begun in it
            if swept:
                print(f"{name}  failed: {error}", file=sys.stderr, flush=True)
        raise error
    if swept:
        print(f"{name}  done: {folder}", file=sys.stderr, flush=True)
    else:
        print(folder)
    return value


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
        for name in ("log_every", "sample_every", "sample_rows", "checkpoint_every"):
            if cfg.trainer[name] < 1:
                raise ValueError(
                    f"trainer.{name} counts from 1, but {cfg.trainer[name]} was given; type trainer.{name}=100"
                )
        if cfg.trainer.on_nan not in ("stop", "rollback"):
            raise ValueError(f"trainer.on_nan={cfg.trainer.on_nan} is neither stop nor rollback; type one of them")
        device = choose_device(cfg.device)
        last = folder / "checkpoints" / "last.pt"
        self.resumed = checkpoint.read(last, device) if last.exists() else None
        self.data: ImageSet | Photographs = build(cfg.data.source)
        # What only loaded data can tell (a folder's classes, say) reaches the networks by interpolation too.
        cfg.data.update(size=self.data.size, channels=self.data.channels, classes=self.data.classes)
        cfg.run.dir = str(folder)
        if "betas" in cfg.model:
            cfg.model.betas = [float(beta) for beta in cfg.model.betas]  # Adam takes no [0, 0.9]
        self.config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        if self.resumed:
            refuse_changes(self.resumed["config"], self.config, folder)
        torch.manual_seed(seed_of(cfg.seed, "networks"))
        self.trainer = Trainer(
            build(cfg.model.game),
            Batches(self.data, cfg.data.batch_size, cfg.model.classes, cfg.data.flip, cfg.seed, device),
            {player: build(optimizer) for player, optimizer in cfg.model.optimizers.items()},
            Budget(self.options.steps, self.options.kimg, self.options.minutes),
            device,
            seed=cfg.seed,
            schedule=build(cfg.model.schedule),
            beta2=build(cfg.model.beta2) if cfg.model.beta2 else None,
            ema=lambda network: EMA(network, **self.options.ema),
            clip=self.options.clip,
            precision=self.options.precision,
            channels_last=self.options.channels_last,
            compile=self.options.compile,
        )
        if self.resumed:
            states = {player: network["state"] for player, network in self.resumed["networks"].items()}
            self.trainer.load_state_dict({**self.resumed, "networks": states})
        elif self.options.start:
            self._start_from(self.options.start, device)
        self._fix_preview(cfg, device)

    def _start_from(self, ckpt: str, device: torch.device) -> None:
        """Begin with the averaged G, and the D if there is one, of another run's checkpoint."""
        file = checkpoint.find(ckpt)
        content, players = checkpoint.read(file, device), self.trainer.players
        states = {player: network["state"] for player, network in content["networks"].items()} | {"G": content["ema"]}
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
        classes, game = cfg.model.classes, self.trainer.game
        self.columns = classes if 1 < classes <= 16 else 8
        points = (self.data.size, self.data.channels) == (1, 2)
        self.rows = 1 if points else self.options.sample_rows
        n = POINTS if points else self.rows * self.columns
        z = noise(range(n), game.G.z_dim, cfg.seed).to(device)
        c = one_hot(torch.arange(n, device=device) % max(classes, 1), classes)
        x = images.to_float(self.data.take(torch.arange(n) % len(self.data))).to(device)
        torch.manual_seed(seed_of(cfg.seed, "preview"))
        self.fixed = (z, game.condition(x, c), x)
        chosen = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(0))[:COMPARED]
        self.reference = ImageSet(self.data.take(chosen).cpu(), self.data.labels[chosen], self.data.class_names)

    def train(self) -> float | None:
        """Play the rounds that are left; log, picture and save as they come due."""
        trainer, options = self.trainer, self.options
        if trainer.progress >= 1:
            more = f"for more, raise the budget, as in trainer.steps={2 * trainer.step}"
            print(f"{self.folder} is finished ({trainer.step:,} steps); {more}", file=sys.stderr)
            score = read_run(self.folder).latest(trainer.game.headline)
            return score if score is None or trainer.game.lower_is_better else -score
        OmegaConf.save(OmegaConf.create(self.config), self.folder / "config.yaml")
        self.record = Record(self.folder, trainer.step, trainer.progress, self.quiet, options.tensorboard)
        self.introduce()
        logged = pictured = trainer.step
        with StopRequest() as stop, contextlib.closing(self.record):
            if not self.resumed:
                self.picture()
                self.save()
            for step in trainer.rounds():
                due = [step % options[f"{what}_every"] == 0 for what in ("log", "sample", "checkpoint")]
                if (any(due) or stop.signum or trainer.progress >= 1) and (what := trainer.broken()):
                    self.mend(what)
                    logged = pictured = trainer.step
                    continue
                if due[0]:
                    logged = self.log()
                if due[1]:
                    pictured = self.picture()
                if due[2] or stop.signum:
                    self.save()
                if stop.signum:
                    reason = Stopped(stop.signum)
                    self.record.event("stopped", step=step, message=f"{reason} at step {step:,}, saved")
                    self.record.page(now=True)
                    raise reason
            if what := trainer.broken():  # its minutes were over since
                self.mend(what, again=False)
            if logged < trainer.step:
                self.log()
            if pictured < trainer.step:
                self.picture()
            self.save()  # also where this step was saved already: its minutes may have run out since
            self.record.history(self.rows)
            self.record.event("finished", step=trainer.step, minutes=trainer.seconds / 60)
            self.record.page(now=True)
        return self.score if trainer.game.lower_is_better else -self.score

    def mend(self, what: str, again: bool = True) -> None:
        """`what` is no number any more: go back to the last checkpoint and halve the rate, or ValueError.

        The state is never saved then, so the last checkpoint is a good one.
        """
        trainer, last = self.trainer, self.folder / "checkpoints" / "last.pt"
        content = checkpoint.read(last, trainer.device)
        seen = f"at step {trainer.step:,} {what} is not a finite number"
        good = f"the last checkpoint, of step {content['step']:,}, is good"
        if self.options.on_nan == "stop" or not again or trainer.rollbacks == self.options.rollbacks:
            tried = f" after {trainer.rollbacks} rollbacks" if trainer.rollbacks else ""
            raise ValueError(
                f"{seen}{tried}; {good}: in another run.dir type a lower model.lr=, trainer.clip=1, "
                f"model/penalty=r1 or trainer.on_nan=rollback"
            )
        trainer.rollback(content | {"networks": {p: n["state"] for p, n in content["networks"].items()}})
        self.record.rewind(trainer.step)
        tries = f"{trainer.rollbacks} of {self.options.rollbacks}"
        self.record.event(
            "rollback", step=trainer.step, message=f"{seen}; {good}: from there again at half the rate ({tries})"
        )

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
            images=len(self.data),
            budget=str(trainer.budget),
        )
        names = f"{self.config['model']['name']} on {self.config['data']['name']}"
        millions = ", ".join(f"{player} {count / 1e6:.2f} M" for player, count in sizes.items())
        self.record.log(f"{names}: {len(self.data):,} images, batch {batch}; {millions} parameters; {trainer.budget}")
        self.record.log(f"{describe(trainer.device)}; run folder {self.folder}")
        if self.options.compile and not trainer.compiled:
            self.record.log("trainer.compile: not with this penalty or game, which differentiates a gradient; eager")
        for remark in trainer.game.remarks:
            self.record.log(f"remark: {remark}")
        for name, reason in self.data.skipped:
            self.record.log(f"skipped {name}: {reason}")

    def log(self) -> int:
        trainer = self.trainer
        rate = next(iter(trainer.optimizers.values())).param_groups[0]["lr"]
        values = {**trainer.read(), "lr": rate}
        self.record.progress(trainer.step, trainer.images, trainer.seconds, trainer.progress, values)
        return trainer.step

    @torch.no_grad()
    def picture(self) -> int:
        """A grid of the averaged generator's images, and how they compare with real ones."""
        trainer = self.trainer
        shown: Image.Image = images.grid(trainer.game.preview(trainer.ema.network, *self.fixed), self.columns)
        self.record.grid(trainer.step, shown)
        values = trainer.game.measure(trainer.ema.network, self.reference, self.config["seed"])
        self.score = values[trainer.game.headline]
        # What cannot be told of these data is left out.
        self.record.metrics(trainer.step, {name: value for name, value in values.items() if math.isfinite(value)})
        return trainer.step

    def save(self) -> None:
        """checkpoints/last.pt, and now and then one that is kept."""
        trainer, keep = self.trainer, self.options.keep_every
        state = trainer.state_dict()
        networks = {p: {"config": self.config["model"][p], "state": s} for p, s in state["networks"].items()}
        content = {**state, "networks": networks, "config": self.config, "output": self.output}
        checkpoint.save(self.folder / "checkpoints" / "last.pt", content)
        if keep and trainer.step and trainer.step % keep == 0:
            checkpoint.save(self.folder / "checkpoints" / f"step-{trainer.step:07d}.pt", content)

    @property
    def output(self) -> dict[str, Any]:
        """What the generator's images are, for whoever has nothing but the checkpoint."""
        return {"size": self.data.size, "channels": self.data.channels, "class_names": self.data.class_names}


def refuse_changes(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """ValueError where a run is continued with a config that would learn something else."""
    old, new = flatten(before), flatten(now)
    changed = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and not k.startswith(FREE))
    # A change shows where it was typed and wherever it is interpolated: the shortest name is the one to type.
    changed.sort(key=lambda k: (k.count("."), k))
    if changed:
        k = changed[0]
        rest = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(
            f"the run in {folder} was begun with {k}={old.get(k)}, now {k}={new.get(k)} is given{rest}; type the "
            f"values it was begun with ({folder / 'config.yaml'}), or another run.dir="
        )
