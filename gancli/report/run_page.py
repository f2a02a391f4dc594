"""The page of a run, index.html: samples over time, curves, scores, config and provenance."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gancli.metrics.term import HIGHER, LOWER
from gancli.metrics.terms import find
from gancli.report.charts import metric_keys, run_charts, time_axes
from gancli.report.formatting import count, duration, number, pairs, yaml_value
from gancli.report.rendering import render
from gancli.report.run_folder import Run, is_number, read_run, resume_command
from gancli.report.thumbnails import thumbnail
from gancli.runtime.files import relative, write_text
from gancli.runtime.links import links_out
from gancli.runtime.text import one_line, shell_quote

GRIDS = 40  # on the page at most: first, last and evenly spaced ones
FRAMES_SIZE, FEWEST_GRIDS = 1_000_000, 12  # characters of all of them, about; at least so many however large they are
GRID_WIDTH, WIDE = 680, 1600  # pixels; for a grid of several images a cell
EVENTS = 50  # a warning that repeats at every step must not bury the page
RELOAD = 15  # seconds after which the page of a running run reloads itself
# Label and further arguments of commands that a run is for, by the `use` of its started event.
USES = {
    "reconstruct": ("reconstruct your own images", ""),
    "translate": ("translate your own images", ""),
    "inpaint": ("fill holes in your own images", " mask=centre"),
    "upscale": ("enlarge your own images", ""),
}
HIDDEN_EVENTS = ("started", "finished", "protocol", "grids")  # unless they have a message


class Grids(NamedTuple):
    """How the grids of samples are laid out."""

    parts: list[str]  # images side by side in a cell
    class_names: list[str]  # a name per column where columns are classes

    @property
    def wide(self) -> bool:
        return len(self.parts) > 1

    @property
    def caption(self) -> str:
        if self.wide:
            return f"in every group of {len(self.parts)}, from the left: {' · '.join(self.parts)}"
        return f"{'each column a class, ' if self.class_names else ''}from the same noise at every step"

    @property
    def real_caption(self) -> str:
        return f"training data, {'of the same classes' if self.class_names else 'to compare with'}"


def write_page(folder: Path, ending: dict[str, Any] | None = None) -> Path:
    """Write index.html into a run folder.

    Args:
        ending: event that follows once the page is on the disk.
    """
    run = read_run(folder)
    run.events.extend([ending] if ending else [])
    running, charts, grids = run.status == "running", run_charts(run), _grids(run)
    events = [event for event in run.events if event["event"] not in HIDDEN_EVENTS or event.get("message")]
    model, data = run.choice("model"), data_title(run)
    width = WIDE if grids.wide else GRID_WIDTH
    html = render(
        "run.html",
        title=f"{model} on {data}" if model and data else model or run.name,
        run=run,
        warnings=active_warnings(run),
        facts=_facts(run),
        grids=grids,
        frames=_frames(run, width),
        real=None if links_out(folder) else thumbnail(folder / "samples" / "real.png", width),
        history=(folder / "samples" / "history.gif").is_file(),
        charts=charts,
        waiting=running and bool(run.started),
        ranges=any(series["low"] for chart in charts for series in chart["series"]),
        scores=[score for score in run.scores if score.source != "quick"],  # quick metrics are curves
        provenance=_provenance(run),
        commands=commands(run),
        events=events[-EVENTS:],
        earlier_events=max(0, len(events) - EVENTS),
        config=_config_nodes(run.config, "", set(run.overrides)),
        refresh=RELOAD if running else 0,
        data={
            "charts": charts,
            "axes": time_axes(run),
            "running": running,
            "written": int(datetime.now().timestamp()),
        },
    )
    return write_text(folder / "index.html", html, durable=bool(ending))


def active_warnings(run: Run) -> list[dict[str, Any]]:
    """Return the warnings that no "recovered" event has followed."""
    active: dict[str, dict[str, Any]] = {}
    for event in run.events:
        finding = str(event.get("finding") or "")
        if finding and event["event"] == "warning":
            active[finding] = event
        elif event["event"] == "recovered":
            active.pop(finding, None)
    return list(active.values())


def data_title(run: Run) -> str:
    """Return what the data are called: by their folder where they are files of the user; empty when nothing says so."""
    name, files = run.choice("data"), run.started.get("files")
    of_files = one_line(files.get("name", "")) if isinstance(files, dict) else ""
    return of_files.removeprefix(f"{name} ") or name


def _facts(run: Run) -> list[tuple[str, str, str]]:
    """Return the numbers at the top of the page, each with its label and a note."""
    minutes = run.ending.get("minutes")
    minutes = minutes if is_number(minutes) else run.latest("minutes")
    budget = str(run.started.get("budget") or "") if run.status == "running" else ""
    in_steps = budget.endswith(" steps") and " or " not in budget
    facts = [
        (run.last_step, count, *((f"of {budget}", "") if in_steps else ("steps", budget and f"of {budget}"))),
        (run.latest("kimg"), number, "thousand images trained on", ""),
        (minutes, duration, "of training", ""),
        (run.latest("images_per_second"), count, "images per second", ""),
    ]
    values = {key: value for key in metric_keys(run) if (value := run.latest(key)) is not None}
    facts += [(value, number, key, _direction(key)) for key, value in list(values.items())[:4]]
    texts = [(show(value), label, note) for value, show, label, note in facts if value is not None]
    return [fact for fact in texts if fact[0]]


def _direction(key: str) -> str:
    """Return "lower is better" or "higher is better" for a term that has such a direction."""
    term = find(key)
    return next((words for words in (LOWER, HIGHER) if term and term.direction.startswith(words)), "")


def _grids(run: Run) -> Grids:
    layout: dict[str, Any] = next((event for event in reversed(run.events) if event["event"] == "grids"), {})
    parts, names = (layout.get(key) for key in ("parts", "class_names"))
    return Grids(*([str(item) for item in items] if isinstance(items, list) else [] for items in (parts, names)))


def _frames(run: Run, width: int) -> list[dict[str, Any]]:
    newest = thumbnail(run.samples[-1][1], width) if run.samples else None
    most = min(max(FRAMES_SIZE // len(newest.uri), FEWEST_GRIDS), GRIDS) if newest else GRIDS
    thumbnails = ((step, path, thumbnail(path, width)) for step, path in spread(run.samples, most))
    return [{"step": step, "file": path.name, "image": image} for step, path, image in thumbnails if image]


def _provenance(run: Run) -> list[tuple[str, str]]:
    started = run.started
    rows = [
        ("command", str(started.get("command") or "")),
        ("parameters", pairs(started.get("parameters"), count)),
        ("real images", count(started.get("images"))),
        *((name, str(started.get(name) or "")) for name in ("budget", "device", "machine")),
        ("versions", pairs(started.get("versions"))),
        *((event["event"], str(event["time"]).replace("T", " ")) for event in run.events if event.get("time")),
        ("folder", relative(run.folder)),
    ]
    return [row for row in rows if row[1]]


def commands(run: Run) -> list[tuple[str, str]]:
    """Return the commands that a person may type next, each with its label."""
    folder = shell_quote(relative(run.folder))
    found = []
    if run.status == "finished":
        found.append(("train on, twice as long", f"{resume_command(run.folder)} {_longer(run)}"))
    elif run.status == "running":  # a killed process leaves the same folder
        found.append(("resume, if it was killed", resume_command(run.folder)))
    elif run.is_resumable:
        found.append(("resume" if run.has_checkpoint else "train again", resume_command(run.folder)))
    if run.has_checkpoint:
        use, ckpt = str(run.started.get("use", "sample")), shell_quote(f"ckpt={relative(run.folder)}")
        if use in ("sample", "reconstruct"):
            found.append(("sample", f"gan sample {ckpt}"))
        if use in USES:
            label, more = USES[use]
            found.append((label, f"gan {use} IMAGE {ckpt}{more}"))
        data = run.config.get("data")
        if not (isinstance(data, dict) and data.get("channels") == 2):  # points of the plane, which have no scores
            found.append(("evaluate", f"gan evaluate {ckpt}{' images=DIR' * (use == 'upscale')}"))
            found.append(("play with it in a browser", f"gan export {ckpt} out=play.html"))
        found.append(("export G to a file of its own", f"gan export {ckpt} out=generator.safetensors"))
    if run.samples:
        found.append(("make a GIF of the samples over time", f"gan report {folder} gif=true"))
    parent = shell_quote(relative(run.folder.resolve().parent))
    return [*found, ("compare with the runs next to it", f"gan report {parent}")]


def _longer(run: Run) -> str:
    """Return overrides that double the budget of a finished run."""
    trainer = run.config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    budget = {key: trainer[key] for key in ("steps", "kimg", "minutes") if is_number(trainer.get(key))}
    budget = budget or {"steps": run.last_step or 1000}
    words = [f"trainer.{key}={2 * value:.12g}" for key, value in budget.items()]
    if trainer.get("evaluate_patience"):
        words.append("trainer.evaluate_patience=0")
    return " ".join(words)


def _config_nodes(node: dict[Any, Any], path: str, typed: set[str]) -> list[dict[str, Any]]:
    """Return the config as a tree. The top level is open, and a closed node shows its name or class."""
    nodes = []
    for key, value in node.items():
        dotted = f"{path}.{key}" if path else str(key)
        entry: dict[str, Any] = {"key": key, "typed": dotted in typed, "children": []}
        if isinstance(value, dict) and value:
            entry["hint"] = str(value.get("name") or value.get("_target_") or "").rpartition(".")[2]
            entry |= {"open": not path, "children": _config_nodes(value, dotted, typed)}
        else:
            entry["value"] = yaml_value(value)
        nodes.append(entry)
    return nodes


def spread(items: Sequence[Any], n: int) -> list[Any]:
    """Return at most n items: the first, the last and evenly spaced ones between."""
    if len(items) <= n:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, n).round().astype(int)]
