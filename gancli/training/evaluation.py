"""How good G's average is while it trains: how the best checkpoint is chosen, and what ends a run that gets no better."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from gancli.data.dataset import ImageDataset
from gancli.evaluation import scores
from gancli.evaluation.generative import Comparison, GeneratedImages
from gancli.evaluation.reference import EvaluationSet
from gancli.inference.generator import Generator
from gancli.metrics.feature_extractors import default_extractor

SEED = 0  # of the images of either side: the same for every run, whatever its own seed


class Evaluation:
    """Scores of n images of G's, always of the same noise, beside n of the training images; the first one decides.

    metrics: as of `Comparison`; without any the Fréchet distance, or the kernel distance where there are no more images
    than features. G that makes nothing of noise, or points of the plane, is measured by its quick metrics, on the
    ImageDataset `reference`. G: the average. name, split: of the data. remark: what a person should know of the choice.
    """

    def __init__(
        self,
        quick_metrics: Any,
        G: nn.Module,
        data: Any,
        reference: ImageDataset,
        name: str,
        split: str,
        n: int,
        metrics: Sequence[str],
        device: torch.device,
    ):
        self.quick_metrics, self.data, self.reference, self.n = quick_metrics, data, reference, n
        self.compare: Comparison | None = None
        self.protocol: dict[str, Any] = {}
        self.figure, self.lower_is_better = quick_metrics.headline, quick_metrics.lower_is_better
        self.names: list[str] = []  # of what is measured by the protocol
        self.remark = ""
        if not G.z_dim or reference.is_points:
            if metrics:
                raise ValueError(
                    f"trainer.evaluate_metrics are scores of pictures made of noise, which this model makes none of; "
                    f"leave it out, and {quick_metrics.headline} is what is looked at"
                )
            return
        held = EvaluationSet(data, name, split, n, SEED)
        self.figure = next(iter(metrics or [scores.score_name("fd", default_extractor(data.channels))]))
        if self.figure in scores.NETWORKS:
            self.figure = scores.score_name("fd", self.figure)
        self.compare = Comparison(held, metrics or [self.figure], device, seed=SEED)
        network, figure = scores.SCORES[self.figure]
        features = next(see.dim for see in self.compare.extractors if see.name == network)
        if figure == "fd" and min(n, held.count) <= features:
            self.remark = (
                f"{held.count:,} images are too few for {self.figure}, of {features:,} features; "
                f"{scores.score_name('kd', network)} takes its place"
            )
            self.figure = scores.score_name("kd", network)
        self.lower_is_better = scores.lower_is_better(self.figure)
        self.names = [scores.score_name(f, see) for see, figures in self.compare.metrics_of.items() for f in figures]
        self.names += [] if self.figure in self.names else [self.figure]
        made = self.samples(G)
        named = {key: value for key, value in held.protocol.items() if key != "n"}
        self.protocol = {"averaged": True, **named, **self.compare.protocol(made)}

    def samples(self, G: nn.Module) -> GeneratedImages:
        return GeneratedImages(Generator(G, self.data.size, self.data.channels, self.data.class_names), self.n, SEED)

    def __call__(self, G: nn.Module) -> dict[str, float]:
        """The figures of G, the average in eval mode, by name; `figure` is among them, if only as nan."""
        if not self.compare:
            found = self.quick_metrics.metrics(G, self.reference, SEED)
        else:
            names = self.data.class_names if int(G.classes) else ()  # type: ignore[arg-type]
            found = self.compare(self.samples(G), names).values
        return {self.figure: math.nan} | found


@dataclass
class Best:
    """The best evaluation so far, of round `step`, and how many came since. figure, n: what it is, and of how many."""

    figure: str
    n: int
    lower_is_better: bool
    value: float = math.nan
    step: int = 0
    since: int = 0

    def add(self, value: float, step: int) -> bool:
        """Whether this one is the best; what is no number never is."""
        better = value < self.value if self.lower_is_better else value > self.value
        if math.isfinite(value) and (better or math.isnan(self.value)):
            self.value, self.step, self.since = value, step, 0
            return True
        self.since += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, unless it is of another figure, or of another number of images."""
        if (state.get("figure"), state.get("n")) == (self.figure, self.n):
            self.value, self.step, self.since = float(state["value"]), int(state["step"]), int(state["since"])
