"""gan verify: what a thing from somebody else is, and what it would touch, without building anything."""

import csv
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from safetensors import safe_open
from torch import Tensor

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import generator_weights, outline
from gancli.data.contents import PATHS
from gancli.data.decoder import BadImage
from gancli.data.image_files import decode_image
from gancli.data.npz import read_archive
from gancli.images import sides
from gancli.report.run_folder import WithoutAliases, read_run
from gancli.report.sweep_folder import find_runs
from gancli.runtime.cache import is_remembered
from gancli.runtime.checks import check_number
from gancli.runtime.files import typed_path
from gancli.runtime.text import csv_cell, one_line, plural, printable

LARGEST_TEXT = 10**8  # bytes
LONGEST, SHOWN = 300, 20  # characters of a line, and runs of a sweep
DOWNLOADED = ("mnist", "fashion_mnist", "cifar10", "stacked_mnist")


class Finding(NamedTuple):
    """One line of the answer."""

    name: str
    text: str
    sound: bool = True


def main(path: str) -> int:
    """Print the findings of a path; return 0 if everything is sound, else 1."""
    if not path:
        raise ValueError("nothing to verify was given; type gan verify FILE, RUN or SWEEP")
    given = typed_path(path)
    if not given.exists():
        raise ValueError(f"{path} does not exist; type gan verify FILE, RUN or SWEEP")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say about damage is in the findings
        findings = list(of_folder(given) if given.is_dir() else of_file(given))
    for finding in findings:
        mark = "" if finding.sound else "  NOT SOUND"
        print(f"{finding.name:<12}{one_line(finding.text, LONGEST)}{mark}")
    sound = all(finding.sound for finding in findings)
    print("sound" if sound else "not sound: do not use it")
    return 0 if sound else 1


def of_folder(folder: Path) -> Iterator[Finding]:
    """Yield the findings of a run, or of every run of a sweep."""
    runs = find_runs(folder)
    if runs != [folder]:
        yield Finding("sweep", f"{printable(str(folder))} with {plural(len(runs), 'run')}")
    for number, run in enumerate(runs):
        unsound = [f for f in of_run(run) if not f.sound]
        yield from of_run(run) if runs == [folder] else [f._replace(name=run.name[:11]) for f in unsound]
        if runs != [folder] and not unsound and number < SHOWN:
            yield Finding(run.name[:11], "sound")


def of_run(folder: Path) -> Iterator[Finding]:
    """Yield the findings of a run: its status, its checkpoints, and what is not read of it."""
    run = read_run(folder)
    yield Finding("run", f"{printable(str(folder))}: {run.choice('model')} on {run.choice('data')}, {run.status}")
    if run.damage:
        yield Finding("damaged", printable(run.damage), False)
    for text in run.skipped:
        yield Finding("not read", printable(text), "a link out" not in text)
    if run.skipped and any("a link out" in text for text in run.skipped):
        return
    for file in sorted((folder / "checkpoints").glob(f"[!.]*{checkpoint.SUFFIX}")):
        yield from of_checkpoint(file)


def of_file(file: Path) -> Iterator[Finding]:
    """Yield the findings of a file by its content, whatever its name is."""
    if checkpoint.is_checkpoint(file):
        yield from of_checkpoint(file)
        return
    size, read = file.stat().st_size, READERS.get(file.suffix.lower())
    try:
        if read:
            yield Finding(file.suffix[1:].lower(), f"{printable(str(file))}: {read(file)}, {size / 1e6:.1f} MB")
        elif file.suffix.lower() == ".npz":
            arrays = read_archive(file, ())
            yield Finding("arrays", f"{printable(str(file))}: {', '.join(map(str, arrays))}, {size / 1e6:.1f} MB")
        elif zipfile.is_zipfile(file):
            archive = zipfile.ZipFile(file)
            needed = sum(entry.file_size for entry in archive.infolist())
            files = plural(len(archive.namelist()), "file")
            text = f"{printable(str(file))}: {files}, {needed / 1e6:,.1f} MB unpacked"
            yield Finding("archive", text, needed <= 1.1 * size + 10**6)
        else:
            image = decode_image(file)[1]
            yield Finding("image", f"{printable(str(file))}: {image.format}, {image.width}x{image.height} {image.mode}")
    except BadImage as error:
        yield Finding(
            "unknown", f"{printable(str(file))} is no checkpoint, no archive, and as an image it {error}", False
        )
    except Exception as error:  # a damaged file can fail in any way
        yield Finding("damaged", f"{printable(str(file))}: {one_line(error, 200)}", False)


def of_checkpoint(file: Path) -> Iterator[Finding]:
    """Yield what a checkpoint holds, whether its checksum and its shapes hold, and what its settings name."""
    try:
        content = checkpoint.read(file)
        config, output, G = content["config"], content["output"], content["networks"]["G"]
        what = f"{config['model']['name']} of {plural(content['step'], 'step')}, {file.stat().st_size / 1e6:.1f} MB"
        yield Finding("checkpoint", f"{printable(str(file))}: {what}, its checksum holds")
        for side in sides(output["size"]):
            check_number("output.size", side, 1, 2**14)
        weights = generator_weights(content)
        network = outline(G["config"], weights)
        shapes = {name: x.shape for name, x in network.state_dict().items()}
        fits = shapes == {name: x.shape for name, x in weights.items()}
        yield Finding("builds", f"{G['config']['_target_']}, {weights_text(weights.values())}", fits)
        yield Finding("data", data_text(config["data"]))
    except ValueError as error:
        yield Finding("checkpoint", one_line(error, 250), False)
    except Exception as error:  # an untrusted file can fail in any way
        yield Finding("checkpoint", f"{printable(str(file))}: {type(error).__name__}: {one_line(error, 150)}", False)


def weights_text(weights: Iterable[Tensor]) -> str:
    """Return the number of weights, their size in memory and their types."""
    tensors = list(weights)
    types = sorted({str(x.dtype).removeprefix("torch.") for x in tensors})
    size = sum(x.numel() * x.element_size() for x in tensors) / 1e6
    return f"{plural(sum(x.numel() for x in tensors), 'number')} as {', '.join(types)}, {size:.1f} MB in memory"


def read_tensors(file: Path) -> str:
    """Return the tensors of a safetensors file of another program, by its header alone."""
    with safe_open(file, framework="pt") as opened:
        found = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118
        types = sorted({piece.get_dtype() for piece in found})
        count = sum(math.prod(piece.get_shape()) for piece in found)
    return f"{plural(len(found), 'tensor')}, {plural(count, 'number')} as {', '.join(types)}, not of gan"


def read_lines(file: Path) -> str:
    """Return the number of lines of JSON; ValueError where some are none."""
    lines = [line for line in _text(file).split("\n") if line.strip()]
    odd = sum(not _is_json(line) for line in lines)
    if odd:
        raise ValueError(f"{odd} of {plural(len(lines), 'line')} are not JSON")
    return plural(len(lines), "line")


def read_json(file: Path) -> str:
    """Return the keys of a JSON file."""
    content = json.loads(_text(file))
    return ", ".join(content) if isinstance(content, dict) else f"JSON, a {type(content).__name__}"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def read_table(file: Path) -> str:
    """Return rows and columns of a csv file; ValueError where a spreadsheet would take a cell for a formula."""
    rows = list(csv.reader(_text(file).splitlines()))
    for number, row in enumerate(rows, 1):
        for cell in row:
            if csv_cell(cell) != cell:
                raise ValueError(f"row {number} holds a formula, {cell[:50]!r}")
    return f"{plural(len(rows), 'row')} of {plural(max(map(len, rows), default=0), 'column')}"


def read_images(file: Path) -> str:
    """Return how many rows of images a table of the library datasets has, and its columns."""
    from gancli.data.tables import Table

    table = Table(file, "")
    rows = sum(1 for _ in table.rows([table.columns(file).image]))
    return f"{plural(rows, 'row')} of {', '.join(table.features)}"


def read_config(file: Path) -> str:
    """Return the keys of a yaml file, which must have no aliases."""
    content = yaml.load(_text(file), WithoutAliases)
    keys = ", ".join(str(key) for key in content) if isinstance(content, dict) else "no keys"
    return f"{keys}; classes named, none of which was built: {_text(file).count('_target_')}"


def read_graph(file: Path) -> str:
    """Return what wrote an ONNX file and how it is called."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    outside = sum(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
    if outside or not model.graph.node:
        raise ValueError(f"{plural(outside, 'tensor')} lie in other files" if outside else "it has no operations")
    names = ", ".join(value.name for value in [*model.graph.input, *model.graph.output])
    return (
        f"ONNX by {model.producer_name or 'an unnamed program'}, {plural(len(model.graph.node), 'operation')}, {names}"
    )


def _text(file: Path) -> str:
    if file.stat().st_size > LARGEST_TEXT:
        raise ValueError(f"it is longer than the {LARGEST_TEXT / 1e6:.0f} MB that are read of a text")
    return file.read_text(encoding="utf-8")


# By the end of a name: kinds of files that are no image and no archive. Each raises an error for a damaged file.
READERS: dict[str, Callable[[Path], str]] = {
    **{".safetensors": read_tensors, ".onnx": read_graph, ".csv": read_table, ".parquet": read_images},
    **{".jsonl": read_lines, ".json": read_json},
    **dict.fromkeys((".yaml", ".yml"), read_config),
}


def data_text(data: dict[str, Any]) -> str:
    """Return the data that a checkpoint was trained on, and what gan evaluate would do about them."""
    paths = [str(data[key]) for key in PATHS if data.get(key)]
    texts = [f"{path} ({'known here' if is_remembered(path) else 'not read unless typed as data='})" for path in paths]
    if data["name"] in DOWNLOADED:
        texts.append("downloaded by gan evaluate where it is missing")
    return f"{data['name']}: {'; '.join(texts) or 'comes with gan, nothing is read'}"
