"""gan info: what a checkpoint holds."""

import math

from gancli.checkpoint import format as checkpoint
from gancli.config import flatten

LONGEST = 1000  # characters of a line


def main(ckpt: str) -> None:
    """Print what was trained, how far, by which versions, and every setting."""
    path = checkpoint.find(ckpt)
    content = checkpoint.read(path)
    config, output = content["config"], content["output"]
    names = output["class_names"]
    first = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    rows = {
        "file": f"{path}  ({path.stat().st_size / 2**20:.1f} MB, format {content['format']})",
        "model": f"{config['model']['name']} on {config['data']['name']}",
        "trained": f"{content['step']:,} steps, {content['images']:,} images, {content['seconds'] / 60:.1f} minutes",
        "images": f"{output['size']}x{output['size']}, {output['channels']} channels, values in [-1, 1]",
        "classes": f"{len(names)}: {first}" if config["model"]["classes"] else "none: unconditional",
        "written by": ", ".join(f"{name} {version}" for name, version in content["versions"].items()),
    }
    for player, network in content["networks"].items():
        size = sum(math.prod(t.shape) for t in network["state"].values())
        rows[player] = f"{network['config']['_target_']}, {size / 1e6:.2f} M values"
    for name, text in rows.items():
        print(shown(f"{name:<12}{text}"))
    print("\nsettings")
    for key, value in flatten({k: config[k] for k in ("seed", "data", "model", "trainer")}).items():
        if "_target_" not in key and not key.startswith(("model.objective", "model.optimizers", "data.source")):
            print(shown(f"  {key}={value}"))


def shown(text: str) -> str:
    """A line as a terminal may have it: what is in a stranger's file moves no cursor and sets no colours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:LONGEST])
