"""gan train: from a config to a run folder."""

from gancli.training.run import main as main
