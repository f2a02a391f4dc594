"""A run's page: one self-contained HTML file of grids over time, curves, config and what produced them.

The page fetches nothing (its content security policy says so): pictures are data URIs, and the only
script is the one below. Everything that a person or a library wrote is escaped.
"""

import base64
import io
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gancli import __version__
from gancli.report.run_folder import BOOKKEEPING, Run, is_number, read_run

GRIDS = 40  # on the page at most: first, last and evenly spread between
GRID_WIDTH = 640  # pixels
POINTS = 240  # on a curve at most; a longer one is cut into as many buckets, each drawn as a median and a range
COLOURS = 8


def write_page(folder: Path) -> Path:
    """Write a run's index.html, whole or not at all."""
    run = read_run(folder)
    return write_text(folder / "index.html", page(run))


def write_text(path: Path, text: str) -> Path:
    """Write under a temporary name, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


# ---- the page


def page(run: Run) -> str:
    """The HTML of a run's page."""
    charts = run_charts(run)
    body = [
        _header(run),
        f'<div class="hero"><div class="side">{_grids(run)}{_next(run)}</div>{_curves(charts)}</div>',
        _scores(run),
        f'<div class="pair">{_provenance(run)}{_events(run)}</div>',
        _config(run),
        f"<footer>{_e(run.name)} · written {now()} by gancli {_e(__version__)}</footer>",
        data_script({"charts": charts, "running": run.status == "running", "written": int(datetime.now().timestamp())}),
        f"<script>{SCRIPT}</script>",
    ]
    return document(f"{title(run)} · {run.status}", "\n".join(body), refresh=15 if run.status == "running" else 0)


def document(title: str, body: str, refresh: int = 0) -> str:
    """A whole HTML file around a body; `refresh` reloads it every so many seconds."""
    reload = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
{reload}<meta name="color-scheme" content="light dark">
<title>{_e(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def data_script(data: Any) -> str:
    """Values for the script, as JSON that cannot end the element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="data">{text}</script>'


def title(run: Run) -> str:
    """`dcgan on mnist`, or the folder's name when the config does not say."""
    model, data = run.choice("model"), run.choice("data")
    return f"{model} on {data}" if model and data else model or run.name


def _header(run: Run) -> str:
    ending = run.ending
    steps = [step for step in (ending.get("step"), run.last.get("step")) if step is not None and is_number(step)]
    facts = [("steps", _count(max(steps, default=None)))]  # a run is further than where it was started
    # A metric may be logged in a row of its own, so the last row need not hold everything.
    seen = run.latest("kimg")
    if seen is not None:
        facts.append(("thousand images seen", number(seen)))
    minutes = ending.get("minutes")
    minutes = minutes if is_number(minutes) else run.latest("minutes")
    if minutes is not None:
        facts.append(("of training", duration(minutes)))
    speed = run.latest("images_per_second")
    if speed is not None:
        facts.append(("images a second", _count(speed)))
    facts += [(key, number(run.latest(key))) for key in further_metrics(run) if run.latest(key) is not None][:4]
    cells = "".join(f"<div><dd>{_e(value)}</dd><dt>{_e(label)}</dt></div>" for label, value in facts if value)
    note = f'<p class="note {run.status}">{_e(run.message)}</p>' if run.message else ""
    for warning in active_warnings(run):
        text = _e(warning.get("message") or warning["finding"])
        note += f'<p class="note warning">{text}{_step(warning, "since step")}</p>'
    return f"""<header>
<p class="over"><span class="status {run.status}">{run.status}</span> <span>{_e(run.name)}</span></p>
<h1>{_e(title(run))}</h1>
{note}<p class="note stopped" id="stale" hidden></p>
<dl class="facts">{cells}</dl>
</header>"""


def active_warnings(run: Run) -> list[dict[str, Any]]:
    """The warnings that have begun and are not over: events that name a finding, which no "recovered" has followed."""
    active: dict[str, dict[str, Any]] = {}
    for event in run.events:
        finding = str(event.get("finding") or "")
        if finding and event["event"] == "warning":
            active[finding] = event
        elif event["event"] == "recovered":
            active.pop(finding, None)
    return list(active.values())


def _grids(run: Run) -> str:
    frames = []
    for step, path in spread(run.samples, GRIDS):
        picture = picture_uri(path, GRID_WIDTH)
        if picture:
            frames.append((step, path, *picture))
    if not frames:
        none = '<div class="frames none">No grid of samples was written.</div>'
        return f'<section class="samples"><h2>Samples</h2>{none}</section>'
    last = len(frames) - 1
    images = "\n".join(
        f'<a class="frame{" on" if i == last else ""}" href="samples/{_e(path.name)}" data-step="{step}" '
        f'title="open {_e(path.name)}">'
        f'<img src="{uri}" width="{width}" height="{height}" decoding="sync" alt="Samples at step {step:,}"></a>'
        for i, (step, path, uri, width, height) in enumerate(frames)
    )
    left_out = len(run.samples) - len(frames)
    note = f'<p class="fine">{len(frames)} of {len(run.samples)} grids; all are in samples/</p>' if left_out else ""
    off = "" if last else " disabled"
    return f"""<section class="samples" aria-label="Samples">
<h2>Samples <span class="fine">the same noise throughout</span></h2>
<div class="frames">
{images}
</div>
<div class="player">
<button id="play" aria-label="Play"{off}></button>
<input id="slider" type="range" min="0" max="{last}" value="{last}" aria-label="Step of the grid"{off}>
<output id="step">step {frames[-1][0]:,}</output>
</div>
{note}</section>"""


def _curves(charts: Sequence[dict[str, Any]]) -> str:
    note = (
        "line: median of neighbouring rows; band: their range"
        if any(s["low"] for c in charts for s in c["series"])
        else ""
    )
    return (
        f'<section aria-label="Curves"><h2>Curves <span class="fine">{note}</span></h2>'
        f"{charts_html(charts) or '<p class=none>No numbers were written.</p>'}</section>"
    )


def _scores(run: Run) -> str:
    """What gan evaluate and evaluations in training have found, each with its protocol; nothing where there is none."""
    parts = []
    for score in run.scores:
        if score.by == "objective":  # its curves are above
            continue
        heading, details = score.told
        step = f' <span class="fine">step {_e(_count(score.step))}</span>' if score.step is not None else ""
        cells = "".join(
            f"<dt>{_e(name)}</dt><dd>{_e(number(value))}</dd>"
            for name, value in score.figures.items()
            if value is not None
        )
        parts.append(f'<h3>{_e(heading)}{step}</h3><p class="fine">{_e(details)}</p><dl class="table">{cells}</dl>')
    return f"<section><h2>Scores</h2>{''.join(parts)}</section>" if parts else ""


def _provenance(run: Run) -> str:
    started = run.started
    versions = started.get("versions")
    parameters = started.get("parameters")
    times = [(e["event"], e["time"]) for e in run.events if e.get("time")]
    rows = [
        ("command", _command(started["command"]) if started.get("command") else ""),
        ("parameters", _e(_pairs(parameters, _count))),
        ("real images", _e(_count(started.get("images")))),
        ("budget", _e(started.get("budget") or "")),
        ("device", _e(started.get("device") or "")),
        ("machine", _e(started.get("machine") or "")),
        ("versions", _e(_pairs(versions, str))),
        *((what, _e(str(time).replace("T", " "))) for what, time in times),
        ("folder", f"<code>{_e(_here(run.folder))}</code>"),
    ]
    cells = "".join(f"<dt>{_e(name)}</dt><dd>{value}</dd>" for name, value in rows if value)
    return f'<section><h2>What produced it</h2><dl class="table">{cells}</dl></section>'


# What else than samples a run is for, by the command that its "started" row names, and what is typed behind it.
USES = {
    "reconstruct": ("reconstruct pictures", ""),
    "translate": ("translate pictures", ""),
    "inpaint": ("fill holes in pictures", " mask=centre"),
    "upscale": ("enlarge pictures", ""),
}


def _next(run: Run) -> str:
    commands = []
    if any((run.folder / "checkpoints").glob("*.safetensors")):
        use, ckpt = str(run.started.get("use", "sample")), _argument("ckpt", run.folder)
        if use in ("sample", "reconstruct"):
            commands.append(("sample from it", f"gan sample {ckpt}"))
        if use in USES:
            what, more = USES[use]
            commands.append((what, f"gan {use} PICTURE {ckpt}{more}"))
        commands.append(("measure it", f"gan evaluate {ckpt}{' images=DIR' * (use == 'upscale')}"))
    if run.status != "finished":
        # A running run needs this only when its process was killed, which the folder cannot tell.
        what = "if it was killed, resume" if run.status == "running" else "resume" if commands else "train again"
        commands.append((what, resume_command(run)))
    commands.append(("compare with its neighbours", f"gan report {shlex.quote(_here(run.folder.resolve().parent))}"))
    cells = "".join(f"<dt>{_e(name)}</dt><dd>{_command(command)}</dd>" for name, command in commands)
    return f'<section><h2>What to type next</h2><dl class="table">{cells}</dl></section>'


def resume_command(run: Run) -> str:
    """The command that continues a run: what was typed for this job, with its folder."""
    overrides = [str(o) for o in run.started.get("overrides") or [] if not str(o).startswith("run.dir=")]
    return f"{shlex.join(['gan', 'train', *overrides])} {_argument('run.dir', run.folder)}"


def _events(run: Run) -> str:
    told = [e for e in run.events if e["event"] not in ("started", "finished", "protocol") or e.get("message")]
    if not told:
        return ""
    # A warning that repeats every step must not bury the page.
    shown = told[-50:]
    rows = "".join(
        f'<li class="{_e(e["event"])}"><b>{_e(e["event"])}</b>'
        + _step(e, "step")
        + (f" {_e(e['message'])}" if e.get("message") else "")
        + "</li>"
        for e in shown
    )
    more = f'<p class="fine">{len(told) - len(shown):,} earlier ones are in metrics.jsonl</p>' if len(told) > 50 else ""
    return f'<section><h2>Events</h2><ul class="events">{rows}</ul>{more}</section>'


def _step(event: dict[str, Any], word: str) -> str:
    return f' <span class="fine">{word} {_e(_count(event["step"]))}</span>' if event.get("step") is not None else ""


def _config(run: Run) -> str:
    if not run.config:
        return ""
    typed = '<span class="fine">typed on the command line: <b class="typed">so</b></span>' if run.overrides else ""
    tree = _tree(run.config, "", set(run.overrides))
    return f'<section><h2>Config {typed}</h2><div class="config">{tree}</div></section>'


def _tree(node: dict[Any, Any], path: str, typed: set[str]) -> str:
    items = []
    for key, value in node.items():
        here = f"{path}.{key}" if path else str(key)
        name = f'<span class="key{" typed" if here in typed else ""}">{_e(key)}</span>'
        if isinstance(value, dict) and value:
            # Config groups stand open; what lies in them (a network, an optimizer) shows its class until it is opened.
            hint = str(value.get("name") or value.get("_target_") or "").rpartition(".")[2]
            state = "" if path else " open"
            summary = f'<summary>{name} <span class="fine">{_e(hint)}</span></summary>'
            items.append(f"<li><details{state}>{summary}{_tree(value, here, typed)}</details></li>")
        else:
            items.append(f'<li>{name} <span class="value">{_e(plain(value))}</span></li>')
    return f"<ul>{''.join(items)}</ul>"


# ---- curves


def run_charts(run: Run) -> list[dict[str, Any]]:
    """The charts of a run: losses, D(real) and D(fake), one a further metric, gradient norms, throughput."""
    keys = run.keys
    losses = [key for key in keys if "/" in key]
    verdicts = [key for key in keys if _is_verdict(key)]
    charts = [("losses", losses), (", ".join(verdicts), verdicts)]
    charts += [(key, [key]) for key in further_metrics(run)]
    charts.append(("gradient norms", [key for key in keys if _is_norm(key)]))
    charts.append(("images a second", [key for key in keys if key == "images_per_second"]))
    rate = run.series("lr")[1] if "lr" in keys else np.empty(0)
    if np.unique(rate[np.isfinite(rate)]).size > 1:
        charts.append(("learning rate", ["lr"]))
    return [chart(name, [(key, *run.series(key)) for key in group]) for name, group in charts if group]


def further_metrics(run: Run) -> list[str]:
    """What was measured beside losses, D(real), D(fake), norms and bookkeeping: the metrics of quality, if any."""
    watched = {key for key in run.keys if "/" in key or _is_verdict(key) or _is_norm(key)}
    return [key for key in run.keys if key not in watched and key not in BOOKKEEPING]


def chart(name: str, lines: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """What the script draws: curves of one scale. Values that all lie in [0, 1] as D(real) does are shown on it."""
    series = [curve(*line) for line in lines]
    inside = all(0 <= bound <= 1 for s in series for bound in s["extent"] or (0,))
    return {"name": name, "unit": inside and all(_is_verdict(s["name"]) for s in series), "series": series}


def curve(name: str, steps: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """A curve of at most POINTS points: the median of each bucket of rows and, when buckets hold many, their range."""
    n = len(values)
    edges = np.linspace(0, n, min(n, POINTS) + 1).astype(int)
    buckets = [slice(a, b) for a, b in itertools.pairwise(edges)]

    def each(of: Callable[[np.ndarray], Any]) -> list[float | None]:
        # A bucket without a finite value is a gap.
        finite = (values[b][np.isfinite(values[b])] for b in buckets)
        return [_digits(of(v)) if v.size else None for v in finite]

    good = values[np.isfinite(values)]
    low, high, beyond = _window(good)
    return {
        "name": name,
        "x": [round(float(steps[b].mean()), 1) for b in buckets],
        "y": each(np.median),
        "low": each(np.min) if n > POINTS else None,
        "high": each(np.max) if n > POINTS else None,
        "window": [low, high] if good.size else None,
        "extent": [_digits(good.min()), _digits(good.max())] if good.size else None,
        "beyond": beyond,
        "last": _digits(good[-1]) if good.size else None,
        "bad": n - good.size,
        "rows": n,
    }


def charts_html(charts: Sequence[dict[str, Any]]) -> str:
    """The frames of charts, with legends that are readable before, and without, the script."""
    return "\n".join(_chart_html(chart) for chart in charts)


def _chart_html(chart: dict[str, Any]) -> str:
    keys, notes = [], []
    for i, s in enumerate(chart["series"]):
        value = number(s["last"]) if s["last"] is not None else "–"
        # A lone curve is named by its chart.
        name = _e(s["name"]) if len(chart["series"]) > 1 else ""
        keys.append(
            f'<button class="key c{i % COLOURS}" aria-pressed="true"><i></i>{name} <output>{value}</output></button>'
        )
        if s["bad"]:
            notes.append(f"{s['name']}: {s['bad']:,} of {s['rows']:,} not finite")
        if s["beyond"]:
            low, high = s["extent"]
            notes.append(f"{s['name']}: spikes off the chart, {number(low)} to {number(high)} in all")
    return f"""<figure class="chart">
<figcaption>
<h3>{_e(chart["name"])}</h3><div class="legend">{"".join(keys)}</div><span class="at fine"></span>
</figcaption>
<div class="plot"></div>
<p class="fine">{_e(" · ".join(notes))}</p>
</figure>"""


def _window(values: np.ndarray) -> tuple[float, float, bool]:
    """The part of the values to draw, and whether spikes lie beyond it: one spike must not flatten a curve."""
    if not values.size:
        return 0.0, 1.0, False
    low, high = float(values.min()), float(values.max())
    inner = np.quantile(values, [0.005, 0.995])
    width = float(inner[1] - inner[0])
    if values.size >= 50 and width > 0 and high - low > 4 * width:
        low, high = max(low, float(inner[0]) - width / 4), min(high, float(inner[1]) + width / 4)
        return _digits(low), _digits(high), True
    return _digits(low), _digits(high), False


def _is_verdict(key: str) -> bool:
    """Whether a key is what D says of something: D(real), D_A(fake)."""
    return re.fullmatch(r"D\w*\(.+\)", key) is not None


def _is_norm(key: str) -> bool:
    """Whether a key is the length of a player's gradient: gradient_norm(G)."""
    return key.startswith("gradient_norm")


# ---- pieces


def spread(items: Sequence[Any], n: int) -> list[Any]:
    """At most n of the items: the first, the last, evenly spread between."""
    if len(items) <= n:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, n).round().astype(int)]


def picture_uri(path: Path, width: int) -> tuple[str, int, int] | None:
    """A picture as a data URI at most `width` pixels wide, with its size; None when it cannot be read."""
    try:
        return _picture_uri(path, width, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=2 * GRIDS)
def _picture_uri(path: Path, width: int, changed: int) -> tuple[str, int, int]:
    # A run rewrites its page after every grid; only the new grid is encoded.
    stored = path.read_bytes()
    with Image.open(io.BytesIO(stored)) as opened:
        size, kind, picture = opened.size, opened.format or "", opened.convert("RGB")
    if size[0] > width:
        size = (width, max(1, round(size[1] * width / size[0])))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    elif kind == "PNG" and len(stored) <= 32_000:
        return _uri(stored, "png"), *size
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85, method=3)
    return _uri(buffer.getvalue(), "webp"), *size


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def number(value: Any) -> str:
    """A number for a person: four digits, thousands separated; text passes as it is."""
    if not is_number(value):
        return "" if value is None else str(value)
    if not np.isfinite(value):
        return "not finite"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(minutes: float) -> str:
    if not np.isfinite(minutes):
        return ""
    if minutes < 1:
        return f"{minutes * 60:.0f} s"
    return f"{minutes:.3g} min" if minutes < 60 else f"{minutes // 60:,.0f} h {minutes % 60:.0f} min"


def plain(value: Any) -> str:
    """A config value as YAML would write it on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(plain(v) for v in value)}]"
    return str(value)


def now() -> str:
    return datetime.now().isoformat(sep=" ", timespec="minutes")


def _count(value: Any) -> str:
    return f"{value:,.0f}" if is_number(value) and np.isfinite(value) else str(value or "")


def _digits(value: Any) -> float:
    """Five digits are more than a screen shows."""
    return float(f"{float(value):.5g}")


def _pairs(values: Any, show: Callable[[Any], str]) -> str:
    return " · ".join(f"{key} {show(value)}" for key, value in values.items()) if isinstance(values, dict) else ""


def _here(folder: Path) -> str:
    """A folder as typed from here: relative when it lies below."""
    path = folder.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _argument(key: str, folder: Path) -> str:
    """`key=folder` for a shell and, behind it, for Hydra, which wants quotes around anything but plain names."""
    path = _here(folder)
    if re.fullmatch(r"[\w./-]+", path, re.ASCII):
        return f"{key}={path}"
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    return shlex.quote(f'{key}="{quoted}"')


def _command(text: Any) -> str:
    return f'<code class="command">{_e(text)}</code><button class="copy">copy</button>'


def _e(value: Any) -> str:
    return escape(str(value))


# ---- look

STYLE = """
:root {
  --ink: #1c1e21; --soft: #666c75; --line: #e3e5e8; --paper: #fff; --wash: #f5f6f7; --link: #0b57a4;
  --good: #1a7f45; --busy: #0b62b8; --warn: #96610a; --bad: #b3261e;
  --c0: #1f6fb5; --c1: #d9662b; --c2: #2a8f5b; --c3: #8a56b8; --c4: #b8860b; --c5: #c2418a; --c6: #4a9bb0;
    --c7: #7a7f87;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e6e9; --soft: #969ca6; --line: #2d3136; --paper: #131517; --wash: #1c1f22; --link: #7ab5f0;
    --good: #5cc48a; --busy: #6cb2f2; --warn: #dfaa4e; --bad: #f08a80;
    --c0: #63aaec; --c1: #f08c55; --c2: #5cc48a; --c3: #b78be0; --c4: #d9b24a; --c5: #ea7fb8; --c6: #74c4d8;
      --c7: #a2a7af;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; overflow-y: scroll; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 36px 28px 28px; }
h1 { font-size: 34px; line-height: 1.15; font-weight: 600; letter-spacing: -.02em; margin: 4px 0 0;
  overflow-wrap: anywhere; }
h2 { font-size: 17px; font-weight: 600; letter-spacing: -.005em; margin: 0 0 12px; }
h3 { font-size: 13px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
p { margin: 0; }
a { color: var(--link); }
section { margin-top: 44px; min-width: 0; }
.fine { color: var(--soft); font-size: 12.5px; font-weight: 400; letter-spacing: 0; }
.none { color: var(--soft); }
.over { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; color: var(--soft); font-size: 13px;
  overflow-wrap: anywhere; }
.status { font-weight: 600; white-space: nowrap; }
.status::before { content: ""; display: inline-block; width: 8px; height: 8px; border-radius: 50%;
  background: currentColor;
  margin-right: 6px; }
.status.finished { color: var(--good); } .status.running { color: var(--busy); }
.status.stopped { color: var(--warn); } .status.failed { color: var(--bad); }
.note { margin-top: 14px; padding: 8px 14px; border-left: 3px solid var(--warn); background: var(--wash);
  overflow-wrap: anywhere;
  max-width: 80ch; }
.note.failed { border-color: var(--bad); }
.facts { display: flex; flex-wrap: wrap; gap: 14px 40px; margin: 20px 0 0; }
.facts dd { margin: 0; font-size: 21px; line-height: 1.2; font-variant-numeric: tabular-nums;
  letter-spacing: -.01em; }
.facts dt { color: var(--soft); font-size: 12.5px; overflow-wrap: anywhere; }
.facts div { display: flex; flex-direction: column; }

.hero { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 48px; align-items: start; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 48px; }
.frames { display: grid; background: var(--wash); border-radius: 4px; overflow: hidden; min-height: 120px;
  align-items: center;
  justify-items: center; }
.frame { grid-area: 1 / 1; visibility: hidden; width: 100%; line-height: 0; }
.frame.on { visibility: visible; }
.frame img { width: 100%; height: auto; }
.player { display: flex; gap: 12px; align-items: center; margin-top: 10px; }
.player input { flex: 1; min-width: 0; accent-color: var(--c0); margin: 0; height: 32px; }
.player output { min-width: 8.5em; text-align: right; font-variant-numeric: tabular-nums; font-size: 13.5px; }
#play { width: 36px; height: 36px; flex: none; border: 1px solid var(--line); border-radius: 50%; background: none;
  padding: 0;
  display: grid; place-items: center; color: var(--ink); cursor: pointer; }
#play::before { content: ""; border: solid transparent; border-width: 6px 0 6px 10px;
  border-left-color: currentColor; margin-left: 3px; }
#play.on::before { width: 10px; height: 12px; border: solid currentColor; border-width: 0 3px; margin: 0; }
#play:disabled { opacity: .35; cursor: default; }

.chart { margin: 0 0 18px; min-width: 0; }
.chart figcaption { display: flex; gap: 0 20px; align-items: baseline; padding-left: 46px; margin-bottom: 2px; }
.chart .at { white-space: nowrap; font-variant-numeric: tabular-nums; margin-left: auto; min-width: 6.5em;
  text-align: right; }
.chart > .fine { margin: 2px 0 0 46px; } .chart > .fine:empty { display: none; }
.chart h3 { flex: none; max-width: 45%; }
.legend { display: flex; flex-wrap: wrap; gap: 0 14px; min-width: 0; }
.key { border: 0; background: none; padding: 3px 0; font: inherit; font-size: 12.5px; color: var(--ink);
  cursor: pointer;
  display: inline-flex; align-items: baseline; overflow-wrap: anywhere; text-align: left; }
.key i { flex: none; width: 14px; height: 3px; border-radius: 2px; background: var(--c); align-self: center;
  margin-right: 6px; }
.key output { min-width: 4.2em; padding-left: 6px; color: var(--soft); font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.key[aria-pressed=false] { opacity: .4; }
.plot { height: 190px; touch-action: pan-y; cursor: crosshair; }
.plot svg { display: block; overflow: hidden; }
.plot text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums; }
.rule { stroke: var(--line); } .base { stroke: var(--soft); stroke-opacity: .6; }
.line { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
.band { fill: var(--c); opacity: .16; }
.dot { fill: var(--c); }
.cursor { stroke: var(--soft); } .mark { stroke: var(--ink); stroke-opacity: .55; stroke-dasharray: 2 3; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }

.table { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 7px 18px; margin: 0;
  font-size: 14px; }
.side .table { grid-template-columns: minmax(0, 1fr); gap: 0; } .side .table dd { margin-bottom: 9px; }
.table dt { color: var(--soft); }
.table dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
code, .config { font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.command { background: var(--wash); border-radius: 4px; padding: 3px 7px; margin-left: -7px;
  box-decoration-break: clone;
  -webkit-box-decoration-break: clone; user-select: all; }
.copy { border: 0; background: none; color: var(--link); font: inherit; font-size: 12.5px; cursor: pointer;
  padding: 2px 8px; min-width: 62px;
  text-align: left; }
.events { list-style: none; margin: 0; padding: 0; font-size: 14px; }
.events li { padding: 4px 0; overflow-wrap: anywhere; }
.events b { font-weight: 600; margin-right: 6px; }
.events .warning b, .events .rollback b, .events .stopped b { color: var(--warn); }
.events .failed b { color: var(--bad); } .events .recovered b { color: var(--good); }
.config ul { list-style: none; margin: 0; padding: 0; }
.config ul ul { padding-left: 18px; border-left: 1px solid var(--line); margin-left: 4px; }
.config > ul { columns: 3 340px; column-gap: 40px; }
.config > ul > li { break-inside: avoid-column; padding-bottom: 4px; }
.config li { overflow-wrap: anywhere; }
.config summary { cursor: pointer; list-style: none; }
.config summary::-webkit-details-marker { display: none; }
.config summary::before { content: "▸"; color: var(--soft); display: inline-block; width: 1.1em; margin-left: -4px; }
.config details[open] > summary::before { content: "▾"; }
.config > ul > li > details > summary .key, .config > ul > li > .key { font-weight: 600; }
.config .key { all: unset; color: var(--soft); }
.config > ul > li > .key, .config > ul > li > details > summary .key { color: var(--ink); }
.config .typed, b.typed { color: var(--c1) !important; font-weight: 600; }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 12.5px;
  overflow-wrap: anywhere; }
button:focus-visible, input:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--c0);
  outline-offset: 2px; }

@media (min-width: 900px) {
  .hero { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); }
  .pair { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); }
}
@media (min-width: 900px) and (min-height: 900px) { .side { position: sticky; top: 0; } }
@media (max-width: 600px) {
  main { padding: 22px 16px; }
  h1 { font-size: 27px; }
  section { margin-top: 34px; }
  .facts { gap: 12px 28px; } .facts dd { font-size: 18px; }
  .table { grid-template-columns: minmax(0, 1fr); gap: 0; } .table dd { margin-bottom: 9px; }
  .plot { height: 170px; }
  .chart figcaption { padding-left: 0; flex-wrap: wrap; } .chart > .fine { margin-left: 0; }
  .chart .at { position: absolute; right: 0; top: 0; } .chart { position: relative; }
  .chart h3 { max-width: none; width: 100%; padding-right: 7em; }
}
@media print { .side { position: static; } .copy, .player { display: none; } }
"""

SCRIPT = r"""
(() => {
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);

// Numbers as Python's number() writes them.
const show = v => {
  if (v == null) return "–";
  const size = Math.abs(v);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return v.toExponential(2);
  if (size >= 1000 || Number.isInteger(v)) return Math.round(v).toLocaleString("en-US");
  return String(Number(v.toPrecision(4)));
};
const ticks = (low, high, count) => {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return [found, step];
};
// `size` is the largest value of the axis, so that one axis has one unit.
const label = (v, step, size) => {
  if (v === 0) return "0";
  if (size >= 1e9 || step < 1e-4) return v.toExponential(1);
  for (const [from, unit, name] of [[1e6, 1e6, "M"], [1e4, 1e3, "k"]])
    if (size >= from) return Number((v / unit).toFixed(3)) + name;
  return v.toLocaleString("en-US", {maximumFractionDigits: Math.max(0, 1 + Math.ceil(-Math.log10(step) - 1e-9))});
};
const draw = (parent, name, attributes, text) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) e.setAttribute(key, attributes[key]);
  if (text != null) e.textContent = text;
  return parent.appendChild(e);
};
const nearest = (xs, x) => {
  let a = 0, b = xs.length - 1;
  while (b - a > 1) { const m = (a + b) >> 1; if (xs[m] < x) a = m; else b = m; }
  return Math.abs(xs[a] - x) <= Math.abs(xs[b] - x) ? a : b;
};

// ---- charts: one step axis for all of them, so a crosshair in one reads in every one
let left = Infinity, right = -Infinity;
for (const c of data.charts) for (const s of c.series) for (const x of s.x) {
  left = Math.min(left, x);
  right = Math.max(right, x);
}
if (left < right) left = left <= 0.25 * right ? 0 : left;
else { left -= 1; right += 1; }

const charts = data.charts.map((chart, k) => {
  const figure = document.querySelectorAll(".chart")[k];
  const plot = figure.querySelector(".plot"), at = figure.querySelector(".at");
  const keys = [...figure.querySelectorAll(".key")];
  let px = x => x, layer = null, width = 0, height = 0, inside = null;

  function redraw() {
    width = plot.clientWidth; height = plot.clientHeight;
    if (!width) return;
    plot.replaceChildren();
    const svg = draw(plot, "svg", {width, height, role: "img", "aria-label": chart.name});
    const on = chart.series.filter((s, i) => keys[i].getAttribute("aria-pressed") === "true" && s.window);
    let low = Math.min(...on.map(s => s.window[0])), high = Math.max(...on.map(s => s.window[1]));
    if (chart.unit || !on.length) { low = 0; high = 1; }
    else {
      const pad = high > low ? 0.06 * (high - low) : Math.abs(high) * 0.1 || 1;
      // A scale that nearly reaches zero shows it.
      low = low >= 0 && low < 0.25 * high ? 0 : low - pad;
      high += pad;
    }
    const box = {left: 46, right: width - 14, top: 8, bottom: height - 22};
    px = x => box.left + (x - left) / (right - left) * (box.right - box.left);
    const py = y => box.bottom - (y - low) / (high - low) * (box.bottom - box.top);
    const [ys, stepY] = ticks(low, high, 4);
    for (const y of ys) {
      const at = py(y);
      draw(svg, "line", {class: y === 0 ? "base" : "rule", x1: box.left, x2: box.right, y1: at, y2: at});
      draw(svg, "text", {x: box.left - 7, y: at + 4, "text-anchor": "end"}, label(y, stepY, Math.max(-low, high)));
    }
    const [xs, stepX] = ticks(left, right, Math.max(2, Math.min(6, width / 90)));
    for (const x of xs.filter(x => Number.isInteger(x))) {
      const e = draw(svg, "text", {x: px(x), y: height - 5, "text-anchor": "middle"}, label(x, stepX, right));
      if (px(x) > box.right - 12) { e.setAttribute("text-anchor", "end"); e.setAttribute("x", width); }
    }
    const clip = "clip" + k;
    draw(draw(draw(svg, "defs"), "clipPath", {id: clip}), "rect",
      {x: box.left - 3, y: box.top - 3, width: box.right - box.left + 6, height: box.bottom - box.top + 6});
    const inner = draw(svg, "g", {"clip-path": `url(#${clip})`});
    inside = y => Math.max(box.top, Math.min(box.bottom, py(y)));
    for (const s of on) {
      const g = draw(inner, "g", {class: "c" + chart.series.indexOf(s) % 8});
      for (const run of runs(s)) {
        const far = y => Math.max(-1e4, Math.min(1e4, y)).toFixed(1);  // browsers lose precision with larger ones
        const path = (values, order) => order.map(i => px(s.x[i]).toFixed(1) + "," + far(py(values[i]))).join("L");
        if (s.low) draw(g, "path", {class: "band", d: `M${path(s.high, run)}L${path(s.low, [...run].reverse())}Z`});
        if (run.length > 1) draw(g, "path", {class: "line", d: "M" + path(s.y, run)});
        if (run.length === 1 || s.x.length <= 24)
          for (const i of run) draw(g, "circle", {class: "dot", cx: px(s.x[i]), cy: py(s.y[i]), r: 2.5});
      }
    }
    const middle = {x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 - 8, "text-anchor": "middle"};
    if (!on.length) draw(svg, "text", middle, chart.series.some(s => s.window) ? "nothing chosen" : "no finite value");
    layer = draw(svg, "g", {});
    overlay();
  }
  // Stretches of a curve between gaps, as lists of indices.
  function runs(s) {
    const found = []; let run = null;
    s.y.forEach((y, i) => { if (y == null) run = null; else { if (!run) found.push(run = []); run.push(i); } });
    return found;
  }
  function overlay() {
    if (!layer) return;
    layer.replaceChildren();
    const rule = (x, name) => draw(layer, "line", {class: name, x1: px(x), x2: px(x), y1: 8, y2: height - 22});
    if (marked != null && marked >= left && marked <= right) rule(marked, "mark");
    at.textContent = cursor == null ? "" : "step " + show(Math.round(cursor));
    if (cursor != null) rule(cursor, "cursor");
    chart.series.forEach((s, i) => {
      const j = cursor == null || !s.x.length ? -1 : nearest(s.x, cursor);
      const y = j < 0 ? s.last : s.y[j];
      keys[i].querySelector("output").textContent = show(y);
      if (j >= 0 && y != null && keys[i].getAttribute("aria-pressed") === "true")
        draw(layer, "circle", {class: "dot c" + i % 8, cx: px(s.x[j]), cy: inside(y), r: 3.5});
    });
  }
  const stepAt = event => {
    const share = (event.clientX - plot.getBoundingClientRect().left - 46) / (width - 14 - 46);
    return left + Math.max(0, Math.min(1, share)) * (right - left);
  };
  plot.addEventListener("pointermove", event => read(stepAt(event)));
  plot.addEventListener("pointerleave", () => read(null));
  plot.addEventListener("click", event => seek(stepAt(event)));
  keys.forEach(key => key.addEventListener("click", () => {
    key.setAttribute("aria-pressed", key.getAttribute("aria-pressed") !== "true");
    redraw();
  }));
  new ResizeObserver(() => { if (plot.clientWidth !== width) redraw(); }).observe(plot);
  return {redraw, overlay};
});
let cursor = null, marked = null;
function read(step) { cursor = step; charts.forEach(c => c.overlay()); }

// ---- grids over time
const frames = [...document.querySelectorAll(".frame")], steps = frames.map(f => +f.dataset.step);
let current = frames.length - 1, timer = 0;
function go(i, byHand) {
  current = Math.max(0, Math.min(frames.length - 1, i));
  frames.forEach((f, j) => f.classList.toggle("on", j === current));
  $("slider").value = current;
  $("step").textContent = "step " + show(steps[current]);
  marked = steps[current];
  charts.forEach(c => c.overlay());
  // The page of a running run reloads itself: the address keeps the place, and the end means "follow the newest".
  const place = current === frames.length - 1 ? "#" : "#step=" + steps[current];
  if (byHand) try { history.replaceState(null, "", place); } catch {}
}
function seek(step) { if (frames.length) { stop(); go(nearest(steps, step), true); } }
function playing(on) {
  $("play").classList.toggle("on", on);
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
}
function stop() { clearInterval(timer); timer = 0; playing(false); }
function play() {
  if (timer) return stop();
  playing(true);
  if (current === frames.length - 1) go(0);
  timer = setInterval(() => { go(current + 1, true); if (current === frames.length - 1) stop(); }, 220);
}
function fromAddress() { const found = /step=(\d+)/.exec(location.hash); if (found) seek(+found[1]); }
if (frames.length) {
  $("slider").addEventListener("input", event => { stop(); go(+event.target.value, true); });
  $("play").addEventListener("click", play);
  addEventListener("hashchange", fromAddress);
  addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, textarea, select")) return;
    const move = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (move) { event.preventDefault(); stop(); go(current + move, true); }
  });
  marked = steps[current];
}
charts.forEach(c => c.redraw());
if (frames.length) fromAddress();

// ---- small things
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", async () => {
  const code = button.previousElementSibling;
  try { await navigator.clipboard.writeText(code.textContent); button.textContent = "copied"; }
  catch { getSelection().selectAllChildren(code); button.textContent = "selected"; }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});
const quiet = Math.round((Date.now() / 1000 - data.written) / 60);
if (data.running && quiet >= 15 && $("stale")) {
  $("stale").hidden = false;
  const time = quiet < 120 ? quiet + " minutes" : Math.round(quiet / 60) + " hours";
  $("stale").textContent = `No news for ${time}: if the process is gone, resume it with the command below.`;
}
})();
"""
