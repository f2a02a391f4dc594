"""From Enter to the first round nothing is imported that takes long and is not used."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import TINY

from gancli.data import builtin as sets
from gancli.runtime import cache
from gancli.training.optimizers import plain

# Each takes from a third of a second to one and a half.
HEAVY = ["torch._dynamo", "torchvision", "sympy", "scipy", "sklearn", "matplotlib", "pandas", "onnx", "tensorboard"]


def test_a_training_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from gancli.cli.main import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    )
    words = ["train", *TINY, "model=dcgan", f"run.dir={tmp_path / 'run'}"]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert not set(run.stdout.split()) & set(HEAVY)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "SGD"])
def test_plain_optimizers_are_those_of_torch_to_the_bit(name):
    """Over steps, and when the state of one is taken up by the other."""
    kind, options = getattr(torch.optim, name), {"lr": 1e-2, **({"fused": True} if name.startswith("Adam") else {})}
    start = torch.randn(5, 3)
    theirs, ours = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [kind([theirs], **options), plain(kind)([ours], **options)]
    for step in range(6):
        if step == 3:
            states = [optimizer.state_dict() for optimizer in optimizers]
            optimizers = [kind([theirs], **options), plain(kind)([ours], **options)]
            for optimizer, state in zip(optimizers, reversed(states)):
                optimizer.load_state_dict(state)
        for optimizer, x in zip(optimizers, (theirs, ours)):
            optimizer.zero_grad()
            (x**4).sum().backward()
            optimizer.step()
        assert torch.equal(theirs, ours)
    assert type(optimizers[1]).__name__ == name and isinstance(optimizers[1], kind)


def test_what_torchvision_has_read_is_kept_until_its_files_change(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FOLDER", tmp_path / "cache")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)

    def write(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        images, labels = rng.integers(256, size=(20, 28, 28), dtype=np.uint8), rng.integers(10, size=20, dtype=np.uint8)
        for part in ("train", "t10k"):
            header = b"".join(n.to_bytes(4, "big") for n in (2051, 20, 28, 28))
            (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
            header = b"".join(n.to_bytes(4, "big") for n in (2049, 20))
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
        return images, labels

    for seed in (0, 1):
        images, labels = write(seed)
        for again in (False, True):
            with monkeypatch.context() as patch:
                if again:
                    patch.setitem(sys.modules, "torchvision", None)  # an import of it fails
                    patch.setitem(sys.modules, "torchvision.datasets", None)
                for split in ("train", "test"):
                    data = sets.mnist(str(tmp_path), split=split)
                    assert np.array_equal(data.images[:, 0].numpy(), images)
                    assert np.array_equal(data.labels.numpy(), labels)
