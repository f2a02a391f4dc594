"""gan export: a generator for other programs."""

import json
from pathlib import Path

from safetensors.torch import save_file

from gancli import checkpoint


def main(ckpt: str, out: str, half: bool, ema: bool) -> None:
    """Write the generator's tensors, and in the file's metadata its config and what was trained; prints the path."""
    path = Path(out).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"out={out} is no form that is written; type out=generator.safetensors")
    if path.exists():
        raise ValueError(f"{path} is there already; type another out=, or remove it first")
    file = checkpoint.find(ckpt)
    content = checkpoint.read(file)
    network, config = content["networks"]["G"], content["config"]
    checkpoint.rebuild(network["config"]).load_state_dict(content["ema"] if ema else network["state"])  # it is whole
    state = content["ema"] if ema else network["state"]
    tensors = {k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in state.items()}
    metadata = {
        "network": json.dumps(network["config"]),
        "output": json.dumps(content["output"]),
        "trained": f"{config['model']['name']} on {config['data']['name']}, {content['step']} steps, "
        f"{content['images']} images, {content['seconds'] / 60:.1f} minutes, seed {config['seed']}",
        "versions": json.dumps(content["versions"]),
    }
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial, metadata)
    partial.replace(path)
    print(path)
