"""The `oracle` fixture, and the table of docs/correctness.md that `make correctness` writes from what it compared."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

COMPARED = "compared"  # key of a report's properties
TITLES = {
    "test_losses": "Losses, penalties and likelihoods",
    "test_objectives": "Objectives",
    "test_networks": "Networks and layers",
    "test_training": "Optimizers, schedules and averages",
    "test_transforms": "Degradations, augmentation and resampling",
    "test_metrics": "Metrics",
}


@pytest.fixture
def oracle(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that compares a quantity with its value by somebody else's code, and records the difference.

    The difference is the largest of all elements over the largest element of the oracle's value, unless that is 0.
    """

    def compare(quantity: str, source: str, by: str, ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
        ours, theirs = (torch.as_tensor(t, dtype=torch.float64).detach() for t in (ours, theirs))
        assert ours.shape == theirs.shape, (quantity, ours.shape, theirs.shape)
        difference = float((ours - theirs).abs().max() / (theirs.abs().max() or 1))
        assert difference <= tolerance, f"{quantity}: differs by {difference:.2g} from {by}\n{ours}\n{theirs}"
        row = {"quantity": quantity, "source": source, "by": by, "difference": difference, "test": request.node.name}
        request.node.user_properties.append((COMPARED, {**row, "module": request.node.path.stem}))

    return compare


ROWS: list[dict] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        ROWS.extend(row for name, row in report.user_properties if name == COMPARED)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table where $GAN_CORRECTNESS names a page: its text up to the first table stays."""
    if not (page := os.environ.get("GAN_CORRECTNESS")) or session.testsfailed:
        return
    text, results = Path(page).read_text("utf-8"), Path(page).parent / "results" / "correctness.json"
    head = text[: text.index("\n## ")] if "\n## " in text else text.rstrip("\n")
    Path(page).write_text("\n".join([head, *tables()]), "utf-8")
    kept = ("quantity", "source", "by", "difference", "test")
    results.write_text(json.dumps([{key: row[key] for key in kept} for row in worst()], indent=1) + "\n", "utf-8")


def worst() -> list[dict]:
    """Return one row for each quantity and oracle, with the largest difference of all comparisons, in their order."""
    rows: dict[tuple[str, str], dict] = {}
    for row in ROWS:
        key = row["quantity"], row["by"]
        if key not in rows or row["difference"] > rows[key]["difference"]:
            rows[key] = row
    return list(rows.values())


def tables() -> list[str]:
    lines = []
    for module, title in TITLES.items():
        rows = [row for row in worst() if row["module"] == module]
        lines += [
            f"\n## {title}\n",
            "| quantity | defined by | checked against | largest difference |",
            "|---|---|---|---|",
        ]
        for row in rows:
            exact = "0" if row["difference"] == 0 else f"{row['difference']:.0e}"
            cells = (row["quantity"], row["source"], row["by"], exact)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]
