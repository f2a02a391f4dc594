"""gancli: train generative image models from YAML configs and put them to use.

run = gancli.train("model=dcgan", "data=mnist", steps=500)
x = run.sample(n=16, seed=0)                 # (16, C, H, W), float in [-1, 1]
G = gancli.load("outputs/my-run")            # a checkpoint file or a run folder
large = gancli.upscale(Image.open("a.png"))  # PIL in, PIL out, 4 times as wide and as high
scores = gancli.evaluate(x, "mnist")

Public are the names below, those of the modules in `_PUBLIC_MODULES`, and the classes that configs name.
Everything else may move.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gancli.api import TrainedRun as TrainedRun
    from gancli.api import evaluate as evaluate
    from gancli.api import open_run as open_run
    from gancli.api import train as train
    from gancli.data.dataset import ImageDataset as ImageDataset
    from gancli.data.from_memory import as_dataset as as_dataset
    from gancli.data.loader import BatchLoader as BatchLoader
    from gancli.inference.generator import Generator as Generator
    from gancli.inference.generator import load as load
    from gancli.inference.styles import upscale as upscale
    from gancli.objectives.base import Objective as Objective
    from gancli.objectives.base import Update as Update
    from gancli.objectives.gan import GAN as GAN
    from gancli.training.loop import Trainer as Trainer
    from gancli.training.schedules import Budget as Budget

__version__ = "0.1.0"

# Where each public name is defined. torch is imported when one is needed: `gan --help` must answer at once.
_PUBLIC = {
    **{"train": "api", "open_run": "api", "evaluate": "api", "TrainedRun": "api"},
    **{"load": "inference.generator", "Generator": "inference.generator", "upscale": "inference.styles"},
    **{"as_dataset": "data.from_memory", "ImageDataset": "data.dataset", "BatchLoader": "data.loader"},
    **{"GAN": "objectives.gan", "Objective": "objectives.base", "Update": "objectives.base"},
    **{"Trainer": "training.loop", "Budget": "training.schedules"},
}
# Modules of which every name without an underscore is public, and so are those below them: parts of your own models.
_PUBLIC_MODULES = {
    "networks": "generators, discriminators and the layers they are made of",
    "losses": "adversarial losses, penalties, perceptual distances",
    "objectives": "who minimises what; base classes of your own",
    "images": "between uint8, [-1, 1] and PIL; grids",
    "report.loggers": "`MetricLogger`, the base class of a logger of yours",
    "testing": "`ModelContract`, the tests that every model passes",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gancli' has no attribute {name!r}; it has {', '.join(_PUBLIC)}")
    return getattr(importlib.import_module(f"gancli.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
