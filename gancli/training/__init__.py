"""Time: the loop and its budget."""

from gancli.training.loop import Trainer
from gancli.training.schedules import Budget

__all__ = ["Budget", "Trainer"]
