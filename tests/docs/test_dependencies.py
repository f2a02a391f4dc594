"""What gan depends on is bounded, locked, listed with its licence, and in the bill of materials."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

sys.path.append(str(ROOT / "docs"))
from dependencies import LOCK, PAGE, direct, lowest

DIRECT = [one for requirements in direct().values() for one in requirements]


@pytest.mark.parametrize("one", DIRECT, ids=lambda one: one.name)
def test_every_dependency_has_bounds_and_its_locked_version_lies_within_them(one: Requirement) -> None:
    assert {"<", ">="} <= {bound.operator for bound in one.specifier}
    locked = dict(line.split("==") for line in LOCK.read_text().splitlines() if "==" in line)
    assert one.specifier.contains(locked[canonicalize_name(one.name)])


def test_the_table_of_licences_lists_what_is_locked_with_the_bounds_of_today() -> None:
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "|" in line
    ]
    listed = {row[0]: row for row in rows[2:]}
    assert [f"{name}=={row[1]}" for name, row in listed.items()] == LOCK.read_text().splitlines()[1:]
    for one in DIRECT:
        bounds = set(listed[canonicalize_name(one.name)][2].split(","))
        assert set(map(str, one.specifier)) <= bounds, "type make lock"


def test_the_lowest_versions_are_the_lower_bounds_of_gan_and_its_extras() -> None:
    pins = lowest(["torch"])
    assert "hydra-core==1.3.6" in pins and any(pin.startswith("onnxscript==") for pin in pins)
    assert not [pin for pin in pins if pin.startswith(("torch==", "ruff"))]


@pytest.mark.slow
def test_the_bill_of_materials_holds_every_dependency_and_no_path_of_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py")
    (recipe,) = re.findall(r"^sbom:.*\n\t(.+)\n", (ROOT / "Makefile").read_text(), re.M)
    words = recipe.replace("sbom.json", str(tmp_path / "sbom.json")).replace(
        ".venv/bin/", f"{Path(sys.executable).parent}/"
    )
    subprocess.run(words.split(), cwd=ROOT, check=True)
    text = (tmp_path / "sbom.json").read_text()
    content = json.loads(text)
    components = {canonicalize_name(part["name"]): part["version"] for part in content["components"]}
    assert content["bomFormat"] == "CycloneDX" and {canonicalize_name(one.name) for one in DIRECT} <= components.keys()
    assert str(ROOT) not in text and "file:" not in text
