"""gan new: a small package that adds a network and a loss to gan, ready to install."""

import importlib.util
import keyword
import re
import shutil
import sys
import tempfile
from pathlib import Path

from gancli.config import choices
from gancli.plugins import NEVER
from gancli.runtime.files import typed_path
from gancli.runtime.text import shell_quote

TEMPLATE = Path(__file__).resolve().parent.parent / "template"
NAME = "my_gan"  # in the template, as are my-gan and MyGan


def main(dir: str, name: str) -> None:
    """Write the package and print its folder."""
    if not dir:
        raise ValueError("no folder was given; type gan new DIR, as in gan new calm_gan")
    folder = typed_path(dir)
    name = name or re.sub(r"\W+", "_", folder.resolve().name.lower())
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{dir} exists and is not empty; type another folder")
    check_name(name)
    write_package(folder, name)
    print(folder)
    words = f"pip install -e {shell_quote(str(folder))}; gan train model={name}; gan sample ckpt=latest"
    print(f"then type {words}; its README has more", file=sys.stderr)


def check_name(name: str) -> None:
    """Raise ValueError for a name that no new package, model and plugin can have."""
    advice = "type name=, as in name=calm_gan"
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"{name!r} cannot be the name of a package; {advice}")
    if name in choices("model"):
        raise ValueError(f"there is a model {name} already; {advice}")
    spec = importlib.util.find_spec(name)
    if name in NEVER or (spec and spec.origin):  # a folder of that name is no package yet
        raise ValueError(f"there is a package {name} already; {advice}")


def write_package(folder: Path, name: str) -> None:
    """Write the template with another name, all of it or nothing."""
    names = {NAME: name, NAME.replace("_", "-"): name.replace("_", "-")}
    names["MyGan"] = "".join(part.capitalize() for part in name.split("_"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name[:100]}-") as temporary:
        for file in sorted(TEMPLATE.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                target = Path(temporary, "package", renamed(file.relative_to(TEMPLATE).as_posix(), names))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(renamed(file.read_text(encoding="utf-8"), names), encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()  # it is empty
        shutil.move(Path(temporary, "package"), folder)


def renamed(text: str, names: dict[str, str]) -> str:
    """Return a text with the template's names replaced."""
    for old, new in names.items():
        text = text.replace(old, new)
    return text
