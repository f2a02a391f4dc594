"""Tiny trained models, and `gan evaluate` with its stored results."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import TINY

from gancli.cli import main as cli

WITHOUT_DATA = [word for word in TINY if not word.startswith(("data=", "data.n="))]
DATA = {"mnist10k": ["data=mnist10k", *WITHOUT_DATA], "synthetic": TINY, "": WITHOUT_DATA}


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Callable[..., str]:
    """Return a function that trains a tiny model, each once, and returns its run folder."""
    runs: dict[tuple[str, ...], Path] = {}

    def train(*words: str, on: str = "mnist10k") -> str:
        if (on, *words) not in runs:
            runs[on, *words] = run = tmp_path_factory.mktemp("run") / "run"
            assert cli.main(["train", *DATA[on], *words, f"run.dir={run}"]) == 0
        return str(runs[on, *words])

    return train


@pytest.fixture
def evaluate(gan) -> Callable[..., tuple[dict, str, str]]:
    """Return a function that runs gan evaluate: (stored results, standard output, standard error)."""

    def run(*words: str) -> tuple[dict, str, str]:
        def refuse(name: str) -> float:
            raise AssertionError(f"{name} is not JSON")

        code, out, err = gan("evaluate", "device=cpu", "json=s.json", *words)
        assert code == 0, err
        return json.loads(Path("s.json").read_text(), parse_constant=refuse), out, err

    return run


@pytest.fixture
def refused(gan) -> Callable[..., None]:
    """Return a function that asserts that gan evaluate fails with a message, all in one line."""

    def check(message: str, *words: str) -> None:
        code, _, err = gan("evaluate", *words)
        assert code == 1 and message in err and len(err.splitlines()) == 1, (words, err)

    return check
