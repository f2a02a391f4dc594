"""Sphinx's settings for `make docs`, and the pages that are made from the code while it builds.

The text is Markdown that also reads well in the repository. `<!-- generated: NAME -->` on a page becomes the output of
`reference_pages.NAME()`, and `<!-- file: NAME -->` that file of the repository. So no key, default or meaning is typed
twice.
"""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference_pages  # noqa: E402

import gancli  # noqa: E402

project = "gan"
release = gancli.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "gan"
html_show_sphinx = html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["docs.css"]
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
# Without these the site fetches nothing: no web font, no script of another host.
html_theme_options = {"footer_icons": []}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False  # types of torch and PIL have no page here; links between pages are checked all the same


# Pages of the site that are files of the repository.
FILES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "gancli/weights/README.md": "reference/weights.md",
}


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the marks of a page by what they stand for, and links to files of the repository by those to pages."""
    folder = (HERE / page).parent
    text = relink(source[0], folder, folder)
    text = re.sub(r"<!-- generated: (\w+) -->", lambda mark: getattr(reference_pages, mark[1])(), text)
    source[0] = re.sub(r"<!-- file: (\S+) -->", lambda mark: file_of_repository(mark[1], folder), text)


def file_of_repository(name: str, folder: Path) -> str:
    """Return a Markdown file of the repository as it reads from another folder."""
    file = HERE.parent / name
    return relink(file.read_text(), file.parent, folder)


def relink(text: str, old: Path, new: Path) -> str:
    """Return Markdown whose relative links, seen from the folder `old`, lead to the same files from `new`."""

    def moved(link: re.Match[str]) -> str:
        path, hash, anchor = link[1].partition("#")
        target = Path(os.path.normpath(old / path))
        if target.is_relative_to(HERE.parent) and (own := FILES.get(target.relative_to(HERE.parent).as_posix())):
            target = HERE / own
        return f"]({os.path.relpath(target, new)}{hash}{anchor})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)\s]+)\)", moved, text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", fill_in)
