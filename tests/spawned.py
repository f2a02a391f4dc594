"""What the spawned processes of tests/training/test_spawn.py do: they import it by name."""

import os
import sys
from pathlib import Path

import torch
from helpers import start

from gancli.cli import main as cli
from gancli.data.folder import folder as image_folder
from gancli.training.distributed import joined


def train(folder: Path, words: list[str]) -> None:
    """Train in a spawned process, as a launcher or a notebook may."""
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.exit(cli.main(words))


def decode_and_train(rank: int, port: int, folder: Path) -> None:
    """Decode the same images as the other of two spawned processes, and train one model with it, without torchrun."""
    torch.set_num_threads(1)
    data = image_folder(str(folder / "images"), size=16, channels=3, cache=str(folder / "cache"))
    assert len(data) == 12
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined(rank, 2):
        trainer = start(folder, "mlp", "trainer.steps=2").trainer
        for _ in trainer.steps():
            pass
        torch.save([p.detach() for p in trainer.parameters["G"]], folder / f"{rank}.pt")
