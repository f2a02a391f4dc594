"""Text for people and for JSON: one line, tables, plurals, and numbers that JSON can hold."""

import errno
import html
import math
import os
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from typing import Any


def one_line(value: object, limit: int = 0) -> str:
    """Return the text of a value or an exception on one line, without control characters.

    Args:
        limit: largest length in characters, the rest is cut; 0 cuts nothing.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in printable(str(value))).split())
    text = text or (type(value).__name__ if isinstance(value, BaseException) else "")
    return f"{text[: limit - 1]}…" if limit and len(text) > limit else text


def sentence(error: BaseException) -> str:
    """Return an error on one line; one of the system names the file and the reason, and says what a full disk needs."""
    if not isinstance(error, OSError) or not error.strerror:
        return one_line(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "; what is saved is safe: make room there, then type the same command again" if full else ""
    return one_line(f"{printable(str(error.filename or 'the disk'))}: {error.strerror}{advice}")


def printable(name: str) -> str:
    """Return a file name as text that can be printed: bytes that are not valid text become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def shell_quote(text: str) -> str:
    """Return a text as a shell must be given it, on one line and without spaces that a message would join.

    What cannot be printed, and bytes that are no text, become $'...' of bash, zsh and ksh.
    """
    if text.isprintable() and "  " not in text:
        return shlex.quote(text)
    octal = (
        "".join(f"\\{byte:03o}" for byte in os.fsencode(c)) if c in " '\\" or not c.isprintable() else c for c in text
    )
    return f"$'{''.join(octal)}'"


def shell_join(words: Iterable[str]) -> str:
    """Return words as one line for a shell."""
    return " ".join(map(shell_quote, words))


def plural(n: int, noun: str) -> str:
    """Return "1 image", "2,000 images"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def without_nan(value: Any) -> Any:
    """Return nested dicts and lists with None for every number that is not finite: JSON has no nan."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_cell(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; a number stays a number."""
    try:
        float(cell)
    except ValueError:
        return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
    return cell


def markdown(value: str) -> str:
    """Return a text that Markdown shows as it is: without HTML, links, images, code and emphasis."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(value, quote=False))


def code_span(value: str) -> str:
    """Return a text as code in Markdown, which backticks in it do not end."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", value)), default=0))
    return f"{fence}{value}{fence}" if fence == "`" else f"{fence} {value} {fence}"


def table(rows: Sequence[Sequence[str]], markdown: bool = False, left: Collection[int] = (0,)) -> str:
    """Return rows of cells as aligned columns. The first row is the header.

    Args:
        markdown: with pipes and a rule below the header.
        left: indices of the columns that are left-aligned; the others are right-aligned.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [[c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))] for row in rows]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i in left else ":") for i, w in enumerate(widths)) + "|"
    piped = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([piped[0], rule, *piped[1:]])
