"""Write what gan depends on, from the packages that are installed: python docs/dependencies.py

It writes constraints.txt, the versions tried, and the table of docs/reference/dependencies.md. With `lowest` it
prints the lowest versions that pyproject.toml allows, one a line. Packages named after it are left out.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from gancli.runtime.text import code_span, markdown, table

ROOT = Path(__file__).resolve().parent.parent
LOCK, PAGE = ROOT / "constraints.txt", ROOT / "docs" / "reference" / "dependencies.md"
BEGIN, END = "<!-- dependencies: written by make lock -->", "<!-- end of dependencies -->"
TOOLS = ("dev", "docs")  # extras for who works on gan
APART = (
    "trackio",
    "ray",
)  # extras that do not allow the newest version of another package: tried on their own, not locked


def direct() -> dict[str, list[Requirement]]:
    """Return the requirements in pyproject.toml: those of gan under "gan", others under their extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"gan": project["dependencies"], **project["optional-dependencies"]}
    return {
        part: [parsed for text in texts if (parsed := Requirement(text)).name != "gancli"]
        for part, texts in parts.items()
        if part not in APART
    }


def lowest(without: list[str]) -> list[str]:
    """Return the lower bounds as pins, of gan and of the extras that a user installs; the highest of a package."""
    pins: dict[str, str] = {}
    for one in [one for part, requirements in direct().items() if part not in TOOLS for one in requirements]:
        (bound,) = [bound.version for bound in one.specifier if bound.operator == ">="]
        pins[one.name] = max(bound, pins.get(one.name, bound), key=Version)
    return sorted(f"{name}=={version}" for name, version in pins.items() if name not in without)


def needed() -> dict[str, list[str]]:
    """Return every package that gan or an extra needs, with the parts that need it."""
    parts: dict[str, list[str]] = {}
    for part, requirements in direct().items():
        waiting, seen = [(one, {""}) for one in requirements], set()
        while waiting:
            one, extras = waiting.pop()
            if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
                continue
            name = canonicalize_name(one.name)
            if (name, *sorted(one.extras)) not in seen:
                seen.add((name, *sorted(one.extras)))
                inner = distribution(name).requires or []
                waiting += [(Requirement(text), {"", *one.extras}) for text in inner]
                parts.setdefault(name, [])
                parts[name] += [part] if part not in parts[name] else []
    return dict(sorted(parts.items()))


def licence(name: str) -> str:
    """Return the licence that a package declares: an SPDX expression, a classifier, or the first line of its text."""
    about = distribution(name).metadata
    classes = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License :: ")]
    first = (about.get("License") or "").strip().partition("\n")[0]
    return about.get("License-Expression") or "; ".join(classes) or first or "not declared"


def page(parts: dict[str, list[str]]) -> str:
    """Return the table of packages: version tried, bounds of direct ones, licence, and who needs it."""
    bounds: dict[str, str] = {}
    for one in [one for requirements in direct().values() for one in requirements]:
        name = canonicalize_name(one.name)
        both = one.specifier & SpecifierSet(bounds.get(name, ""))
        bounds[name] = ",".join(reversed(str(both).split(",")))
    rows = [["package", "tried", "bounds", "licence", "needed by"]]
    for name, needing in parts.items():
        users = [part for part in needing if part not in TOOLS]
        who = "gan" if "gan" in users else ", ".join(users) or "development"
        bound = code_span(bounds[name]) if name in bounds else ""
        rows.append([name, distribution(name).version, bound, markdown(licence(name)), who])
    return table(rows, markdown=True, left=range(5))


def main(words: list[str]) -> str:
    """Write the files, or return the lowest versions."""
    if words[:1] == ["lowest"]:
        return "\n".join(lowest(words[1:]))
    try:
        parts = needed()
    except PackageNotFoundError as error:
        return f"{error.name} is not installed; type make lock"
    pins = [f"{name}=={distribution(name).version.partition('+')[0]}" for name in parts]
    LOCK.write_text("\n".join(["# The versions tried: pip install --constraint constraints.txt .", *pins, ""]))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{page(parts)}\n\n{END}{rest.partition(END)[2]}")
    return f"wrote {LOCK.name} and {PAGE.relative_to(ROOT)}: {len(parts)} packages"


if __name__ == "__main__":
    print(main(sys.argv[1:]))
