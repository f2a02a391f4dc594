"""Does a generator repeat its training images? Generated images versus all images it was trained on."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gancli import images
from gancli.checkpoint.format import versions
from gancli.evaluation.features import Images
from gancli.evaluation.result import CELL, EvaluationResult, contact_sheet
from gancli.metrics import copies
from gancli.metrics.copies import CopyDetector
from gancli.metrics.feature_extractors import bundled_extractor, default_extractor
from gancli.runtime.text import table

METRIC = "copies"
GENERATED, TRAINING = 1_000, 50_000  # largest numbers of images that are compared
PAIRS = 10  # of the contact sheet


def evaluate(fake: Images, training: Images, sources: list[str], seed: int, device: torch.device) -> EvaluationResult:
    """Compare generated images with training images; the contact sheet has the nearest pairs.

    Args:
        fake, training: images of one size.
        sources: lines for the text that say what they are.
    """
    if (fake.size, fake.channels) != (training.size, training.channels):
        sides = [f"{images.in_pixels(side.size)} with {side.channels} channels" for side in (fake, training)]
        raise ValueError(
            f"copies are found among images of one size, but these are {sides[0]} and {sides[1]}; type size= and "
            "channels="
        )
    known, generated = first_images(training, TRAINING), first_images(fake, GENERATED)
    extractor = bundled_extractor(default_extractor(training.channels), device)
    found = CopyDetector(known, extractor, seed)(generated)
    scores = {METRIC: found.fraction}
    protocol: dict[str, Any] = {
        "generated": len(generated),
        "training images": len(known),
        "threshold": round(found.threshold, 4),
        "nearest by": f"{extractor.name} {extractor.hash} and spectra of {copies.WAVES} waves",
        "seed": seed,
        "sources": sources,
        "versions": versions(),
    }
    row = [METRIC, f"{found.fraction:.4f}", "", f"{copies.FALSE_ALARMS:.4f}", "lower is better"]
    text = [
        *(table([["", "generated", "", "real", ""], row]), ""),
        f"{len(generated):,} generated images, {len(known):,} training images; seed {seed}",
        *sources,
        f"a copy: its details correlate by more than {found.threshold:.3f} with a training image or its mirror image; "
        f"those of {copies.FALSE_ALARMS:.0%} of the training images or fewer do with another",
    ]
    return EvaluationResult(
        {"scores": scores, "real": {METRIC: copies.FALSE_ALARMS}},
        protocol,
        scores,
        "\n".join(text),
        pairs(generated, known, found),
    )


def first_images(side: Images, most: int) -> Tensor:
    """Return the first images of a set, at most `most`, uint8 (N, C, H, W)."""
    parts, count = [], 0
    for x, _ in side.uint8_batches():
        parts.append(x)
        if (count := count + len(x)) >= most:
            break
    return torch.cat(parts)[:most]


def pairs(generated: Tensor, training: Tensor, found: copies.Copies) -> Image.Image:
    """Return a contact sheet of the generated images that are nearest to a training image, each next to it."""
    order = found.correlation.argsort(descending=True)[:PAIRS]
    theirs = training[found.nearest[order]]
    theirs = torch.where(found.mirrored[order][:, None, None, None], theirs.flip(3), theirs)
    rows = []
    for a, b in zip(images.to_array(generated[order]), images.to_array(theirs)):
        factor = max(1, CELL // a.shape[0])
        rows.append([images.to_pil(x.repeat(factor, 0).repeat(factor, 1)).convert("RGB") for x in (a, b)])
    return contact_sheet(["generated", "training"], rows)
