"""Charts as data: which curves a run has, thinned to what a screen can show. static/charts.js draws them."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gancli.metrics.terms import find
from gancli.report.formatting import number
from gancli.report.run_folder import BOOKKEEPING, NOT_METRICS, Run

POINTS = 240  # per curve at most; a longer one is shown as median and range of as many buckets
GRADIENT_NORM = "gradient_norm"  # begins these keys
Line = tuple[str, np.ndarray, np.ndarray]  # name, steps, values


class ValueAxis(NamedTuple):
    """Axis of the values of a term. It shows a range of at least `least` and of `relative` times the values."""

    title: str  # empty: the key
    least: float = 0.0
    relative: float = 0.0


PROBABILITY = ValueAxis("probability")  # from 0 to 1
# By a pattern of the key, the first that matches. Without a smallest range 0.052 to 0.053 would look like a collapse.
VALUE_AXES = {
    r"D\w*\(.+\)|augment_p": PROBABILITY,
    r"(\w+_)?psnr(_\w+)?": ValueAxis("dB", least=2),
    r"elbo|importance_weighted": ValueAxis("nats per image", relative=0.2),
    r"(ssim|precision|recall|density|coverage|class_coverage|accuracy|diversity)(_\w+)?": ValueAxis("", least=0.25),
    r".*/.*": ValueAxis("loss", least=1e-3, relative=0.5),
    rf"{GRADIENT_NORM}.*": ValueAxis("norm of the gradient", relative=0.5),
    r"images_per_second": ValueAxis("images per second", relative=1),
    r"lr": ValueAxis("learning rate", relative=1),
    r".*": ValueAxis("", relative=0.25),
}


def run_charts(run: Run) -> list[dict[str, Any]]:
    """Return the charts of a run: losses, D outputs, one per metric, gradient norms, throughput, learning rate."""
    keys = run.keys
    groups = [("Losses", [key for key in keys if "/" in key])]
    groups.append(("Outputs of D", [key for key in keys if is_discriminator_output(key)]))
    groups += [(key, [key]) for key in [*metric_keys(run), *NOT_METRICS] if key in keys]
    groups.append(("Gradient norms", [key for key in keys if key.startswith(GRADIENT_NORM)]))
    groups.append(("Images per second", [key for key in keys if key == "images_per_second"]))
    rate = run.series("lr")[1]
    if np.unique(rate[np.isfinite(rate)]).size > 1:
        groups.append(("Learning rate", ["lr"]))
    charts = [chart(name, [(key, *run.series(key)) for key in group], group[0]) for name, group in groups if group]
    return [chart for chart in charts if chart["series"]]


def metric_keys(run: Run) -> list[str]:
    """Return the keys of quality metrics: all but losses, D outputs, gradient norms and bookkeeping."""
    other = [key for key in run.keys if "/" in key or key.startswith(GRADIENT_NORM) or is_discriminator_output(key)]
    return [key for key in run.keys if key not in (*other, *BOOKKEEPING, *NOT_METRICS)]


def is_discriminator_output(key: str) -> bool:
    """Return whether a key is a mean output of D, such as D(real) or D_A(fake)."""
    return re.fullmatch(r"D\w*\(.+\)", key) is not None


def time_axes(run: Run) -> dict[str, dict[str, list[float]]]:
    """Return "minutes" and "images" at up to POINTS steps of a run, for charts over time, unless no row has them.

    Returns:
        x, y: steps, and minutes or images at these.
    """
    axes = {}
    for name, key, factor in (("minutes", "minutes", 1), ("images", "kimg", 1000)):
        steps, values = run.series(key)
        known = np.isfinite(values)
        if known.sum() > 1:
            chosen = np.linspace(0, known.sum() - 1, min(known.sum(), POINTS)).round().astype(int)
            steps, values = steps[known][chosen], np.maximum.accumulate(values[known][chosen])
            axes[name] = {"x": steps.tolist(), "y": [_digits(factor * value) for value in values]}
    return axes


def chart(name: str, lines: Sequence[Line], key: str = "") -> dict[str, Any]:
    """Return curves with one scale.

    Args:
        key: the term that the curves show; by default the name of the chart.

    Returns:
        name, key: title, and the term of all curves or of the first.
        meaning: what the values mean; empty where each curve has a meaning of its own.
        value_axis, least, relative: those of its ValueAxis, the title being the key if it has none.
        unit: the range is [0, 1], for probabilities.
        series: a dict of `curve` for each line, and its own `meaning`.
        notes: sentences on values that are not drawn.
    """
    key = key or name
    series = [curve(*line) for line in lines]
    axis = next(axis for pattern, axis in VALUE_AXES.items() if re.fullmatch(pattern, key))
    unit = axis is PROBABILITY and all(0 <= bound <= 1 for s in series for bound in s["extent"] or (0,))
    if axis is PROBABILITY and not unit:
        axis = ValueAxis("output of D", relative=0.5)
    # Curves of other names than terms, such as settings of a sweep, show the chart's own term.
    meanings = [describe(key if key == name else s["name"]) for s in series]
    same = len(set(meanings)) == 1
    for s, meaning in zip(series, meanings):
        s["meaning"] = "" if same else meaning
    return {
        "name": name,
        "key": key,
        "meaning": meanings[0] if same else "",
        "value_axis": axis.title or key,
        "least": axis.least,
        "relative": axis.relative,
        "unit": unit,
        "series": series,
        "notes": [note for s in series for note in _notes(s)],
    }


def describe(key: str) -> str:
    """Return the meaning and the direction of a term; empty for an unknown one."""
    term = find(key)
    return f"{term.meaning} · {term.direction}" if term else ""


def band_chart(name: str, groups: Sequence[tuple[str, Sequence[tuple[np.ndarray, np.ndarray]]]]) -> dict[str, Any]:
    """Return a chart with the median of each group of runs, in a band from the lowest to the highest of them.

    Args:
        groups: name, and steps and values of each run. Of a group with several runs, the steps that two have count.
    """
    aligned = [(label, *_aligned(runs)) for label, runs in groups]
    bands = chart(name, [(label, steps, np.nanmedian(values, 0)) for label, steps, values in aligned])
    for series, (label, steps, values) in zip(bands["series"], aligned):
        if len(values) > 1:
            low, high = (curve(label, steps, f(values, 0)) for f in (np.nanmin, np.nanmax))
            series |= {"low": low["y"], "high": high["y"]}
            if low["window"] and high["window"]:
                series["window"] = [low["window"][0], high["window"][1]]
    return bands


def _aligned(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps with a value in two runs, or in the only one, and the values there (runs, steps)."""
    known = [{step: value for step, value in zip(*run) if np.isfinite(value)} for run in runs]
    counts = Counter(step for run in known for step in run)
    steps = sorted(step for step, count in counts.items() if count >= min(2, len(runs)))
    return np.array(steps), np.array([[run.get(step, np.nan) for step in steps] for run in known])


def curve(name: str, steps: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """Return a curve of at most POINTS points, without the untrained networks of steps 0 and 1.

    Returns:
        x, y: mean step and median value of each bucket of rows; None is a gap.
        low, high: range of each bucket; None when every bucket has one row.
        first, final: first and last step of each bucket; None when every bucket has one row.
        window, extent: range of values to draw, and of all values; `spikes` if they differ.
        last: last finite value.
        rows, bad: number of rows, and of those that are not finite.
    """
    if (trained := steps > 1).any():
        steps, values = steps[trained], values[trained]
    n = len(values)
    edges = np.linspace(0, n, min(n, POINTS) + 1).astype(int)
    buckets = [slice(a, b) for a, b in itertools.pairwise(edges)]
    thinned = n > POINTS

    def reduce(function: Callable[[np.ndarray], Any]) -> list[float | None]:
        finite = (values[b][np.isfinite(values[b])] for b in buckets)
        return [_digits(function(v)) if v.size else None for v in finite]

    good = values[np.isfinite(values)]
    extent = [_digits(good.min()), _digits(good.max())] if good.size else None
    window = _window(good) if good.size else None
    return {
        "name": name,
        "x": [round(float(steps[b].mean()), 1) for b in buckets],
        "y": reduce(np.median),
        "low": reduce(np.min) if thinned else None,
        "high": reduce(np.max) if thinned else None,
        "first": [float(steps[b][0]) for b in buckets] if thinned else None,
        "final": [float(steps[b][-1]) for b in buckets] if thinned else None,
        "window": window,
        "extent": extent,
        "spikes": window != extent,
        "last": _digits(good[-1]) if good.size else None,
        "rows": n,
        "bad": n - good.size,
    }


def _window(values: np.ndarray) -> list[float]:
    """Return the range of values to draw: one spike must not flatten a curve."""
    low, high = float(values.min()), float(values.max())
    a, b = (float(q) for q in np.quantile(values, [0.005, 0.995]))
    if values.size >= 50 and b > a and high - low > 4 * (b - a):
        low, high = max(low, a - (b - a) / 4), min(high, b + (b - a) / 4)
    return [_digits(low), _digits(high)]


def _notes(series: dict[str, Any]) -> list[str]:
    notes = []
    if series["bad"]:
        notes.append(f"{series['name']}: {series['bad']:,} of {series['rows']:,} not finite")
    if series["spikes"]:
        low, high = map(number, series["extent"])
        notes.append(f"{series['name']}: spikes off the chart, values from {low} to {high}")
    return notes


def _digits(value: Any) -> float:
    """Return five digits of a number: a screen shows no more."""
    return float(f"{float(value):.5g}")
