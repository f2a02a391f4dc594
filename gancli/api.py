"""What the commands do, from Python: `gancli.train`, `gancli.open_run` and `gancli.evaluate`."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gancli.checkpoint.format import latest_run
from gancli.checkpoint.trust import trusting
from gancli.cli.overrides import read_train
from gancli.cli.train import train_one
from gancli.config import UsageError, choices, own_configs
from gancli.data.by_name import load_by_name
from gancli.data.from_memory import as_dataset
from gancli.evaluation import generative
from gancli.evaluation.image_folder import ImageFolder
from gancli.evaluation.reference import EvaluationSet, has_split
from gancli.evaluation.result import EvaluationResult
from gancli.inference.generator import Generator, load
from gancli.report.run_folder import Run, read_run
from gancli.runtime.device import choose_device
from gancli.runtime.signals import StopRequest
from gancli.runtime.text import printable


class TrainedRun(Run):
    """A run folder, read: `folder`, `config`, `rows`, `scores`, `samples`. A notebook shows its newest grid."""

    def load(self, ema: bool = True, device: torch.device | str = "cpu") -> Generator:
        """Return the generator of its best checkpoint, else of its last."""
        return load(self.folder, ema, device)

    def sample(self, n: int = 64, seed: int = 0, classes: Sequence[int | str] = ()) -> Tensor:
        """Return n images (n, C, H, W), float in [-1, 1]; image i of a seed is the same at any n."""
        return self.load().sample(n, seed, classes)

    def _repr_html_(self) -> str:
        """Return the newest grid of samples with its step, next to real images, and the scores."""
        real = self.folder / "samples" / "real.png"
        images = [(f"generated, step {step:,}", path) for step, path in self.samples[-1:]]
        images += [("real", real)] if real.is_file() else []
        shown = [f"{name} {value:.4g}" for score in self.scores for name, value in score.metrics.items() if value]
        title = f"{self.choice('model')} on {self.choice('data')}, {self.status}: {', '.join(shown)}"
        figures = [
            f'<figure style="display:inline-block;margin:4px"><img style="max-width:45vw" '
            f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
            f"<figcaption>{html.escape(name)}</figcaption></figure>"
            for name, path in images
        ]
        return f"<p>{html.escape(printable(title))}<br><code>{html.escape(printable(str(self.folder)))}</code></p>" + (
            "".join(figures)
        )


def train(
    *overrides: str,
    steps: int | None = None,
    minutes: float | None = None,
    kimg: float | None = None,
    config_dir: str | Path = "",
    trust: Sequence[str] = (),
) -> TrainedRun:
    """Train one run and return it, as `gan train` does with these words.

    Args:
        overrides: as they are typed: "model=dcgan", "data=mnist", "run.dir=outputs/mine"; the same folder resumes.
        steps, minutes, kimg: the budget, trainer.steps= and so on; the first reached ends the run.
        config_dir: folder of your own configs.
        trust: packages whose networks a checkpoint may build.

    Raises:
        ValueError: what `gan train` would print.
    """
    budget = {"steps": steps, "minutes": minutes, "kimg": kimg}
    words = [*overrides, *(f"trainer.{key}={value}" for key, value in budget.items() if value is not None)]
    command = read_train([*words, *([f"--config-dir={config_dir}"] if str(config_dir) else [])])
    if command.sweep or command.cfg:
        raise UsageError("gancli.train trains one run; call it in a loop, or type gan train -m in a shell")
    with own_configs(*command.places), trusting((*command.trust, *trust)), StopRequest(at_once=True):
        return open_run(train_one(command))


def open_run(folder: str | Path) -> TrainedRun:
    """Return a run by its folder, or the newest one by "latest"."""
    path = latest_run() if str(folder) == "latest" else Path(folder)
    if not path.is_dir():
        raise ValueError(f"{folder} is no folder of a run; give the one that gan train printed, or latest")
    return TrainedRun(**vars(read_run(path)))


def evaluate(
    images: Any,
    reference: Any,
    metrics: Sequence[str] = (),
    n: int = 10000,
    seed: int = 0,
    device: str = "auto",
) -> EvaluationResult:
    """Score generated images against real ones, as `gan evaluate` does; print the result, or take its `headline`.

    Args:
        images: what `as_dataset` takes, such as the tensor of `sample`; or a folder or .npz file.
        reference: the same, or the name of a data set such as "mnist".
        metrics: such as ["fd_mnist"]; by default all of the bundled network for such images.
        n: upper limit on the number of images of each side, a random subset by `seed`.
    """
    fake, real = _side("images", images, n, seed), _side("reference", reference, n, seed)
    return generative.evaluate_images(fake, real, metrics, "", choose_device(device))


def _side(key: str, images: Any, n: int, seed: int) -> ImageFolder | EvaluationSet:
    """Return one side of an evaluation."""
    if not isinstance(images, str | Path):
        return EvaluationSet(as_dataset(images), f"a {type(images).__name__}", "none", n, seed)
    name = str(images)
    if key == "reference" and name in choices("data") and not Path(name).exists():
        split = "test" if has_split(name) else "none"
        return EvaluationSet(load_by_name(name, None, None), name, split, n, seed)
    return ImageFolder(key, name, 0, 0, n, seed)
