"""Time: the loop and its budget."""

from gancli.trainer.budget import Budget
from gancli.trainer.loop import Trainer

__all__ = ["Budget", "Trainer"]
