"""gan push: a generator for others on the Hugging Face Hub, with a card that is written from its run."""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from gancli import images
from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.exported import generator_only, settings
from gancli.checkpoint.hub import FILE, PREFIX, check_upload, is_address, split_address, upload
from gancli.inference.generator import Generator, command_for
from gancli.inference.generator import load as load_generator
from gancli.report.run_folder import Score, read_run
from gancli.runtime.publish import published, publishing
from gancli.runtime.text import code_span, markdown, one_line, plural, table

GRID = 64  # generated images of the card
SHOWN, LONGEST = 30, 300  # class names of the card, and characters of a line


def main(ckpt: str, to: str, license: str, private: bool, half: bool, ema: bool, publish_paths: bool = False) -> None:
    """Upload G, its card and a grid of generated images, and print the address of the repository."""
    if not is_address(to):
        raise ValueError(f"to={to} names no repository; type to=hf:user/name")
    repository, revision = split_address(to, "to")
    if revision:
        raise ValueError(f"to={to} names a revision, and gan push adds one; type to={PREFIX}{repository}")
    if license and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license):
        raise ValueError(f"license={license} is no identifier of the hub; type license=mit, or leave it out")
    check_upload(repository)
    file = checkpoint.find(ckpt)
    with publishing(publish_paths), tempfile.TemporaryDirectory() as name:
        write_folder(Path(name), file, generator_only(checkpoint.read(file), ema, half), repository, license)
        address = upload(repository, Path(name), private)
    print(address)
    print(f"others type gan sample ckpt={PREFIX}{repository}", file=sys.stderr)


def write_folder(folder: Path, file: Path, content: dict[str, Any], repository: str, license: str) -> None:
    """Write what is uploaded: the checkpoint, a grid of generated images and the card."""
    checkpoint.write(folder / FILE, content)
    G = load_generator(folder / FILE)
    if G.z_dim:  # grids of a run of other models show images of its data
        x = G.sample(GRID)
        columns = G.classes if 1 < G.classes <= 16 else None
        images.write(images.grid(x, columns), folder / "samples.png")
    (folder / "README.md").write_text(card(file, content, G, repository, license), encoding="utf-8")


def card(file: Path, content: dict[str, Any], G: Generator, repository: str, license: str) -> str:
    """Return the model card: what the hub reads, a grid, the network, its scores with their protocols, and settings."""
    config = content["config"]
    name, data = (markdown(one_line(config[part]["name"], 100)) for part in ("model", "data"))
    task = "unconditional-image-generation" if G.z_dim else "image-to-image"
    facts = {"library_name": "gancli", "pipeline_tag": task, "tags": ["gan", "gancli"]}
    facts = {**({"license": license} if license else {}), **facts}
    weights = sum(x.numel() for x in G.network.parameters())
    names = ", ".join(code_span(one_line(text, 60)).replace("|", r"\|") for text in G.class_names[:SHOWN])
    rows = [
        ["", ""],
        ["trained", markdown(one_line(content["trained"], 300))],
        ["network", f"{code_span(content['networks']['G']['config']['_target_'])}, {weights / 1e6:.2f} M weights"],
        ["images", f"{G.size} x {G.size}, {plural(G.channels, 'channel')}"],
        ["classes", names + (", ..." if len(G.class_names) > SHOWN else "") or "none"],
        ["licence", license or "not stated: ask the author before you use it"],
    ]
    command = command_for(G.network)
    words = f"gan {command} {'' if command == 'sample' else 'IN '}ckpt={PREFIX}{repository}"
    parts = [
        f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n\n# {name} on {data}\n",
        "![generated images of seed 0](samples.png)\n" if G.z_dim else "",
        fenced(f"pip install 'gancli[hub]'\n{words}", "sh"),
        table(rows, markdown=True, left=(0, 1)) + "\n",
        "## Scores\n",
        scores(file),
        "## Settings\n",
        fenced("\n".join(one_line(line, LONGEST) for line in settings(config)), "text"),
        f"Written by `gan push`, gancli {content['versions'].get('gancli', '')}.\n",
    ]
    return "\n".join(part for part in parts if part)


def scores(file: Path) -> str:
    """Return the scores of the run that a checkpoint lies in, a table for each protocol."""
    run = read_run(file.absolute().parent.parent) if file.absolute().parent.name == "checkpoints" else None
    parts = []
    for score in run.scores if run else ():
        values = {name: value for name, value in score.metrics.items() if value is not None}
        if values:
            cells = [[markdown(one_line(name, 60)), f"{value:.4g}"] for name, value in values.items()]
            parts += [f"{protocol_of(score)}:", "", table([["score", "value"], *cells], markdown=True), ""]
    return "\n".join(parts) or "None were measured; `gan evaluate` measures them.\n"


def protocol_of(score: Score) -> str:
    """Return what a score depends on, without paths and names of this machine."""
    step = [] if score.step is None else [f"step {score.step:,.0f}"]
    entries = [score.heading, score.details, *step] if score.protocol else ["measured while training", *step]
    return markdown(published(" · ".join(entry for entry in entries if entry)))


def fenced(text: str, language: str) -> str:
    """Return a block of code, which no backticks in it end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}\n"
