"""The documentation holds together: links, pictures, length, and a site that needs no network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

MARKDOWN = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)")


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_between_files_of_the_repository_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def test_every_picture_is_shown_on_some_page() -> None:
    shown = {(page.parent / link).resolve() for page in MARKDOWN for link in LINK.findall(page.read_text())}
    pictures = {file.resolve() for file in (ROOT / "docs" / "images").rglob("*") if file.is_file()}
    assert pictures - shown == set()


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 150
    assert max(map(len, lines)) < 160  # a paragraph is several lines, not one


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site as `make docs` builds it, where a warning is an error."""
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", ROOT / "docs", folder]
    process = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"(?:https?:)?//[^\"]+", page.read_text())
        assert fetched == [], page
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", styles)


@pytest.mark.slow
def test_reference_pages_hold_every_command_model_and_key(site: Path) -> None:
    from gancli.cli.help import commands
    from gancli.config import choices, keys

    page = (site / "reference" / "commands.html").read_text()
    assert all(f">gan {command}<" in page for command in commands())
    assert all(key.name in page for key in keys("trainer/default", "trainer."))
    models = (site / "reference" / "models.html").read_text()
    assert all(f'id="{model.replace("_", "-")}"' in models for model in choices("model"))
