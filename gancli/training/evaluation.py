"""Scores of the averaged G during training: cheap ones with every grid, and those that best.* and patience go by."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from gancli.data.contents import data_name
from gancli.data.dataset import ImageDataset
from gancli.data.listing import FOLDER_TYPES
from gancli.evaluation import scores
from gancli.evaluation.generative import Comparison, GeneratedImages
from gancli.evaluation.reference import EvaluationSet
from gancli.inference.generator import Generator
from gancli.metrics.feature_extractors import default_extractor
from gancli.metrics.terms import higher_is_better
from gancli.training.checkpoint_manager import BEST
from gancli.training.preview import sources_of

SEED = 0  # of generated and real images, the same for every run
REFERENCE_IMAGES = 1000


class Evaluation:
    """Scores of n images of G, always of the same noise, against n training images.

    A G without noise, or with points of the plane, is scored by its quick metrics instead.

    Attributes:
        metric: name of the metric that decides which step is best.
        names: names of the metrics that follow `protocol`.
        warning: sentence about a replaced metric, or empty.
    """

    def __init__(
        self,
        quick_metrics: Any,
        G: nn.Module,
        data: Any,
        reference: ImageDataset,
        config: dict[str, Any],
        n: int,
        metrics: Sequence[str],
        device: torch.device,
        content: str = "",
    ):
        """Compute the features of the real images.

        Args:
            quick_metrics: object with `metrics(G, real, seed)` and `headline`.
            G: averaged generator.
            reference: real images for quick metrics.
            config: resolved `data` section of the run's config.
            content: digest of the files of the training data, if they are files of the user.
            metrics: as of `Comparison`; default: the Fréchet distance, or the kernel distance of few images.
        """
        self.quick_metrics, self.data, self.reference, self.n = quick_metrics, data, reference, n
        self.comparison: Comparison | None = None
        self.protocol: dict[str, Any] = {}
        self.metric = quick_metrics.headline
        self.names: list[str] = []
        self.warning = ""
        if G.z_dim and not reference.is_points:
            split = data.split or ("none" if config["name"] in FOLDER_TYPES else config.get("split", "none"))
            real = EvaluationSet(data, data_name(config["name"], config.get("path")), split, n, SEED, content)
            self._prepare_comparison(G, real, metrics, device)
        elif metrics:
            raise ValueError(
                f"trainer.evaluate_metrics are scores of images sampled from noise, but this model does not sample "
                f"from noise; leave it out to evaluate by {self.metric}"
            )
        self.lower_is_better = not higher_is_better(self.metric)

    def _prepare_comparison(
        self, G: nn.Module, real: EvaluationSet, metrics: Sequence[str], device: torch.device
    ) -> None:
        """Choose the deciding metric, compute the features of the real images and describe the protocol."""
        self.metric = next(iter(metrics or [scores.score_name("fd", default_extractor(self.data.channels))]))
        if self.metric in scores.NETWORKS:
            self.metric = scores.score_name("fd", self.metric)
        self.comparison = Comparison(real, metrics or [self.metric], device, seed=SEED)
        network, distance = scores.SCORES[self.metric]
        features = next(extractor.dim for extractor in self.comparison.extractors if extractor.name == network)
        if distance == "fd" and min(self.n, real.count) <= features:
            replacement = scores.score_name("kd", network)
            self.warning = (
                f"{self.metric} needs more images than its {features:,} features, but there are {real.count:,}; "
                f"{replacement} takes its place"
            )
            self.metric = replacement
        self.names = [scores.score_name(m, net) for net, ms in self.comparison.metrics_of.items() for m in ms]
        self.names += [] if self.metric in self.names else [self.metric]
        named = {key: value for key, value in real.protocol.items() if key != "n"}
        self.protocol = {"averaged": True, **named, **self.comparison.protocol(self._samples(G))}

    def _samples(self, G: nn.Module) -> GeneratedImages:
        return GeneratedImages(Generator.like(G, self.data), self.n, SEED)

    def __call__(self, G: nn.Module) -> dict[str, float]:
        """Return the scores of G, the average in eval mode, by name; `metric` is among them, if only as nan."""
        if not self.comparison:
            return {self.metric: math.nan} | self.quick_metrics.metrics(G, self.reference, SEED)
        names = self.data.class_names if int(G.classes) else ()  # type: ignore[arg-type]
        return {self.metric: math.nan} | self.comparison(self._samples(G), names).values


def reference_images(data: Any) -> ImageDataset:
    """Return up to REFERENCE_IMAGES training images for quick metrics, the same for every run."""
    indices = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:REFERENCE_IMAGES]
    sources = sources_of(data, indices).cpu()
    about = {"codes": data.codes, "columns": data.columns} if data.codes is not None else {}
    return ImageDataset(data.take(indices).cpu(), data.labels[indices], data.class_names, sources=sources, **about)


@dataclass
class Best:
    """The best evaluation so far, of n images, at `step`, 0 before any; since: number of evaluations after it."""

    metric: str
    n: int
    lower_is_better: bool
    value: float = math.nan
    step: int = 0
    since: int = 0

    def add(self, value: float, step: int) -> bool:
        """Add an evaluation and return whether it is the best; a non-finite one never is."""
        better = value < self.value if self.lower_is_better else value > self.value
        if math.isfinite(value) and (better or math.isnan(self.value)):
            self.value, self.step, self.since = value, step, 0
            return True
        self.since += 1
        return False

    def ending(self, progress: float) -> dict[str, str]:
        """Return the message of a run's last event: the best checkpoint, and why it ends before its budget is used."""
        if not self.step:
            return {}
        patience = f"no better in {self.since} evaluations; " if progress < 1 else ""
        best = f"best {self.metric} {self.value:.4g} at step {self.step:,}, checkpoints/{BEST}"
        return {"message": patience + best}

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of the same metric and number of images; ignore any other."""
        if (state.get("metric"), state.get("n")) == (self.metric, self.n):
            self.value, self.step, self.since = float(state["value"]), int(state["step"]), int(state["since"])
