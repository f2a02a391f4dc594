"""gan data: look at a folder of pictures before training on it."""

from gancli.data.image_files import CheckReport, check, printable


def main(action: str, path: str) -> int:
    """`gan data check DIR`: print what is there; 0 where every picture is good, else ValueError after the report."""
    if action != "check":
        raise ValueError(f"gan data has no action {action!r}; type gan data check DIR")
    report = check(path)
    print(table(report))
    if not report.pictures:
        raise ValueError(
            f"{path} has no picture that can be read: give a folder with PNG, JPEG, WebP or other pictures"
        )
    if report.bad:
        raise ValueError(
            f"{len(report.bad)} of {len(report.bad) + report.pictures} files in {path} cannot be used: "
            "delete or repair those named above"
        )
    return 0


def table(report: CheckReport) -> str:
    """The report as lines of a name and its value."""
    rows = [("folder", str(report.path)), ("pictures", f"{report.pictures:,}")]
    if report.pictures:
        rows += [("classes", f"{len(report.classes)}" if report.classes else "none: there are no sub-folders")]
        rows += [("", f"{n:>9,}  {name}") for name, n in report.classes.items()]
        rows += [
            (what, f"{low:,} to {high:,} pixels, median {median:,}")
            for what, (low, median, high) in (("width", report.widths), ("height", report.heights))
        ]
        rows += [("modes", _counts(report.modes)), ("formats", _counts(report.formats))]
    rows += [("bad", f"{len(report.bad):,}"), *(("", f"{name}: {reason}") for name, reason in report.bad)]
    rows += [("try" if i == 0 else "", line) for i, line in enumerate(report.suggestions)]
    return "\n".join(printable(f"{what:<10}{value}".rstrip()) for what, value in rows)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
