"""gan info: what a checkpoint holds."""

import math
from pathlib import Path

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.exported import settings
from gancli.config import data_title
from gancli.images import in_pixels
from gancli.report.run_folder import read_run
from gancli.runtime.text import one_line, plural, printable

LONGEST = 1000  # characters


def main(ckpt: str) -> None:
    """Print what was trained, how far, by which versions, and every setting."""
    path = checkpoint.find(ckpt)
    content = checkpoint.read(path)
    config, output = content["config"], content["output"]
    names = output["class_names"]
    first = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    extent = f"{plural(content['step'], 'step')}, {plural(content['images'], 'image')}"
    extent += f", {content['seconds'] / 60:.1f} minutes"
    data = printable(data_title(config["data"]["name"], config["data"].get("path")))
    rows = {
        "file": f"{path}  ({path.stat().st_size / 2**20:.1f} MB, format {content['format']})",
        "model": f"{config['model']['name']} on {data}",
        "trained": f"G alone: {content['trained']}" if "trained" in content else extent,
        "images": f"{in_pixels(output['size'])}, {plural(output['channels'], 'channel')}, values in [-1, 1]",
        "classes": f"{len(names)}: {first}" if config["model"]["classes"] else "none: unconditional",
        "written by": ", ".join(f"{name} {version}" for name, version in content["versions"].items()),
    }
    for name, network in content["networks"].items():
        size = sum(math.prod(t.shape) for t in network["state"].values())
        rows[name] = f"{network['config']['_target_']}, {size / 1e6:.2f} M values"
    if skipped := skipped_in(path):
        rows["not read"] = "; ".join(skipped)
    for name, text in rows.items():
        print(f"{name:<12}{one_line(text, LONGEST)}")
    print("\nsettings")
    for line in settings(config):
        print("  " + one_line(line, LONGEST))


def skipped_in(ckpt: Path) -> tuple[str, ...]:
    """Return what cannot be read of the run that a checkpoint lies in, such as "2 lines of metrics.jsonl"."""
    run = ckpt.absolute().parent.parent
    return read_run(run).skipped if ckpt.absolute().parent.name == "checkpoints" else ()
