"""gan explain: what a word of the log, of the page or of gan evaluate means."""

import re
import shutil
import textwrap
from collections.abc import Sequence

from gancli.config import UsageError, nearest
from gancli.metrics.term import Term
from gancli.metrics.terms import GROUPS, LOWER_RATE, names

WIDEST = 100  # columns
LABEL = 11  # columns of the labels of an explanation


def main(words: Sequence[str]) -> None:
    """Print the explanation of every term that the words name, or a list of all terms."""
    if not words:
        print(overview())
        return
    # A term may be typed as several words: mode collapse, D real.
    terms = matching(" ".join(map(str, words))) or [term for word in words for term in one_or_more(str(word))]
    print("\n\n".join(explanation(term) for term in dict.fromkeys(terms)))


def one_or_more(word: str) -> list[Term]:
    """Return the terms that a word names; raise UsageError with the nearest name if there are none."""
    terms = matching(word)
    if not terms:
        raise UsageError(f"there is no term {word!r}{nearest(word, names())}; gan explain lists them")
    return terms


def matching(word: str) -> list[Term]:
    """Return the term of this name, however it is spelled, or else all terms with the word in a name."""
    every, letters = [term for terms in GROUPS.values() for term in terms], plain(word)
    same = [term for term in every if letters in map(plain, term.names)]
    return same or [term for term in every if any(letters in map(plain, parts(name)) for name in term.names)]


def plain(name: str) -> str:
    """Return the letters and digits of a name: D(real), d_real and "D real" are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def parts(name: str) -> list[str]:
    """Return the beginnings and ends of a name: gradient_norm of gradient_norm(G), adversarial of G/adversarial."""
    cuts = [match.start() for match in re.finditer(r"[\W_]", name)]
    return [part for cut in cuts for part in (name[:cut], name[cut:])]


def explanation(term: Term) -> str:
    """Return the lines on one term."""
    remedies = [f"{remedy} (a quarter of yours)" if remedy == LOWER_RATE else remedy for remedy in term.remedies]
    rows = [("meaning", term.meaning), ("direction", term.direction), ("normal", term.normal)]
    rows += [("type" if i == 0 else "or", remedy) for i, remedy in enumerate(remedies)]
    rows.append(("also" if remedies else "if not", term.advice))
    lines = [", ".join(term.names)]
    for label, text in rows:
        lines += textwrap.wrap(text, width(), initial_indent=f"  {label:<{LABEL}}", subsequent_indent=" " * (LABEL + 2))
    return "\n".join(lines)


def overview() -> str:
    """Return all terms by groups, each with its meaning and direction."""
    lines = []
    for group, terms in GROUPS.items():
        lines += [group, ""]
        for term in terms:
            lines += textwrap.wrap(", ".join(term.names), width(), initial_indent="  ", subsequent_indent="  ")
            meaning = term.meaning if group == "findings" else f"{term.meaning}. {term.direction}"
            lines += textwrap.wrap(meaning, width(), initial_indent="      ", subsequent_indent="      ")
        lines.append("")
    return "\n".join([*lines, "gan explain WORD says more about one"])


def width() -> int:
    return min(shutil.get_terminal_size().columns, WIDEST)
