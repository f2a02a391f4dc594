"""A training is killed anywhere, resumed, and ends as one that was left alone; benchmarks/kill.py does it 200 times."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

SCRIPT = ROOT / "benchmarks" / "kill.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, as Linux does well")
def test_killed_anywhere_and_resumed_equals_uninterrupted():
    words = [sys.executable, str(SCRIPT), "--times", "20", "--seed", "1"]
    # In a process of its own: torch cannot train in the fork of one that has trained.
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and "20 kills" in done.stdout, done.stdout + done.stderr
