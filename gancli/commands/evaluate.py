"""gan evaluate: metrics of a model, or of a folder of generated images, together with their protocol."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml

from gancli import images as pixels
from gancli.checkpoint import format as checkpoint
from gancli.config import CONFIGS, choices
from gancli.data.by_name import load_by_name
from gancli.data.contents import data_name, describe_files
from gancli.evaluation import autoencoders, copies, generative, image_to_image, super_resolution
from gancli.evaluation.image_folder import ImageFolder
from gancli.evaluation.reference import EvaluationSet, has_split, load_reference
from gancli.evaluation.result import EvaluationResult
from gancli.inference.generator import command_for, load
from gancli.inference.styles import AUTO, AutoUpscaler, load_style
from gancli.inference.upscaler import STYLES, Upscaler, load_upscaler
from gancli.runtime.device import choose_device
from gancli.runtime.files import append_line, check_writable, typed_path, write_text
from gancli.runtime.links import refuse_links
from gancli.runtime.terminal import say
from gancli.runtime.text import plural, printable, shell_join, without_nan

SCORES = "scores.jsonl"  # in a run folder: the evaluations of its checkpoints, one a line


class Options(SimpleNamespace):
    """Keys of configs/evaluate.yaml."""

    def command(self, ckpt: Path) -> str:
        """Return the command that repeats this evaluation of the file `ckpt`."""
        defaults = yaml.safe_load((CONFIGS / "evaluate.yaml").read_text(encoding="utf-8"))
        values = {**vars(self), "ckpt": str(ckpt), "out": "", "json": "", "device": defaults["device"]}
        texts = {"metrics": f"[{','.join(map(str, self.metrics))}]", "ema": str(self.ema).lower()}
        changed = (key for key, value in values.items() if value != defaults[key])
        return shell_join(["gan", "evaluate", *(f"{key}={texts.get(key, values[key])}" for key in changed)])


def main(**keys: Any) -> None:
    """Evaluate, print the results, and append them to the run of the checkpoint.

    Raises:
        ValueError: nothing was measured, or at the end if some images were not.
    """
    options = Options(**keys)
    for key, path, suffix in (("out", options.out, ".png"), ("json", options.json, ".json")):
        if path and Path(path).suffix.lower() != suffix:
            raise ValueError(f"{key}={path} is not a format that can be written; type {key}=x{suffix}")
        if path:
            check_writable(key, Path(path))
    device = choose_device(options.device)
    if not options.ckpt and not options.images:
        raise ValueError(
            "nothing to evaluate was given; type ckpt=FILE, ckpt=RUN, ckpt=latest, ckpt=auto or another style, or "
            "images=DIR reference=DIR"
        )
    if options.ckpt and (options.reference or options.size or options.channels):
        raise ValueError("reference=, size= and channels= are for images= without a model; leave them out, or ckpt=")
    result = evaluate_model(options, device) if options.ckpt else evaluate_images(options, device)
    print(result.text)
    for warning in result.warnings:
        print(f"gan: {warning}", file=sys.stderr)
    if options.out and result.image:
        print(pixels.write(result.image, Path(options.out)))
    if options.json:
        content = without_nan({"protocol": result.protocol, **result.results})
        write_text(Path(options.json), json.dumps(content, indent=1, allow_nan=False) + "\n")
        print(options.json)
    if result.error:
        raise ValueError(result.error)


def evaluate_model(options: Options, device: torch.device) -> EvaluationResult:
    """Evaluate a model by the metrics of its type."""
    if options.ckpt in (AUTO, *STYLES):
        upscaler = load_style(options.ckpt, options.scale, device)
        return evaluate_upscaler(options, upscaler, f"bundled style={options.ckpt} scale={options.scale}")
    file = checkpoint.find(options.ckpt)
    if file.suffix.lower() == ".pth" or not checkpoint.is_checkpoint(file):
        return evaluate_upscaler(options, load_upscaler(file, scale=options.scale, device=device), str(file))
    content, G = checkpoint.read(file), load(file, options.ema, device)
    name, command = printable(content["config"]["model"]["name"]), command_for(G.network)
    averaged = bool(content.get("averaged", options.ema))  # an exported file has one set of weights
    described = "averaged weights" if averaged else "weights as trained"
    weights = f"{name} of {plural(content['step'], 'step')}, {described}, {file}"
    if command == "upscale":
        result = evaluate_upscaler(options, Upscaler(G.network), weights)
    elif options.images:
        raise ValueError(
            f"images= are images to enlarge, and {file} is a {name}; type data=DIR, or leave both out for the data "
            f"that it was trained on"
        )
    elif command != "sample" and options.metrics and not G.z_dim:
        raise ValueError(
            f"metrics= are scores of images generated from noise, and {file} is a {name}, which generates none; "
            f"leave metrics= out"
        )
    else:
        trained, of_copies = content["config"]["data"], asks_for_copies(options)
        split = "train" if of_copies else options.split
        data, named, split, files = load_reference(options.data, split, trained, G.size, G.channels)
        n = max(len(data), 1) if of_copies else options.n
        reference = EvaluationSet(data, named, split, n, options.seed, files)
        if of_copies:
            fake = generative.GeneratedImages(G, min(options.n, copies.GENERATED), options.seed)
            result = copies.evaluate(fake, reference, [str(reference), weights], options.seed, device)
        elif command == "sample" or options.metrics:
            scores = (options.metrics, options.inception)
            result = generative.evaluate_generator(G, weights, averaged, reference, *scores)
        elif command == "reconstruct":
            result = autoencoders.evaluate(G, weights, reference, options.samples)
        else:
            result = image_to_image.evaluate(G, weights, reference, content["config"])
    append_scores(result, options, file, content["step"])
    return result


def asks_for_copies(options: Options) -> bool:
    """Return whether copies are asked for; raise ValueError where other scores are too."""
    if copies.METRIC not in options.metrics:
        return False
    if len(options.metrics) > 1:
        others = ",".join(str(metric) for metric in options.metrics if metric != copies.METRIC)
        raise ValueError(
            f"copies compares with all training images and {others} with the split that is typed; type "
            f"metrics=[copies], and metrics=[{others}] in another command"
        )
    return True


def evaluate_upscaler(options: Options, upscaler: Upscaler | AutoUpscaler, weights: str) -> EvaluationResult:
    """Evaluate a super-resolution network on a folder of images."""
    if options.data:
        raise ValueError(f"images to enlarge are of any size, and data={options.data} has one; type images=DIR")
    return super_resolution.evaluate(
        upscaler, weights, options.images, options.split, bool(options.out), list(map(str, options.metrics))
    )


def append_scores(result: EvaluationResult, options: Options, ckpt: Path, step: int) -> None:
    """Append the results to the run folder that the checkpoint lies in, for `gan report`; skip a lone file."""
    run = ckpt.absolute().parent.parent
    if ckpt.absolute().parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        return
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "command": options.command(ckpt),
        "step": step,
        "metrics": without_nan(result.headline),
        "protocol": without_nan(result.protocol),
    }
    file = run / SCORES
    try:
        refuse_links(run)
        append_line(file, json.dumps(row))
    except (OSError, ValueError) as error:  # no reason to lose the results
        reason = f"{file}: {error.strerror}" if isinstance(error, OSError) else str(error)
        say(f"gan: not added to the run, {reason}; json=scores.json keeps the results")


def evaluate_images(options: Options, device: torch.device) -> EvaluationResult:
    """Score a folder or an .npz file of images against real ones."""
    if bool(options.reference) == bool(options.data):
        both = "both were given" if options.data else "no ckpt= to enlarge them was given, nor either of these"
        raise ValueError(
            f"images= are compared with reference=DIR, a folder, or with data=NAME, and {both}; type one of them"
        )
    shape = (options.size, options.channels, options.n, options.seed, options.split)
    fake = ImageFolder("images", options.images, *shape)
    real: ImageFolder | EvaluationSet
    if options.reference:
        real = ImageFolder("reference", options.reference, *shape)
    else:
        data = load_by_name(options.data, options.size or None, options.channels or None, options.split)
        split = data.split or (options.split if has_split(options.data) else "none")
        is_folder = options.data not in choices("data")
        named = data_name("folder", options.data) if is_folder else options.data
        content = describe_files(typed_path(options.data))["digest"] if is_folder else ""
        real = EvaluationSet(data, named, split, options.n, options.seed, content)
    if asks_for_copies(options):
        return copies.evaluate(fake, real, [str(real), str(fake)], options.seed, device)
    return generative.evaluate_images(fake, real, options.metrics, options.inception, device)
