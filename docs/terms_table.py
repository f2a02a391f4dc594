"""Write the table of terms into docs/reading-a-run.md: python docs/terms_table.py"""

from pathlib import Path

from gancli.metrics.terms import GROUPS
from gancli.runtime.text import table

PAGE = Path(__file__).parent / "reading-a-run.md"
BEGIN, END = "<!-- terms: written by docs/terms_table.py -->", "<!-- end of terms -->"


def markdown() -> str:
    """Return a table for each group of terms."""
    parts = []
    for group, terms in GROUPS.items():
        rows = [["term", "meaning", "direction", "normal"]]
        for term in terms:
            cells = ["`, `".join(term.names).join("``"), term.meaning, term.direction, term.normal]
            rows.append([cell.replace("|", r"\|") for cell in cells])
        parts += [f"### {group[0].upper()}{group[1:]}", table(rows, markdown=True, left=range(4))]
    return "\n\n".join(parts)


def with_table(text: str) -> str:
    """Return the text of the page with today's table between the marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
