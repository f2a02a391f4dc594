"""The peers and their virtual environments."""

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """Package of somebody else.

    Args:
        package: that is installed, with its version.
        more: packages that it needs and does not ask for.
        pins: False installs it without its dependencies, where nothing of today meets their versions.
        note: what a reader of the table must know.
        imports: modules of a package without an adapter, since importing them fails: that error is its entry.
    """

    package: str
    more: tuple[str, ...] = ()
    pins: bool = True
    note: str = ""
    imports: str = ""


PEERS = {
    "hypergan": Peer("hypergan[train,image]==2.0.0a1", note="template dcgan; one thread, by its own choice"),
    "particlegan": Peer("particlegan==0.9.4", note="default recipe; the DCGAN is ours, the package has none"),
    "torchgan": Peer("torchgan==0.1.0", note="DCGAN and LSGAN of its first tutorial"),
    "vegans": Peer(
        "vegans==0.4.0",
        ("wget", "matplotlib", "tensorboard"),
        pins=False,
        note="VanillaGAN of its README; it pins PyTorch 1.8.1, and runs with an iterator that has next()",
    ),
    "ganzoo": Peer(
        "pytorch-gan-zoo==0.0.6",
        ("pytorch-lightning<2", "setuptools<81"),
        note="its DCGAN without validation; Lightning below 2 added",
    ),
    "drift": Peer("drift-models==0.1.1", note="by class; values of its repository's CIFAR-10 example"),
    # It imports TensorFlow, after which PyTorch's triton would crash.
    "mimicry": Peer("torch-mimicry==0.1.16", imports="triton, torch_mimicry"),
    "lightweight": Peer("lightweight-gan==1.2.1", imports="lightweight_gan"),
    "stylegan2": Peer("stylegan2-pytorch==1.9.0", imports="stylegan2_pytorch"),
}


def clean_environment(home: Path) -> dict[str, str]:
    """Return the variables of a peer's processes: no module path, no GPU, and a home of its own to write to."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HYDRA"))}
    return {**variables, "HOME": str(home), "CUDA_VISIBLE_DEVICES": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def python_of(name: str, work: Path) -> Path:
    """Return the Python of a peer's environment, which is made once.

    The packages of the Python that runs this lie behind those of the environment: PyTorch is the same where the peer
    allows it.

    Raises:
        subprocess.CalledProcessError: the peer cannot be installed.
    """
    peer, folder = PEERS[name], work / "environments" / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists() and ready.read_text() == repr(peer):
        return python
    variables = clean_environment(Path.home())

    def call(*words: str | Path) -> None:
        subprocess.run(words, check=True, env=variables, capture_output=True, text=True)

    call(sys.executable, "-m", "venv", "--clear", folder)
    own = next((folder / "lib").glob("python*/site-packages"))
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = (python, "-m", "pip", "install")
    call(*install, *(() if peer.pins else ("--no-deps",)), peer.package)
    if peer.more:
        call(*install, *peer.more)
    ready.write_text(repr(peer))
    return python
