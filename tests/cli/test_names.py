"""A fast part of the bench of names."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.slow
def test_no_name_of_the_bench_is_refused():
    bench = [sys.executable, str(ROOT / "benchmarks" / "attack" / "names.py"), "--names", "4"]
    done = subprocess.run(bench, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
