"""What pictures cost that are read from a file of decoded ones: once, at every start, in every round.

    python benchmarks/stream.py [--pictures 2000] [--size 256] [--batch 16] [--width 8] [--rounds 10] [--device auto]

Makes JPEGs of soft noise, decodes them as data=folder does, and plays rounds of model=dcgan on them. Cold: the file's
pages have been given back to the system, which needs no root; the disk below it may keep what it likes.
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gancli.bench.timing import WARM, Trained, synchronize
from gancli.checkpoint.format import versions
from gancli.data.folder import folder
from gancli.data.loader import BatchLoader
from gancli.runtime.device import choose_device
from gancli.runtime.hardware import describe

DISTINCT = 200  # pictures; the others are copies, which cost as much to decode


def make(count: int, size: int, place: Path) -> None:
    rng, made = np.random.default_rng(0), list[bytes]()
    place.mkdir()
    for k in range(count):
        file = place / f"{k:06d}.jpg"
        if k < DISTINCT:
            layers = np.zeros((size, size, 3))
            for side in (4, 16, 64):
                coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
                layers += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), float) / 3
            Image.fromarray(layers.astype(np.uint8)).save(file, quality=90)
            made.append(file.read_bytes())
        else:
            file.write_bytes(made[k % DISTINCT])


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def forget(cache: Path) -> None:
    """Give the pages of the decoded pictures back, which nobody may have mapped."""
    gc.collect()  # nor a trainer that is done with
    for file in cache.rglob("*.pixels"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(batches: BatchLoader) -> None:
    """The images in memory, as those of data that are no folder."""
    data: Any = batches.data
    batches.data, batches.streamed = replace(data, images=data.images.to(batches.device, copy=True)), False


def streamed(batches: BatchLoader) -> None:
    assert batches.streamed, f"they all lie on {batches.device}: more --pictures"


def when_wanted(batches: BatchLoader) -> None:
    """As if no thread read them in the round before."""
    streamed(batches)
    batches._read = batches._parts  # type: ignore[method-assign]


def played(words: list[str], rounds: int, change: Callable[[BatchLoader], None]) -> tuple[float, float]:
    """Seconds of a round, and the share of them in which its batches were got."""
    trained = Trained(words)
    trainer, waited = trained.run.trainer, [0.0]
    trainer.graphs = None  # a round that is launched whole asks for no batch
    change(trainer.batches)

    def clocked(act: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*given: int) -> Any:
            begun = time.perf_counter()
            made = act(*given)
            waited[0] += time.perf_counter() - begun
            return made

        return clocked

    for name in ("bring", "next_batch"):
        setattr(trainer.batches, name, clocked(getattr(trainer.batches, name)))
    playing = trained.rounds()
    for _ in range(WARM):
        next(playing)
    synchronize(trained.device)
    waited[0], begun = 0.0, time.perf_counter()
    for _ in range(rounds):
        next(playing)
    synchronize(trained.device)
    took = time.perf_counter() - begun
    playing.close()
    return took / rounds, waited[0] / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in {"pictures": 2000, "size": 256, "batch": 16, "width": 8, "rounds": 10, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device, facts = choose_device(options.device), dict[str, float]()

    def tell(what: str, values: list[float], unit: str) -> None:
        facts[what] = round(statistics.median(values), 6)
        print(f"{what:<48}{facts[what]:>10,.4g} {unit}, from {min(values):,.4g} to {max(values):,.4g}", flush=True)

    with tempfile.TemporaryDirectory() as work:
        place, cache = Path(work) / "pictures", Path(work) / "cache"
        make(options.pictures, options.size, place)

        def load() -> object:
            return folder(str(place), options.size, cache=str(cache))

        tell("decoded once", [options.pictures / timed(load)], "pictures/s")
        tell("a start from the file", [timed(load) for _ in range(options.repeats)], "s")
        words = ["model=dcgan", f"model.width={options.width}", f"device={device}", "trainer.steps=1000000000"]
        words += ["data=folder", f"data.path={place}", f"data.size={options.size}", f"data.cache={cache}"]
        words += [f"data.batch_size={options.batch}"]
        ways: dict[str, tuple[Callable[[BatchLoader], None], bool]] = {
            "in memory": (resident, False),
            "from the file, read in the round before": (streamed, False),
            "from the file, read when wanted": (when_wanted, False),
        }
        if hasattr(os, "posix_fadvise"):
            ways["cold, read in the round before"] = (streamed, True)
            ways["cold, read when wanted"] = (when_wanted, True)
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, (change, cold) in ways.items():
                if cold:
                    forget(cache)
                took[name].append(played(words, options.rounds, change))
        for name, measured in took.items():
            seconds, shares = zip(*measured)
            tell(f"a round, {name}", list(seconds), "s")
            tell("    of it, to get its batches", [100 * share for share in shares], "%")
            facts[f"percent, {name}"] = facts.pop("    of it, to get its batches")
    print(json.dumps({"machine": describe(device), **vars(options), "versions": versions(), "facts": facts}))


if __name__ == "__main__":
    main()
