"""Startup: a training imports nothing that takes long and is not used."""

import subprocess
import sys

from helpers import TINY

# Each takes from a third of a second to one and a half.
HEAVY = {"torch._dynamo", "torchvision", "sympy", "scipy", "sklearn", "matplotlib", "pandas", "onnx", "tensorboard"}


def test_a_training_imports_nothing_heavy(tmp_path):
    code = "import sys; from gancli.cli.main import main; print(main(sys.argv[1:]), *sys.modules)"
    words = ["train", *TINY, "model=dcgan", f"run.dir={tmp_path / 'run'}"]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=100)
    _folder, code, *modules = run.stdout.split()
    assert code == "0", run.stderr
    assert not HEAVY & set(modules)
