"""Health of a training: problems of GANs that show in the logged metrics, and the override that is known to help.

The monitor reads the rows of metrics.jsonl and the config, so a resumed run that reads its rows again knows what the
interrupted one knew. Thresholds are silent on healthy runs rather than early on sick ones: a false warning teaches
people to ignore all of them.
"""

import math
from bisect import insort
from dataclasses import dataclass
from typing import Any

from gancli.losses import adversarial
from gancli.metrics.terms import LOWER_RATE, find

Row = dict[str, Any]

WINDOW = 500  # steps that a symptom lasts before a warning, and is absent before it ends
SLOW_WINDOW = 1000  # ... for classes, which come one by one: an MLP on MNIST has 6 of 10 after 1,000 healthy steps
WARM_UP = 500  # steps in which the samples of every run are grey and alike
SATURATED = 0.01  # D(fake), and 1 - D(real), of a D without doubt
LOW_DIVERSITY = 0.3  # healthy DCGANs pass it within 375 steps, an MLP within 750, and then stay above 0.7
LOW_COVERAGE = 0.85  # fraction of the classes; two of ten are missing below it
LARGE_GAP = 0.5  # of D's way from training images to fakes that lies between training images and those held out
EXPLODED = 100.0  # times the median gradient norm; means over 50 steps of healthy runs stayed below 4
MIN_NORMS = 10  # fewer gradient norms have no median
USUAL_RATE = 2e-4  # of most recipes; a quarter of a rate far above it is still too high
LARGE_LOSS = 1e4  # of an adversarial term, far beyond what any loss here needs


@dataclass(frozen=True)
class Event:
    """A finding that begins (type "warning") or ends (type "recovered"), with a message."""

    step: int
    type: str
    finding: str
    message: str


class Monitor:
    """Finds problems in rows of metrics: each gives one event when it begins and one when it ends.

    To resume, add the rows that are left to a new monitor and drop its events, which are logged already.

    Args:
        config: of the run, resolved. Without it every remedy is advised, with it those that the model takes.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        collapse = ModeCollapse()
        diverging = [GradientsExploding(), LossesDiverging()]
        self.symptoms = [DWinning(), Memorising(), collapse, ClassesMissing(collapse), *diverging]
        for symptom in self.symptoms:
            symptom.advice = advice(symptom.finding, config)

    def add(self, row: Row) -> list[Event]:
        """Return the findings that a row of metrics.jsonl begins or ends; rows with an event are ignored."""
        number = _number(row, "step")
        if "event" in row or number is None or not math.isfinite(number):
            return []
        events, step = [], int(number)
        for symptom in self.symptoms:
            check = symptom.check(step, row)
            if check is not None and symptom.update(step, check[0]):
                events.append(Event(step, "warning" if symptom.active else "recovered", symptom.finding, check[1]))
        return events


def advice(finding: str, config: dict[str, Any] | None) -> str:
    """Return "; type A, or B": the first two remedies that the run's model takes and does not use yet."""
    term = find(finding)
    remedies = [remedy for remedy in (term.remedies if term else ()) if config is None or is_accepted(remedy, config)]
    typed = [completed(remedy, config) for remedy in remedies[:2]]
    return f"; type {', or '.join(typed)}" if typed else ""


def is_accepted(remedy: str, config: dict[str, Any]) -> bool:
    """Return whether the model of a config takes a remedy and does not use it yet."""
    model, (key, _, value) = config["model"], remedy.split()[0].partition("=")
    if key == "model":  # variants on the same networks
        return {"dcgan": "unrolled", "mlp": "unrolled_mlp"}.get(model["name"]) == value
    if key == "model.packing":  # a D that predicts the class of an image, as AC-GAN's, cannot take two
        return model.get("packing") == 1 and not model["D"].get("auxiliary") and config["data"]["batch_size"] % 2 == 0
    if key == "model.minibatch":
        return model.get("minibatch") == "none"
    if key == "trainer.clip":
        return not config["trainer"]["clip"]
    if value == "ada":  # adapts to how often D takes a real image for real, which some losses do not define
        loss = getattr(adversarial, str(model.get("loss", {}).get("_target_", "")).rpartition(".")[2], None)
        if getattr(loss, "threshold", None) is None:
            return False
    if key in ("model/penalty", "model/augment"):
        target = model.get(key.partition("/")[2], {}).get("_target_", "")
        return target.endswith((".NoPenalty", ".NoAugment"))
    return key == "model.lr"


def completed(remedy: str, config: dict[str, Any] | None) -> str:
    """Return a remedy as it is typed for the model of a config."""
    model: dict[str, Any] = config["model"] if config else {"lr": 2e-4, "norm": "batch", "G": {}}
    if remedy == LOWER_RATE:
        lower = min(float(model["lr"]) / 4, USUAL_RATE)
        return f"{LOWER_RATE}{lower:.0e}".replace("e-0", "e-")
    # G's norm, where one key is for both, is not in the way of D's penalty.
    norm = "model.D.norm=none" if "norm" in model["G"] else "model.norm=none"
    return remedy.replace(" model.norm=none", f" {norm}" if model.get("norm") == "batch" else "")


# Whether a row shows a symptom, and a message about it or its end. (None, "") is inconclusive and restarts the count;
# None alone means that the row has other metrics.
Check = tuple[bool | None, str] | None


class Symptom:
    """One thing that can go wrong. It becomes active after `onset` steps, and inactive after `offset` steps without it.

    A row describes the steps since the previous row of its type: a log row is their mean, and between two grids of
    samples nothing else is known.
    """

    finding = ""
    keys: tuple[str, ...] = ()  # of the metrics that `assess` takes
    onset = offset = WINDOW
    min_rows = 2  # rows until it is active: a single one may be chance
    advice = ""  # ends the message of a warning

    def __init__(self) -> None:
        self.active = False
        self._previous_step = 0
        self._since, self._rows = 0, 0  # how long rows have contradicted `active`

    def check(self, step: int, row: Row) -> Check:
        values = [value for key in self.keys if (value := _number(row, key)) is not None]
        if len(values) < len(self.keys):
            return None
        return self.assess(step, row, *values) if all(map(math.isfinite, values)) else (None, "")

    def assess(self, step: int, row: Row, *values: float) -> Check:
        """Check finite values of `keys`."""
        raise NotImplementedError

    def update(self, step: int, present: bool | None) -> bool:
        """Count a check; return whether the symptom became active or inactive."""
        if present is None or present == self.active:
            self._rows = 0
        else:
            if not self._rows:
                self._since = self._previous_step
            self._rows += 1
        self._previous_step = step
        steps, rows = (self.offset, 2) if self.active else (self.onset, self.min_rows)
        changed = self._rows >= rows and step - self._since >= steps
        if changed:
            self.active, self._rows = not self.active, 0
        return changed


class DWinning(Symptom):
    """D makes almost no mistakes, so nothing that G could change changes its outputs.

    The gradient that reaches G vanishes (with the textbook's loss) or has no useful direction (Arjovsky and Bottou
    2017, https://arxiv.org/abs/1701.04862). A penalty on D's gradient at real images prevents it (Mescheder et al.
    2018, https://arxiv.org/abs/1801.04406). Where D memorises a small data set, augmenting its inputs does (Zhao et
    al. 2020, https://arxiv.org/abs/2006.10738).
    """

    finding, keys = "d_winning", ("D(real)", "D(fake)")

    def assess(self, step: int, row: Row, *values: float) -> Check:
        real, fake = values
        numbers = f"D(fake) is {_format(fake)} and D(real) {_format(real)}"
        if fake < SATURATED and real > 1 - SATURATED:
            return True, (f"D is winning: almost no mistakes in the last {WINDOW} steps, now {numbers}{self.advice}")
        return False, f"D is no longer winning: {numbers}"


class Memorising(Symptom):
    """D knows its training images by heart: those that were held out look generated to it.

    Augmenting what D sees prevents it (Karras et al. 2020, figures 1 and 2, https://arxiv.org/abs/2006.06676).
    """

    finding, keys = "memorising", ("gap(held out)",)

    def assess(self, step: int, row: Row, *values: float) -> Check:
        gap = f"{100 * values[0]:.0f} %"
        if values[0] > LARGE_GAP:
            return True, (
                f"D is memorising the training images: for those held out, its output is {gap} of the way to that for "
                f"generated ones{self.advice}"
            )
        return (
            False,
            f"D is no longer memorising: for images held out, its output is {gap} of the way to fakes",
        )


class LowMetric(Symptom):
    """A metric of samples below `limit`, which is no fault of an untrained G, nor while the metric still rises."""

    limit: float
    warning, recovered = "", ""  # with {} for the value

    def __init__(self) -> None:
        super().__init__()
        self.highest = 0.0

    def assess(self, step: int, row: Row, *values: float) -> Check:
        [value] = values
        early, rising = step < WARM_UP, value > self.highest
        self.highest = max(self.highest, value)
        percent = f"{100 * value:.0f} %"
        if value >= self.limit:
            return False, self.recovered.format(percent)
        return (
            (None, "") if not self.active and (early or rising) else (True, self.warning.format(percent) + self.advice)
        )


class ModeCollapse(LowMetric):
    """G generates nearly the same image from every z.

    Showing D two samples at a time prevents it (Lin et al. 2018, https://arxiv.org/abs/1712.04086: from 99 to 1,000 of
    1,000 stacked digits), or statistics over its batch (Salimans et al. 2016, https://arxiv.org/abs/1606.03498).
    """

    finding, keys, limit = "mode_collapse", ("diversity",), LOW_DIVERSITY
    warning = "mode collapse: the diversity of samples is {} of the data's"
    recovered = "samples differ again: their diversity is {} of the data's"


class ClassesMissing(LowMetric):
    """Partial mode collapse: samples vary, but whole classes of the data are never generated.

    Besides packing, as above, unrolling D's updates helps: G then does not go where D is weakest just now (Metz et al.
    2017, https://arxiv.org/abs/1611.02163).
    """

    finding, keys, limit = "classes_missing", ("class_coverage",), LOW_COVERAGE
    warning = "classes are missing: samples show {} of the data's classes"
    recovered = "classes are no longer missing: samples show {} of the data's classes"
    onset = offset = SLOW_WINDOW

    def __init__(self, collapse: ModeCollapse):
        super().__init__()
        self.collapse = collapse

    def assess(self, step: int, row: Row, *values: float) -> Check:
        check = super().assess(step, row, *values)
        # Collapsed samples have few classes too, and that warning is out already.
        diversity = _number(row, "diversity")
        collapsed = self.collapse.active or (diversity is not None and diversity < LOW_DIVERSITY)
        return (None, "") if check and check[0] and not self.active and collapsed else check


class GradientsExploding(Symptom):
    """A gradient far larger than usual: one such step can undo the training, and clipping bounds it.

    Section 3.2 of Pascanu et al. 2013, https://arxiv.org/abs/1211.5063.
    """

    finding = "gradients_exploding"
    onset, min_rows = 0, 1

    def __init__(self) -> None:
        super().__init__()
        self.norms: dict[str, list[float]] = {}  # sorted

    def check(self, step: int, row: Row) -> Check:
        ratios = []
        for key in (key for key in row if key.startswith("gradient_norm")):
            norm, norms = _number(row, key), self.norms.setdefault(key, [])
            if norm is None:
                continue
            # A D that is always right has a gradient of almost nothing, and what follows is no explosion: at least 1.
            median = max(norms[len(norms) // 2], 1.0) if norms else 1.0
            ratio = norm / median if math.isfinite(norm) else math.inf
            if len(norms) >= MIN_NORMS:
                ratios.append((ratio, f"{key} is {_format(norm)}, its median {_format(median)}"))
            # An explosion that lasts must not become the median.
            if math.isfinite(norm) and (len(norms) < MIN_NORMS or ratio <= EXPLODED):
                insort(norms, norm)
        if not ratios:
            return None
        ratio, numbers = max(reversed(ratios), key=lambda pair: pair[0])
        if ratio > EXPLODED:
            return True, f"gradients explode: {numbers}{self.advice}"
        return False, f"gradients are as before: {numbers}"


class LossesDiverging(Symptom):
    """An adversarial loss that grows without bound, as an unbounded critic's does.

    A penalty on the critic's gradient bounds it (Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028), and smaller
    steps help where G and D only push each other on.
    """

    finding = "losses_diverging"
    onset, min_rows = 0, 1

    def check(self, step: int, row: Row) -> Check:
        numbers = {key: _number(row, key) for key in row if key.endswith("/adversarial")}
        losses = {key: value for key, value in numbers.items() if value is not None}
        if not losses:
            return None
        # nan compares with nothing, so it goes first.
        key = max(losses, key=lambda k: abs(losses[k]) if math.isfinite(losses[k]) else math.inf)
        value = losses[key]
        if abs(value) <= LARGE_LOSS:
            return False, f"losses are back: {key} is {_format(value)}"
        return True, f"losses diverge: {key} is {_format(value)}{self.advice}"


def _number(row: Row, key: str) -> float | None:
    """Return a row's number as metrics.jsonl stores it: null is nan, and anything else that is no number is None."""
    value = row.get(key, "")
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The file has six decimals: a row that was read back must give what it gave when it was written.
    return round(float(value), 6)


def _format(value: float) -> str:
    """Return a number with three digits, thousands separated."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if abs(value) >= 1e6:
        return f"{value:.1e}".replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
