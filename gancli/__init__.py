"""gancli: train generative image models from YAML configs and put them to use.

G = gancli.load("outputs/my-run")            # a checkpoint file or a run folder
x = G.sample(n=16, seed=0, classes=[3])      # (16, C, H, W), float in [-1, 1]
large = gancli.upscale(Image.open("a.png"))  # PIL in, PIL out, 4 times as wide and as high
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gancli.inference.generator import load as load
    from gancli.inference.styles import upscale as upscale

__version__ = "0.1.0"

__all__ = ["__version__", "load", "upscale"]


def __getattr__(name: str) -> Any:
    # torch is imported when it is needed: `gan --help` must answer at once.
    modules = {"load": "gancli.inference.generator", "upscale": "gancli.inference.styles"}
    if name not in modules:
        raise AttributeError(f"module 'gancli' has no attribute {name!r}")
    return getattr(importlib.import_module(modules[name]), name)
