"""Every command of the README, of docs/ and of the configs' headers runs as it is printed, with a smaller budget."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import ROOT, pretend_install
from PIL import Image

from gancli import plugins
from gancli.cli.overrides import chosen, read_train, read_values, train_keys
from gancli.config import CONFIGS
from gancli.data import builtin
from gancli.data.dataset import ImageDataset

Gan = Callable[..., tuple[int, str, str]]

# Commands that are not run, by how they begin.
NOT_RUN = {
    "cd ": "the reader's own folder",
    "make ": "makes a virtual environment",
    "torchrun ": "tests/training/test_distributed.py starts several processes",
    "python -m pytest": "a test",
    "python tests/": "trains a classifier on all of MNIST; tests/test_classifier.py has its parts",
    "python benchmarks/": "measures for minutes; only the file is looked for",
    "gan bench race": "trains for minutes, as tests/bench/test_race.py does for seconds; its words are read",
    "gan bench speed": "starts a process for each loop, as tests/bench/test_speed.py does; its words are read",
    "gan push ": "tests/commands/test_push.py pushes to a server of its own; its words are read",
    "gan sample ckpt=hf:": "the same test downloads; its words are read",
    "gan train -m sweep=": "tests/cli/test_train.py runs each choice of sweep=; its words are read",
    "gan train -m experiment=zoo/mnist": "starts workers, as tests/training/test_signals.py does; its words are read",
}
# Pages whose newest run at the beginning is of another model than cgan.
FIRST_RUN = {
    "configs/edit.yaml": "aegan",
    "configs/inpaint.yaml": "inpainting",
    "configs/project.yaml": "aegan",
    "configs/reconstruct.yaml": "aegan",
    "configs/translate.yaml": "cyclegan",
}
QUICK = ("docs/how-to/own-images.md", "docs/how-to/add-a-model.md")
# Values of `gan train` in place of those on the page.
SMALL = {
    "device": "cpu",
    "trainer.steps": "2",
    "trainer.log_every": "1",
    "trainer.sample_every": "2",
    "trainer.sample_rows": "1",
    "trainer.checkpoint_every": "2",
    "trainer.evaluate_n": "40",
    "trainer.preflight": "false",
    "data.batch_size": "4",
    "data.n": "64",
    "model.width": "4",
    "model.depth": "1",
    "model.unroll": "1",
    "model.n_critic": "1",
}
# Values of the other commands.
SMALLER = {
    "sample": {"n": "6"},
    "evaluate": {"n": "40", "samples": "2"},
    "project": {"steps": "2"},
    "bench modes": {"data": "[ring]", "recipes": "[gan]", "steps": "2", "minutes": "0", "seeds": "[0]"},
}
ALL_DIGITS = builtin.mnist10k
MEASURED: set[tuple[str, ...]] = set()  # words of gan bench that have run, on whatever page


class Block(NamedTuple):
    """One fenced block, or the examples of one config."""

    language: str
    text: str


def pages() -> list[str]:
    """Return the files with commands: Markdown, then configs with examples, and the text of `gan --help`."""
    markdown = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    examples = [*sorted(CONFIGS.rglob("*.yaml")), ROOT / "gancli" / "cli" / "help.py"]
    return [file.relative_to(ROOT).as_posix() for file in [*markdown, *examples] if blocks(file)]


def blocks(file: Path) -> list[Block]:
    """Return the blocks of a file in order; the commands in tables of the README come at the end."""
    text = file.read_text()
    if file.suffix != ".md":
        examples = re.findall(r"^(?:#|   )   ((?:gan|torchrun) .*?)(?:  .*)?$", text, re.M)
        return [Block("sh", "\n".join(examples))] if examples else []
    found = [Block(*pair) for pair in re.findall(r"^```(sh|python|yaml)\n(.*?)^```$", text, re.M | re.S)]
    if file.name == "README.md" and file.parent == ROOT:
        found.append(Block("sh", "\n".join(re.findall(r"^\|.*?`(gan [^`]+)`", text, re.M))))
    return found


def commands(block: Block) -> list[str]:
    """Return the commands of a block of shell lines without comments and without settings such as PYTHONPATH=."""
    lines = block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []
    bare = (re.sub(r"^(?:[A-Z_]+=\S+ )+|(?:^|\s+)# .*", "", line).strip() for line in lines)
    return [command for command in bare if command]


def smaller(words: list[str]) -> list[str]:
    """Return the words of a gan command with a budget of seconds. Raise UsageError where they could not be typed."""
    command, *rest = words
    if "--help" in rest:
        return words
    if command != "train":
        read_values(command, rest)
        cut = SMALLER.get(f"bench {rest[0]}" if command == "bench" else command, {})
        if "metrics=[fid,kid,is]" in rest:
            cut = cut | {"metrics": "[]"}  # the weights of Inception are downloaded
    else:
        typed = read_train(rest)
        if typed.cfg:
            return words
        cut = small_run(typed.words, bool(typed.config_dir))
        rest = [fewer(word) for word in rest] if typed.sweep else rest
    return [command, *(word for word in rest if word.partition("=")[0] not in cut), *map("=".join, cut.items())]


def fewer(word: str) -> str:
    """Return an override of a sweep with its first two values."""
    return ",".join(word.split(",")[:2]) if "[" not in word else word


def small_run(typed: list[str], own_configs: bool) -> dict[str, str]:
    """Return the overrides that make a run, or each job of a sweep, small."""
    values = dict(word.partition("=")[::2] for word in typed)
    if "resume" in values:
        return {"trainer.steps": "4", "trainer.preflight": "false"}
    known = train_keys(chosen(typed))
    cut = {key: value for key, value in SMALL.items() if key in known}
    if "," in values.get("model", "") or own_configs or values.get("sweep") == "seeds":  # keys that all models have
        cut = {key: value for key, value in cut.items() if not key.startswith("model.")} | {"model.width": "4"}
    if values.get("data") in ("folder", "photos", "pairs", "unpaired"):
        cut["data.size"] = "16"
    if values.get("model/content", "").startswith("vgg"):
        cut["model/content"] = "mse"  # the weights of VGG are downloaded
    if values.get("sweep") == "optuna":
        cut = {key: value for key, value in cut.items() if key != "model.width"} | {"hydra.sweeper.n_trials": "2"}
    return cut


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the pages mention, and small stand-ins of the data sets."""
    folder = tmp_path_factory.mktemp("stand-ins")
    rng = np.random.default_rng(0)

    def image(name: str, *shape: int) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file)

    for name in ("photo.jpg", "photo.png", "scan.png", "grey.jpg", "small.png", "zebra.jpg", "hole.png", "b.tif"):
        image(name, 16, 20, 3)
    for name in ("digit.png", "three.png", "seven.png", "a.png", "b.png", "c.png", "7.png", "2.png", "1.png"):
        image(name, 28, 28)
    for name in (
        "images/cat",
        "images/dog",
        "cats/black",
        "cats/grey",
        "cars",
        "photos",
        "scans",
        "shapes",
        "horses",
        "zebras",
        "maps",
    ):
        for i in range(12):
            image(f"{name}/{i}.png", 32, 32, 3)
    for name in ("trainA", "trainB", "testA", "testB"):
        for i in range(12):
            image(f"horse2zebra/{name}/{i}.png", 32, 32, 3)
    rows = [f"{i}.png,{'circle' if i % 2 else 'square'},{'red' if i % 3 else 'blue'},{i / 2}" for i in range(12)]
    (folder / "labels.csv").write_text("\n".join(["file,shape,colour,size", *rows]))
    frames = [Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)) for _ in range(3)]
    frames[0].save(folder / "cat.gif", save_all=True, append_images=frames[1:], duration=80)
    for name in ("facades", "pairs"):
        for i in range(8):
            image(f"{name}/{i}.png", 32, 64, 3)
    for name in ("fake", "real", "generated"):
        for i in range(40):
            image(f"{name}/{i}.png", 32, 32, 3)
    for name in ("Set5", "Set14"):
        image(f"{name}/bird.png", 48, 48, 3)
    for name in ("masks/photo.png", *(f"masks/{i}.png" for i in range(12))):
        image(name, 32, 32)
    for name, shape in {
        "data/mnist": (28, 28), "data/fashion_mnist": (28, 28), "data/cifar10": (32, 32, 3), "arrays": (16, 16, 3),
        "flowers": (16, 16, 3), "unpaired": (28, 28),
    }.items():  # fmt: skip
        (folder / "data").mkdir(exist_ok=True)
        x, y = rng.integers(0, 256, (128, *shape), dtype=np.uint8), np.arange(128) % 10
        np.savez(folder / f"{name}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(folder / "fake.npz", images=rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def scratch(stand_ins: Path, gan: Gan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield an empty folder with the stand-ins, from which nothing can be downloaded."""
    shutil.copytree(stand_ins, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(builtin, "mnist10k", few_digits)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a command of a page used the network"))
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] == "calm_gan"]:
        del sys.modules[name]
    plugins._read.cache_clear()


def few_digits(*size_and_channels: Any, split: str = "train", **options: Any) -> ImageDataset:
    """Return the first 250 of the bundled digits: what evaluates the pages' runs reads all of them."""
    every = ALL_DIGITS(*size_and_channels, split=split, **options)
    return ImageDataset(every.images[:250], every.labels[:250], every.class_names)


def first_run(gan: Gan, model: str) -> None:
    """Train the run that a page takes for granted, under the names that the pages give it."""
    if model == "cyclegan":
        data = ["data=unpaired", "data.path=zebras", "data.sources=horses", "data.size=16"]
    elif model == "inpainting":
        data = ["data=folder", "data.path=photos", "data.size=16"]
    else:
        data = ["data=mnist"]
    words = ["train", f"model={model}", *data, "run.dir=outputs/mine"]
    code, _, error = gan(*smaller(words))
    assert code == 0, error
    for name in ("soft", "a", "b", "sweeps/20261121/0", "sweeps/20261121/1"):
        shutil.copytree("outputs/mine", f"outputs/{name}")
    shutil.copy("outputs/mine/checkpoints/last.safetensors", "received.safetensors")


def run(gan: Gan, command: str, where: str) -> None:
    """Run a command of a page, or check what can be checked of one that is not run."""
    words = shlex.split(command)
    if words[:3] == ["pip", "install", "-e"]:
        pretend_install(Path(words[3]).absolute(), Path.cwd())
        return
    if command.startswith(tuple(NOT_RUN)):
        if words[0] == "gan":
            read_train(words[2:]) if words[1] == "train" else read_values(words[1], words[2:])
        elif words[0] == "python":
            assert words[1] == "-m" or (ROOT / words[1]).is_file(), f"{where}: {command}"
        return
    assert words[0] == "gan", f"{where}: {command} is neither run nor listed in NOT_RUN"
    small = smaller(words[1:])
    if small[0] == "bench":  # many seconds each, and made small they are alike
        if (measured := tuple(word for word in small if not word.startswith("out="))) in MEASURED:
            return
        MEASURED.add(measured)
    code, output, error = gan(*small)
    assert code == 0, f"{where}: {command}\nrun as gan {shlex.join(small)}\n{output}{error}"


def write_or_execute(block: Block) -> None:
    """Write a block that begins with the name of its file, and execute it if it is Python."""
    if name := re.match(r"# (\S+/\S+\.(?:py|yaml))\n", block.text):
        file = Path(name[1])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
    if block.language == "python":
        text = re.sub(r"\bsteps=\d+", "steps=2", block.text)
        exec(compile(text, "a page", "exec"), {"__name__": "page"})


marks = {page: [] if page in QUICK else [pytest.mark.slow] for page in pages()}


@pytest.mark.parametrize("page", [pytest.param(page, marks=marks[page]) for page in pages()])
def test_the_commands_of_a_page_run_in_order(page: str, scratch: Path, gan: Gan) -> None:
    text = (ROOT / page).read_text()
    if re.search(r"ckpt=|gan report|gan verify|load\(|resume=outputs/mine", text):
        first_run(gan, FIRST_RUN.get(page, "cgan"))
    given = set(scratch.rglob("*"))
    for block in blocks(ROOT / page):
        for command in commands(block):
            run(gan, command, page)
            if not page.endswith(".md"):  # its examples are alternatives
                remove_files(scratch, given)
        if block.language != "sh":
            write_or_execute(block)
        if page == "README.md":  # its table repeats commands of its blocks
            remove_files(scratch, given)


def remove_files(folder: Path, given: set[Path]) -> None:
    """Remove the files that a command wrote next to those that were given, but not its runs and latents."""
    for file in set(folder.rglob("*")) - given:
        if file.is_file() and "outputs" not in file.parts and file.suffix != ".npz":
            file.unlink()


def test_every_reason_not_to_run_a_command_is_still_needed() -> None:
    every = [command for page in pages() for block in blocks(ROOT / page) for command in commands(block)]
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in every)] == []
