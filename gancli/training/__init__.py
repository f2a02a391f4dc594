"""From a config to a trained model: building, the loop, resuming, saving, logging."""

from gancli.training.loop import Trainer
from gancli.training.schedules import Budget

__all__ = ["Budget", "Trainer"]
