"""The page of a run, index.html: samples over time, curves, scores, config and provenance."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from gancli.report.charts import metric_keys, run_charts
from gancli.report.formatting import count, duration, number, pairs, yaml_value
from gancli.report.rendering import render
from gancli.report.run_folder import Run, is_number, read_run, resume_command
from gancli.report.thumbnails import thumbnail
from gancli.runtime.files import relative, write_text

GRIDS = 40  # on the page at most: first, last and evenly spaced ones
GRID_WIDTH = 640  # pixels
EVENTS = 50  # a warning that repeats at every step must not bury the page
RELOAD = 15  # seconds after which the page of a running run reloads itself
# Label and further arguments of commands that a run is for, by the `use` of its started event.
USES = {
    "reconstruct": ("reconstruct images", ""),
    "translate": ("translate images", ""),
    "inpaint": ("fill holes in images", " mask=centre"),
    "upscale": ("enlarge images", ""),
}


def write_page(folder: Path) -> Path:
    """Write index.html into a run folder."""
    run = read_run(folder)
    running, charts = run.status == "running", run_charts(run)
    hidden = ("started", "finished", "protocol")
    events = [event for event in run.events if event["event"] not in hidden or event.get("message")]
    model, data = run.choice("model"), run.choice("data")
    html = render(
        "run.html",
        title=f"{model} on {data}" if model and data else model or run.name,
        run=run,
        warnings=active_warnings(run),
        facts=_facts(run),
        frames=_frames(run),
        charts=charts,
        ranges=any(series["low"] for chart in charts for series in chart["series"]),
        scores=[score for score in run.scores if score.source != "quick"],  # quick metrics are curves
        provenance=_provenance(run),
        commands=_commands(run),
        events=events[-EVENTS:],
        earlier_events=max(0, len(events) - EVENTS),
        config=_config_nodes(run.config, "", set(run.overrides)),
        refresh=RELOAD if running else 0,
        data={"charts": charts, "running": running, "written": int(datetime.now().timestamp())},
    )
    return write_text(folder / "index.html", html)


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


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page, each with its label."""
    minutes = run.ending.get("minutes")
    minutes = minutes if is_number(minutes) else run.latest("minutes")
    facts = [
        (run.last_step, count, "steps"),
        (run.latest("kimg"), number, "thousand images trained on"),
        (minutes, duration, "of training"),
        (run.latest("images_per_second"), count, "images a second"),
    ]
    values = {key: value for key in metric_keys(run) if (value := run.latest(key)) is not None}
    facts += [(value, number, key) for key, value in list(values.items())[:4]]
    texts = [(show(value), label) for value, show, label in facts if value is not None]
    return [(text, label) for text, label in texts if text]


def _frames(run: Run) -> list[dict[str, Any]]:
    thumbnails = ((step, path, thumbnail(path, GRID_WIDTH)) for step, path in spread(run.samples, GRIDS))
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


def _commands(run: Run) -> list[tuple[str, str]]:
    """Return the commands that a person may type next, each with its label."""
    commands = []
    if run.has_checkpoint:
        use, ckpt = str(run.started.get("use", "sample")), shlex.quote(f"ckpt={relative(run.folder)}")
        if use in ("sample", "reconstruct"):
            commands.append(("sample from it", f"gan sample {ckpt}"))
        if use in USES:
            label, more = USES[use]
            commands.append((label, f"gan {use} IMAGE {ckpt}{more}"))
        commands.append(("evaluate it", f"gan evaluate {ckpt}{' images=DIR' * (use == 'upscale')}"))
    if run.status == "running":  # a killed process leaves the same folder
        commands.append(("if it was killed, resume", resume_command(run.folder)))
    elif run.status != "finished":
        commands.append(("resume" if commands else "train again", resume_command(run.folder)))
    parent = shlex.quote(relative(run.folder.resolve().parent))
    return [*commands, ("compare with its neighbours", f"gan report {parent}")]


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
