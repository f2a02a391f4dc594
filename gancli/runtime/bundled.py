"""The files that come with this package, each with the SHA-256 that it must have."""

import functools
import hashlib
import json
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
WEIGHTS = PACKAGE / "weights"
STARTER = "starter-"  # begins the names of files that ckpt=NAME finds
SHA256 = {
    "features-cifar.safetensors": "8887a74a76526882d85ba2e6948030535d93d39b781f32a8a0fa62684b86fc7f",
    "features-mnist.safetensors": "6be1dc001f9e45e47f8e5465e30405e246eaaca15a83193bf96df6b675db508c",
    "mnist10k.npz": "b801ae37d7b1d24f0152478059418e26846df8e088918f106369386fbdab8183",
    "niqe.safetensors": "8306326ee36635172cf15ec30c162cda2f7e5d4cf246c221ed41d2bd819770b2",
    "sr_attentive-x2-faithful.safetensors": "aa755afa35ff269c07b1d120e4afe5b06d8b3a351265eaf92c2a0a04392a6394",
    "sr_attentive-x3-faithful.safetensors": "75375664efbcad67b2e66824174a7d7462d9e40201b439f0db919d884af878de",
    "sr_attentive-x4-faithful.safetensors": "1c5ac8cdddc5c39ed72862f3834c95483c1a786c446983e84ea66f3c1a3536f2",
    "sr_attentive-x4-restore.safetensors": "95b56395117d4bf1fb8e07a60c8c41bb61a5527209d7ec834bef0bb6c347b4b2",
    "sr_attentive-x4-sharp.safetensors": "abb72526949746a790d257dfe8ed81e6309af61532d0d9cec49ea1b79f146ad4",
    "starter-cifar10.safetensors": "5b44e954dc767946aa9833646166f2f0395ad99b77dfa1a8c1d542f3a22576b2",
    "starter-mnist-encoder.safetensors": "8388d9c996d6b6887de988ac256cf03e44fee41b169608c594197a4d3e06a572",
    "starter-mnist.safetensors": "d6a83ba7872434fff1b8eb73d5dd14b4ddfd7e4d8c8982b61a9fbb694e68a58e",
}


def starters() -> dict[str, Path]:
    """Return the bundled checkpoints that `ckpt=NAME` takes, by name."""
    found = {file.stem.removeprefix(STARTER): file for file in WEIGHTS.glob(f"{STARTER}*.safetensors")}
    return dict(sorted(found.items()))


def trained(starter: Path) -> str:
    """Return in one line what a bundled checkpoint was trained on: by its header, which needs no torch."""
    with verified(starter).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return str(json.loads(header["__metadata__"]["gancli_content"])["trained"])


@functools.cache
def verified(path: Path) -> Path:
    """Return the path of a bundled file, read once per process; raise ValueError if it is not the one of this version.

    Files outside the package, such as those of somebody who trains networks to bundle, are not checked.
    """
    expected = SHA256.get(path.name) if path.is_relative_to(PACKAGE) else None
    if expected and path.is_file() and (given := hashlib.sha256(path.read_bytes()).hexdigest()) != expected:
        raise ValueError(
            f"{path} is not the file that belongs to this version and was not opened: its SHA-256 begins with "
            f"{given[:12]}, not with {expected[:12]}; type pip install --force-reinstall gancli"
        )
    return path
