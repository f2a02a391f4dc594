"""Several processes that train one model: equal parameters, one writer, one end for all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import ROOT, TINY, assert_same, at_step, free_port, rows_of, start
from PIL import Image

from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.cli.train import process as rank_and_size
from gancli.data.crops import image_crops
from gancli.data.loader import BatchLoader
from gancli.runtime import ranks
from gancli.training.checkpoint_manager import BEST, LAST
from gancli.training.distributed import joined

pytestmark = pytest.mark.slow  # two processes start and train several models
# One model of each type of state: networks alone, adaptive augmentation, an image pool, an encoder, virtual steps.
MODELS = {
    "mlp": ("mlp",),
    "ada": ("dcgan", "model/augment=ada", "model.augment.kimg=0.1", "data.flip=true"),
    "critic": ("mlp", "model/penalty=gp", "model.n_critic=2", "model.reuse_fakes=false", "trainer.clip=1"),
    "cyclegan": ("cyclegan", "model.pool=4"),
    "vaegan": ("vaegan",),
    "unrolled": ("unrolled_mlp",),
}
ENDLESS = ["train", *TINY, "model=mlp", "trainer.steps=1000000", "trainer.sample_every=1000000", "run.dir=endless"]


def trained(folder: Path, name: str) -> dict:
    """Train four steps; return the parameters and the logged terms."""
    model, *overrides = MODELS[name]
    trainer = start(folder / name, model, *overrides, "trainer.steps=4").trainer
    for _ in trainer.steps():
        pass
    parameters = {f"{n} {p}": w.detach() for n, net in trainer.networks.items() for p, w in net.named_parameters()}
    augment = trainer.objective.state_dict().get("augment", {})
    return {"parameters": parameters, "terms": trainer.read_terms(), "augment": augment}


def environment(rank: int, port: int) -> dict[str, str]:
    """Return the variables that torchrun sets for one of two processes."""
    variables: dict = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    variables |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return {**os.environ, **{name: str(value) for name, value in variables.items()}}


def work(folder: Path) -> None:
    """Train in each of two processes everything that the tests below check."""
    torch.set_num_threads(1)
    with joined(int(os.environ["RANK"]), 2):
        results: dict = {name: trained(folder, name) for name in MODELS}
        start(folder / "one-two", "mlp", "trainer.steps=4").train()
        start(folder / "two-one", "mlp", "trainer.steps=2").train()
        clocked = start(folder / "clocked", "mlp", "trainer.steps=null", "trainer.minutes=0.01")
        clocked.train()
        recovered = start(folder / "recovered", "mlp", "trainer.on_nan=rollback")
        weights, first = recovered.trainer.parameters["D"][0].data, [torch.nan]
        at_step(recovered, 5, lambda: first and weights.fill_(first.pop())).train()
        results |= {"clocked steps": clocked.trainer.step, "rollbacks": recovered.trainer.rollbacks}
        results |= {"recovered step": recovered.trainer.step, "D": recovered.trainer.parameters["D"][0].detach()}
        torch.save(results, folder / f"results-{ranks.rank()}.pt")
    (folder / f"done-{os.environ['RANK']}").touch()
    code = 0
    while port := sys.stdin.readline():  # a test asks for another run; the end of the tests ends the loop
        os.environ["MASTER_PORT"] = port.strip()
        code = cli.main(ENDLESS)
        if code == 143:  # a user's process ends then; this one trains again
            torch.distributed.destroy_process_group()
    sys.exit(code)


class Pair:
    """Two processes that do `work`, and then endless runs on request."""

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

    def wait(self, condition) -> None:
        """Wait until `condition()`, while both processes run."""
        for _ in range(12_000):
            if condition():
                return
            for process, errors in zip(self.processes, self.errors):
                assert process.poll() is None, errors.read_text()
            time.sleep(0.05)
        raise AssertionError("timeout after ten minutes")

    def start_endless(self) -> int:
        """Start an endless run and wait until it logs; return the number of lines in its log before."""
        before = len(self.log.read_text().splitlines()) if self.log.exists() else 0
        port = free_port()
        for process in self.processes:
            process.stdin.write(f"{port}\n")
            process.stdin.flush()
        self.wait(lambda: self.log.exists() and any("images/s" in line for line in self.new_lines(before)))
        return before

    def new_lines(self, before: int) -> list[str]:
        return self.log.read_text().splitlines()[before:]

    @property
    def saved_step(self) -> int:
        return checkpoint.read(self.folder / "endless" / "checkpoints" / LAST)["step"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("both")
    start(folder / "one-two", "mlp", "trainer.steps=2").train()
    pair = Pair(folder)
    yield pair
    for process in pair.processes:
        process.kill()
        process.communicate()


@pytest.fixture
def results(pair: Pair) -> list[dict]:
    return [torch.load(pair.folder / f"results-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", MODELS)
def test_all_processes_have_the_same_parameters_and_terms(name, results):
    assert_same(results[0][name], results[1][name])


def test_each_process_has_noise_of_its_own_and_the_first_that_of_a_single_one(tmp_path, monkeypatch):
    trainer = start(tmp_path, "mlp").trainer
    seeds = []
    for rank in (0, 1, 0):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        seeds.append(trainer._step_seed())
    assert seeds[0] == seeds[2] != seeds[1]


@pytest.mark.parametrize("name", ["one-two", "two-one"])
def test_a_run_resumes_with_another_number_of_processes(name, pair, results):
    if name == "two-one":
        start(pair.folder / name, "mlp", "trainer.steps=4").train()
    content = checkpoint.read(pair.folder / name / "checkpoints" / LAST)
    assert (content["step"], content["images"], content["batch_index"]) == (4, 4 * 8, 8)
    assert all(torch.isfinite(weights).all() for weights in content["ema"].values())


def test_the_clock_and_the_checkpoint_of_the_first_process_decide(results):
    """Minutes end all processes after the same step, and a non-finite weight takes all back to the same state."""
    first, second = results
    assert first["clocked steps"] == second["clocked steps"] > 0
    assert [(r["rollbacks"], r["recovered step"]) for r in results] == [(1, 6), (1, 6)]
    assert torch.equal(first["D"], second["D"]) and torch.isfinite(first["D"]).all()


def test_a_process_takes_its_rows_of_the_batch(tmp_path):
    """Indices, positions, rotations and flips are those of the whole batch."""
    generator = torch.Generator().manual_seed(0)
    for i in range(3):
        pixels = torch.randint(256, (20 + i, 30, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{i}.png")
    data = image_crops(str(tmp_path), size=8, cache=str(tmp_path / "cache"))

    def batches(*process: int) -> BatchLoader:
        return BatchLoader(data, 6, 0, True, 1, torch.device("cpu"), *process)

    for n in range(4):
        assert torch.equal(torch.cat([batches(rank, 3)(n)[0] for rank in range(3)]), batches()(n)[0])
    with pytest.raises(ValueError, match=r"4 processes.*type data.batch_size=4"):
        batches(0, 4)


def test_a_signal_to_one_process_stops_both_after_saving(pair):
    """Both stop after the same step, which is saved; only the first says so."""
    before = pair.start_endless()
    pair.processes[1].send_signal(signal.SIGTERM)
    pair.wait(lambda: "gan: stopped: SIGTERM" in pair.errors[0].read_text())
    assert any(f"SIGTERM at step {pair.saved_step:,}, saved" in line for line in pair.new_lines(before))
    assert "gan" not in pair.errors[1].read_text()


def test_the_death_of_one_process_ends_the_other_with_a_sentence(pair):
    """This ends the two processes of the tests above."""
    pair.start_endless()
    pair.processes[1].kill()
    out, _ = pair.processes[0].communicate(timeout=120)
    assert pair.processes[0].returncode == 1 and not out
    sentence = pair.errors[0].read_text().strip().splitlines()[-1]
    assert sentence.startswith("gan: one of the 2 processes has ended") and "run.dir=" in sentence
    assert pair.saved_step > 0


def test_torchrun_trains_with_one_writer(tmp_path):
    words = ["--nproc-per-node=2", f"--master-port={free_port()}", "-m", "gancli", "train", *TINY, "model=mlp"]
    # All processes must learn of the first one's evaluations.
    words += ["data.channels=1", "trainer.evaluate_every=3", "trainer.evaluate_n=40", "trainer.evaluate_patience=9"]
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words],
        **{"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 200},
    )
    [folder] = tmp_path.glob("outputs/*")
    assert run.returncode == 0 and Path(run.stdout.strip()) == folder, run.stderr
    assert run.stderr.count("finished") == 1
    rows = rows_of(folder)
    assert [row["event"] for row in rows if "event" in row] == ["started", "protocol", "grids", "finished"]
    assert sum("kd_mnist" in row for row in rows) == 2 and (folder / "checkpoints" / BEST).is_file()


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
    variables = {**environment(0, free_port()), "WORLD_SIZE": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (0, 1)),  # a batch script's own command, not srun's
    ],
)
def test_rank_and_size_come_from_the_environment(variables, expected, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert rank_and_size() == expected


def test_usage_errors_of_several_processes_get_one_sentence(gan, monkeypatch):
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
