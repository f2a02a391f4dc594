"""The form of a line in the table of terms, and the names of scores. Needs no torch."""

from dataclasses import dataclass

LOWER, HIGHER = "lower is better", "higher is better"  # begin the direction of a measure of quality
FEATURES = {
    "mnist": "the bundled network of digits",
    "cifar": "the bundled network of CIFAR-10",
    "inception": "Inception",
}
LITERATURE_NAMES = {"fd": "fid", "kd": "kid", "score": "is"}  # of scores by Inception


@dataclass(frozen=True)
class Term:
    """One line of the table.

    Attributes:
        names: keys of metrics.jsonl or of scores.jsonl, or the names of a finding; the first is the usual one.
        meaning: one line.
        direction: "lower is better", "higher is better ..." or the value to compare with.
        normal: values of a healthy run.
        advice: sentence on what to type when it is off, or empty.
        remedies: overrides of `gan train` that help against a finding, best first.
    """

    names: tuple[str, ...]
    meaning: str
    direction: str
    normal: str = ""
    advice: str = ""
    remedies: tuple[str, ...] = ()


def score_name(metric: str, network: str) -> str:
    """Return the name of a metric by a network's features: ("fd", "mnist") is fd_mnist, ("fd", "inception") fid."""
    return LITERATURE_NAMES.get(metric, f"{metric}_inception") if network == "inception" else f"{metric}_{network}"


def score(metric: str, meaning: str, direction: str, normal: str = "", advice: str = "") -> Term:
    """Return the term of a metric that every feature network has."""
    return Term(tuple(score_name(metric, network) for network in FEATURES), meaning, direction, normal, advice)
