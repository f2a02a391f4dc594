"""gan train: from a config to a run folder."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from gancli.training import run


def main(cfg: DictConfig, folder: Path, overrides: list[str], job: str = "") -> float | None:
    """Train one run, alone or as a job such as "job 3 of 6"; return the value that a sweeper minimises."""
    hydra: Any = HydraConfig.get()
    with read_write(hydra), open_dict(hydra):
        hydra.runtime.output_dir = str(folder)
        hydra.overrides.task = overrides
    folder.mkdir(parents=True, exist_ok=True)
    return run.main(cfg, int(job.rpartition(" of ")[2]) if " of " in job else None)
