"""Time: the loop, its budget, and stopping."""

from gancli.trainer.budget import Budget
from gancli.trainer.loop import Trainer
from gancli.trainer.stop import Stopped, StopRequest

__all__ = ["Budget", "StopRequest", "Stopped", "Trainer"]
