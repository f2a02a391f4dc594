"""What goes wrong while a GAN trains, seen in its logged numbers, and the override that is known to help.

Nothing here looks at a network: all is a function of the rows of metrics.jsonl, so that a resumed run, fed the rows it
has left, knows what the interrupted one knew, and that the page or a test can ask about any log. The thresholds are
meant to be silent on a healthy run rather than quick on an ill one: what is told once wrongly is not read again.
"""

import math
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

WINDOW = 500  # steps that something holds before it is told, and is gone before it is over
SLOW = 1000  # ... for classes, which come one by one: an MLP on MNIST is at 6 of 10 after 1,000 healthy steps
WARM_UP = 500  # steps in which samples are grey, and all grey alike, in every run
SATURATED = 0.01  # D(fake), and 1 - D(real), where D is no longer in doubt
ALIKE = 0.3  # diversity; healthy DCGANs pass it within 375 steps, an MLP within 750, and then keep above 0.7
COVERED = 0.85  # of the classes; two of ten are missing below it
EXPLODED = 100.0  # times the median gradient norm; means over 50 steps of healthy runs kept below 4
NORMS = 10  # gradient norms that make a median
FAR = 1e4  # of an adversarial loss; a logit that large is far beyond what any loss here needs


@dataclass(frozen=True)
class Event:
    """A finding that begins (kind "warning") or is over ("recovered"), with one sentence for a person."""

    step: int
    kind: str
    finding: str
    message: str


class Monitor:
    """Rows in, events out: each finding is told when it begins and when it is over.

    active: what is wrong as of the last row, {finding: sentence}, with the newest numbers.
    To resume, feed a new one the rows that are left and drop the events: they were told.
    """

    def __init__(self) -> None:
        alike = Alike()
        self.signs: list[Sign] = [DWon(), alike, ClassesMissing(alike), GradientsExploding(), LossesRunningAway()]

    def add(self, row: Row) -> list[Event]:
        """The findings that this row of metrics.jsonl begins or ends; lines that hold an event tell nothing."""
        step = _number(row, "step")
        if "event" in row or step is None or not math.isfinite(step):
            return []
        told = []
        for sign in self.signs:
            verdict = sign.judge(int(step), row)
            if verdict is not None and sign.settle(int(step), *verdict):
                told.append(Event(int(step), "warning" if sign.active else "recovered", sign.name, verdict[1]))
        return told

    @property
    def active(self) -> dict[str, str]:
        return {sign.name: sign.sentence for sign in self.signs if sign.active}


def findings(rows: Iterable[Row]) -> dict[str, str]:
    """What is wrong at the last of the rows: {finding: sentence}."""
    monitor = Monitor()
    for row in rows:
        monitor.add(row)
    return monitor.active


class Sign:
    """One thing that can go wrong: it has to hold for some steps to be told, and to be gone for as many to be over.

    A row speaks for the steps since the row of its kind before it: a log row is their mean, and of what was between
    two pictures nothing else is known.
    """

    name = ""
    onset = WINDOW  # steps until it is told ...
    rows = 2  # ... and rows: a single one may be chance
    offset = WINDOW  # steps until it is over

    def __init__(self) -> None:
        self.active, self.sentence = False, ""
        self._before = 0  # step of the row before
        self._since, self._rows = 0, 0  # how long rows have contradicted `active`

    def judge(self, step: int, row: Row) -> tuple[bool | None, str] | None:
        """Whether the row shows it, and a sentence that says so or that it is over.

        (None, "") breaks whatever is going on without showing the opposite; None is a row of another kind.
        """
        raise NotImplementedError

    def settle(self, step: int, ill: bool | None, sentence: str) -> bool:
        """Take a verdict; whether it begins or ends the finding."""
        if ill is None or ill == self.active:
            self._rows = 0
        else:
            if not self._rows:
                self._since = self._before
            self._rows += 1
        self._before = step
        onset, rows = (self.offset, 2) if self.active else (self.onset, self.rows)
        turned = self._rows >= rows and step - self._since >= onset
        if turned:
            self.active, self._rows = not self.active, 0
        if self.active and ill:
            self.sentence = sentence
        return turned


class DWon(Sign):
    """D is always right, so nothing that G could change changes its verdict.

    The gradient that reaches G vanishes (of the textbook's loss) or points nowhere in particular (Arjovsky and Bottou
    2017, https://arxiv.org/abs/1701.04862). A penalty on D's slope at real images keeps it from getting there
    (Mescheder et al. 2018, https://arxiv.org/abs/1801.04406); where D wins because it knows a small data set by heart,
    augmenting what it sees does (Zhao et al. 2020, https://arxiv.org/abs/2006.10738).
    """

    name = "d_won"

    def judge(self, step: int, row: Row) -> tuple[bool | None, str] | None:
        real, fake = _number(row, "D(real)"), _number(row, "D(fake)")
        if real is None or fake is None:
            return None
        numbers = f"D(fake) is {_show(fake)} and D(real) {_show(real)}"
        if not (math.isfinite(real) and math.isfinite(fake)):
            return None, ""
        if fake < SATURATED and real > 1 - SATURATED:
            return True, (
                f"D has won: for {WINDOW} steps it has hardly erred, now {numbers}; "
                f"type model/penalty=r1, or model/augment=diffaugment"
            )
        return False, f"D no longer wins: {numbers}"


class Alike(Sign):
    """Mode collapse: G makes nearly one image of every z.

    Against it D is shown two samples at a time (Lin et al. 2018, https://arxiv.org/abs/1712.04086: from 99 to 1,000 of
    1,000 stacked digits) or statistics over its batch (Salimans et al. 2016, https://arxiv.org/abs/1606.03498).
    """

    name = "g_alike"

    def __init__(self) -> None:
        super().__init__()
        self.best = 0.0

    def judge(self, step: int, row: Row) -> tuple[bool | None, str] | None:
        value = _number(row, "diversity")
        if value is None:
            return None
        if not math.isfinite(value):
            return None, ""
        share = f"{value:.0%}".replace("%", " %")
        # An untrained G is grey whatever z is. Later it is no fault to be low while it still rises.
        early, rising = step < WARM_UP, value > self.best
        self.best = max(self.best, value)
        if value >= ALIKE:
            return False, f"samples differ again: their diversity is {share} of the data's"
        if not self.active and (early or rising):
            return None, ""
        return True, (
            f"samples are nearly alike: their diversity is {share} of the data's; "
            f"type model.packing=2, or model.minibatch=discrimination"
        )


class ClassesMissing(Sign):
    """Partial collapse: what is there varies, but whole classes of the data are never made.

    Besides packing, as above, a G that looks ahead at D's answer does not pile up where D is weakest just now (Metz et
    al. 2017, https://arxiv.org/abs/1611.02163).
    """

    name = "classes_missing"
    onset = offset = SLOW

    def __init__(self, alike: Alike):
        super().__init__()
        self.alike = alike
        self.best = 0.0

    def judge(self, step: int, row: Row) -> tuple[bool | None, str] | None:
        value = _number(row, "class_coverage")
        if value is None:
            return None
        if not math.isfinite(value):
            return None, ""
        shown = f"samples show {value:.0%} of the data's classes".replace("%", " %")
        early, rising = step < WARM_UP, value > self.best
        self.best = max(self.best, value)
        if value >= COVERED:
            return False, f"classes are no longer missing: {shown}"
        # Samples that are all alike have few classes too: that is told already.
        low = _number(row, "diversity")
        if not self.active and (early or rising or self.alike.active or (low is not None and low < ALIKE)):
            return None, ""
        return True, f"classes are missing: {shown}; type model.packing=2, or model=unrolled"


class GradientsExploding(Sign):
    """A step far longer than those that trained so far can undo them; clipping bounds it.

    Pascanu et al. 2013, https://arxiv.org/abs/1211.5063, section 3.2.
    """

    name = "gradients_exploding"
    onset, rows = 0, 1

    def __init__(self) -> None:
        super().__init__()
        self.norms: dict[str, list[float]] = {}  # sorted

    def judge(self, step: int, row: Row) -> tuple[bool | None, str] | None:
        worst, sentences = 0.0, ["", ""]
        judged = False
        for key in (key for key in row if key.startswith("gradient_norm")):
            norm, norms = _number(row, key), self.norms.setdefault(key, [])
            if norm is None:
                continue
            # Where D is always right its gradient is next to nothing, and what follows is no explosion: at least 1.
            usual = max(norms[len(norms) // 2], 1.0) if norms else 1.0
            times = norm / usual if math.isfinite(norm) else math.inf
            if len(norms) >= NORMS:
                judged = True
                if times >= worst:
                    worst = times
                    sentences = [
                        f"gradients are as before: {key} is {_show(norm)}, its median {_show(usual)}",
                        f"gradients explode: {key} is {_show(norm)}, its median {_show(usual)}; type trainer.clip=1",
                    ]
            # An explosion that lasts must not become the measure.
            if math.isfinite(norm) and (len(norms) < NORMS or times <= EXPLODED):
                insort(norms, norm)
        if not judged:
            return None
        return worst > EXPLODED, sentences[worst > EXPLODED]


class LossesRunningAway(Sign):
    """An adversarial loss that grows without bound, as an unbounded critic's does.

    A penalty on the critic's slope bounds it (Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028); where the
    players only push each other on, smaller steps do.
    """

    name = "losses_running_away"
    onset, rows = 0, 1

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def judge(self, step: int, row: Row) -> tuple[bool | None, str] | None:
        losses = {
            key: value for key in row if key.endswith("/adversarial") and (value := _number(row, key)) is not None
        }
        if not losses:
            return None
        rate = _number(row, "lr") or 0.0
        if math.isfinite(rate):
            self.rate = max(self.rate, rate)  # a schedule lowers it
        # nan compares with nothing, so it goes first.
        key = max(losses, key=lambda k: abs(losses[k]) if math.isfinite(losses[k]) else math.inf)
        value = losses[key]
        if abs(value) <= FAR:
            return False, f"losses are back: {key} is {_show(value)}"
        lower = f"{self.rate / 4:.0e}".replace("e-0", "e-") if self.rate else "5e-5"
        return (
            True,
            f"losses run away: {key} is {_show(value)}; type a lower rate, model.lr={lower}, or model/penalty=gp",
        )


def _number(row: Row, key: str) -> float | None:
    """A row's number as metrics.jsonl keeps it; null stands for nan there, and None is what is no number."""
    value = row.get(key, "")
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The file has six decimals: a row that was read back must be judged as it was when it was written.
    return round(float(value), 6)


def _show(value: float) -> str:
    """Three digits, thousands separated."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if abs(value) >= 1e6:
        return f"{value:.1e}".replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
