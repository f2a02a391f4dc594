"""Several processes that train one model: the same run as one process, one writer, one end for all."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import TINY, start
from PIL import Image

from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.config import choices
from gancli.data.crops import image_crops
from gancli.data.loader import BatchLoader
from gancli.runtime import ranks
from gancli.training.distributed import joined

pytestmark = pytest.mark.slow  # two processes first train every model, which takes half a minute
MODELS = choices("model")
# What is asked of a batch as a whole (its mean features) each process asks of its part.
AS_A_WHOLE = ("feature_matching",)
# What is drawn for every image, in every place where something is.
VARIANTS = {
    "ada": ("dcgan", "model/augment=ada", "model.augment.kimg=0.1", "data.flip=true"),
    "diffaugment": ("cgan", "model/augment=diffaugment", "model.packing=2"),
    "critic": ("mlp", "model/penalty=gp", "model.n_critic=2", "model.reuse_fakes=false", "trainer.clip=1"),
    # What rounding moves grows tenfold a round in its blocks' instance norm: one block, and a pool that is soon full.
    "cyclegan": ("cyclegan", "model.depth=1", "model.pool=16"),
    "degraded": ("sr_compact", "model.degrade.blur=1", "model.degrade.noise=9", "model.degrade.jpeg=50"),
    "bn_of_each": ("dcgan", "trainer.sync_bn=false"),
    "nothing_shared": ("dcgan", "model/penalty=dragan", "model.minibatch=discrimination"),
}
LIKE_ONE = [*(m for m in MODELS if m not in AS_A_WHOLE), "ada", "diffaugment", "critic", "degraded"]
CLOSE = 5e-5  # Adam's first steps are as long as the rate, 2e-4, however small a gradient: rounding shows


def four_rounds(folder: Path, name: str) -> dict:
    """What a run is after four rounds."""
    model, *overrides = VARIANTS.get(name, (name,))
    run = start(folder / name, model, *overrides, "trainer.steps=4")
    for _ in run.trainer.steps():
        pass
    learned = {f"{p} {n}": w.detach() for p, ps in run.trainer.networks.items() for n, w in ps.named_parameters()}
    return {"learned": learned, "ema": run.trainer.ema.network.state_dict(), "terms": run.trainer.read_terms()}


ENDLESS = ["train", *TINY, "model=mlp", "trainer.steps=1000000", "trainer.sample_every=1000000", "run.dir=endless"]


def environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells each of two processes."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in told.items()}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def work(folder: Path) -> None:
    """What each of two processes does: everything that the tests below look at."""
    torch.set_num_threads(1)
    with joined(int(os.environ["RANK"]), 2):
        found = {name: four_rounds(folder, name) for name in [*MODELS, *VARIANTS]}
        torch.save(found, folder / f"found-{ranks.rank()}.pt")
        start(folder / "one-two", "mlp", "trainer.steps=4").train()
        start(folder / "two-one", "mlp", "trainer.steps=2").train()
        clocked = start(folder / "clocked", "mlp", "trainer.steps=null", "trainer.minutes=0.01")
        clocked.train()
        mended = start(folder / "mended", "mlp", "trainer.on_nan=rollback")
        play = mended.trainer.train_step

        def spoilt(progress: float) -> None:
            play(progress)
            if mended.trainer.step == 5 and not mended.trainer.rollbacks:
                mended.trainer.parameters["D"][0].data.fill_(torch.nan)

        mended.trainer.train_step = spoilt  # type: ignore[method-assign]
        mended.train()
        ends = {"steps": clocked.trainer.step, "rollbacks": mended.trainer.rollbacks, "step": mended.trainer.step}
        torch.save(ends | {"D": mended.trainer.parameters["D"][0].detach()}, folder / f"ends-{ranks.rank()}.pt")
    (folder / f"done-{os.environ['RANK']}").touch()
    code = 0
    while port := sys.stdin.readline():  # a test asks for one run more; the end of the tests is an end here too
        os.environ["MASTER_PORT"] = port.strip()
        code = cli.main(ENDLESS)
        if code == 143:  # a user's process ends then; this one trains again
            torch.distributed.destroy_process_group()
    sys.exit(code)


class Pair:
    """Two processes that do what `work` says, and then what they are asked to."""

    def __init__(self, folder: Path):
        self.folder, self.log, port = folder, folder / "endless" / "log.txt", free_port()
        self.errors = [folder / f"errors-{rank}.txt" for rank in (0, 1)]
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__, str(folder)],
                **{"env": environment(rank, port), "cwd": folder, "text": True},
                **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors[rank].open("w")},
            )
            for rank in (0, 1)
        ]
        self.wait(lambda: all((folder / f"done-{rank}").exists() for rank in (0, 1)))

    def wait(self, true) -> None:
        """Until `true()`, while both go on."""
        for _ in range(12_000):
            if true():
                return
            for process, errors in zip(self.processes, self.errors):
                assert process.poll() is None, errors.read_text()
            time.sleep(0.05)
        raise AssertionError("it took longer than ten minutes")

    def begin(self) -> int:
        """A run that goes on and on, until it has logged something; gives how many lines its log had before."""
        before = len(self.log.read_text().splitlines()) if self.log.exists() else 0
        port = free_port()
        for process in self.processes:
            process.stdin.write(f"{port}\n")
            process.stdin.flush()
        self.wait(lambda: self.log.exists() and any("images/s" in line for line in self.new(before)))
        return before

    def new(self, before: int) -> list[str]:
        return self.log.read_text().splitlines()[before:]

    @property
    def saved(self) -> int:
        return checkpoint.read(self.folder / "endless" / "checkpoints" / "last.safetensors")["step"]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("both")
    start(folder / "one-two", "mlp", "trainer.steps=2").train()
    both = Pair(folder)
    yield both
    for process in both.processes:
        process.kill()
        process.communicate()


@pytest.fixture
def both(processes: Pair) -> tuple[Path, list[dict]]:
    """The folder, and what each of two processes has found."""
    return processes.folder, [torch.load(processes.folder / f"found-{r}.pt", weights_only=True) for r in (0, 1)]


@pytest.mark.parametrize("name", [*MODELS, *VARIANTS])
def test_every_process_has_the_same_parameters(name, both):
    first, second = (found[name] for found in both[1])
    for where, weights in first["learned"].items():
        assert torch.equal(weights, second["learned"][where]), where
    assert first["terms"] == second["terms"]


@pytest.mark.parametrize("name", LIKE_ONE)
def test_two_processes_train_what_one_does(name, both, tmp_path):
    """To rounding: networks, average with its batch statistics, and what is logged."""
    two, one = both[1][0][name], four_rounds(tmp_path, name)
    for part in ("learned", "ema"):
        for where, weights in one[part].items():
            assert torch.allclose(two[part][where].float(), weights.float(), rtol=0, atol=CLOSE), where
    assert two["terms"] == pytest.approx(one["terms"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["one-two", "two-one"])
def test_a_run_goes_on_with_another_number_of_processes(name, both, tmp_path):
    folder = both[0]
    start(tmp_path / "whole", "mlp", "trainer.steps=4").train()
    if name == "two-one":
        start(folder / name, "mlp", "trainer.steps=4").train()
    whole, parts = (
        checkpoint.read(run / "checkpoints" / "last.safetensors") for run in (tmp_path / "whole", folder / name)
    )
    assert (parts["step"], parts["images"], parts["draws"]) == (whole["step"], whole["images"], whole["draws"])
    for weights, expected in zip(parts["ema"].values(), whole["ema"].values()):
        assert torch.allclose(weights, expected, rtol=0, atol=CLOSE)


def test_the_first_clock_and_the_first_checkpoint_decide(both):
    """Minutes end all at the same step; where a weight is no number, all go back to the same state."""
    first, second = (torch.load(both[0] / f"ends-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["steps"] == second["steps"] > 0
    assert [(e["rollbacks"], e["step"]) for e in (first, second)] == [(1, 6), (1, 6)]
    assert torch.equal(first["D"], second["D"]) and torch.isfinite(first["D"]).all()


def test_a_process_draws_its_rows_of_the_batch(tmp_path):
    """Indices, places, turns and flips are those of the whole batch."""
    generator = torch.Generator().manual_seed(0)
    for i in range(3):
        pixels = torch.randint(256, (20 + i, 30, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{i}.png")
    data = image_crops(str(tmp_path), size=8, cache=str(tmp_path / "cache"))

    def batches(*ranks: int) -> BatchLoader:
        return BatchLoader(data, 6, 0, True, 1, torch.device("cpu"), *ranks)

    for n in range(4):
        whole = batches()(n)[0]
        assert torch.equal(torch.cat([batches(rank, 3)(n)[0] for rank in range(3)]), whole)
    with pytest.raises(ValueError, match=r"4 processes share a batch in equal parts.*type data.batch_size=4"):
        batches(0, 4)


def test_a_signal_to_one_stops_both_after_saving(processes):
    """After the same step, which is saved; the first alone says so."""
    before = processes.begin()
    processes.processes[1].send_signal(signal.SIGTERM)
    processes.wait(lambda: "gan: stopped: SIGTERM" in processes.errors[0].read_text())
    assert any(f"SIGTERM at step {processes.saved:,}, saved" in line for line in processes.new(before))
    assert "gan" not in processes.errors[1].read_text()


def test_one_that_dies_ends_the_other_with_a_sentence(processes):
    """Within seconds; what was saved last is good. This ends the two processes of the tests above."""
    processes.begin()
    processes.processes[1].kill()
    begun = time.monotonic()
    out, _ = processes.processes[0].communicate(timeout=30)
    assert processes.processes[0].returncode == 1 and not out and time.monotonic() - begun < 10
    sentence = processes.errors[0].read_text().strip().splitlines()[-1]
    assert sentence.startswith("gan: one of the 2 processes has ended") and "run.dir=" in sentence
    assert processes.saved > 0


@pytest.mark.slow
def test_torchrun_trains_with_one_writer_and_one_voice(tmp_path):
    words = ["--nproc-per-node=2", f"--master-port={free_port()}", "-m", "gancli", "train", *TINY, "model=mlp"]
    # What the first process evaluates, all must hear of.
    words += ["data.channels=1", "trainer.evaluate_every=3", "trainer.evaluate_n=40", "trainer.evaluate_patience=9"]
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words],
        **{"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 100},
    )
    [folder] = tmp_path.glob("outputs/*")
    assert run.returncode == 0 and Path(run.stdout.strip()) == folder, run.stderr
    assert run.stderr.count("finished") == 1
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows if "event" in row] == ["started", "protocol", "finished"]
    assert sum("kd_mnist" in row for row in rows) == 2 and (folder / "checkpoints/best.safetensors").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads")
def test_no_thread_of_gloo_outlives_the_training():
    """Left to the interpreter's end they abort the process now and then, as if the training had failed."""
    code = """
import os, pathlib, torch
from gancli.training.distributed import joined
from gancli.runtime import ranks
def threads():
    return [thread.joinpath("comm").read_text() for thread in pathlib.Path("/proc/self/task").iterdir()]
with joined(0, 1):
    x = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([x])
    (x * ranks.largest(1)).sum().backward()
    optimizer.step()
    assert any("gloo" in name for name in threads())
assert not any("gloo" in name for name in threads()), threads()
"""
    told = {**environment(0, free_port()), "WORLD_SIZE": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (0, 1)),  # a batch script's own command, not srun's
    ],
)
def test_who_started_it_is_read_off_the_environment(told, expected, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert cli.process() == expected


def test_what_several_processes_cannot_do_gets_one_sentence(gan, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    code, _, error = gan("train", *TINY)
    assert code == 2 and "export MASTER_ADDR=" in error
    code, _, error = gan("train", "-m", *TINY, "seed=0,1")
    assert code == 2 and "leave out -m" in error
    monkeypatch.setenv("SLURM_PROCID", "1")  # the first has said it
    code, _, error = gan("train", *TINY)
    assert code == 2 and not error


if __name__ == "__main__":
    work(Path(sys.argv[1]))
