"""Self-contained HTML from templates: styles and scripts are inlined, every value is escaped."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gancli import __version__
from gancli.report import formatting
from gancli.runtime.publish import published
from gancli.runtime.text import printable

HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Return the HTML of a template. Text that UTF-8 cannot hold, such as an odd file name, is written as escapes."""
    values |= {"data": published(values["data"])}
    return printable(_environment().get_template(template).render(values))


def _finalized(value: Any) -> Any:
    """Return what an expression of a template writes; markup is ours."""
    return published(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {"number": formatting.number, "count": formatting.count}
    static = {file.name: file.read_text(encoding="utf-8") for file in (HERE / "static").iterdir()}
    environment.globals |= {"static": static, "version": __version__, "now": datetime.now}
    return environment
