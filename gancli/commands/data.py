"""gan data check: report what is in a folder of images before training on it."""

from gancli.data.image_files import CheckReport, check_folder
from gancli.runtime.text import plural, printable


def main(action: str, path: str) -> int:
    """Print the report of a folder and return 0; raise ValueError after the report where a file is bad."""
    if action != "check":
        raise ValueError(f"gan data has no action {action!r}; type gan data check DIR")
    report = check_folder(path)
    print(report_text(report))
    if not report.images:
        raise ValueError(
            f"{path} has no image that can be decoded; give a folder with PNG, JPEG, WebP or other image files"
        )
    if report.bad:
        raise ValueError(
            f"{len(report.bad)} of {plural(len(report.bad) + report.images, 'file')} in {path} cannot be used; "
            "delete or repair those named above"
        )
    return 0


def report_text(report: CheckReport) -> str:
    """Return the report as lines of a name and its value."""
    rows = [("folder", str(report.path)), ("images", f"{report.images:,}")]
    if report.images:
        rows += [("classes", f"{len(report.classes)}" if report.classes else "none: there are no sub-folders")]
        rows += [("", f"{n:>9,}  {name}") for name, n in report.classes.items()]
        rows += [
            (name, f"{low:,} to {high:,} pixels, median {median:,}")
            for name, (low, median, high) in (("width", report.widths), ("height", report.heights))
        ]
        rows += [("modes", _counts(report.modes)), ("formats", _counts(report.formats))]
    rows += [("bad", f"{len(report.bad):,}"), *(("", f"{name}: {reason}") for name, reason in report.bad)]
    rows += [("try" if i == 0 else "", line) for i, line in enumerate(report.suggestions)]
    return "\n".join(printable(f"{name:<10}{value}".rstrip()) for name, value in rows)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
