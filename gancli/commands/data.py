"""gan data check: report what is in a folder of images before training on it."""

import statistics
from collections import Counter

from gancli.config import literal_text, override
from gancli.data.image_files import CheckReport, check_folder
from gancli.data.listing import FEW, LEAST, count_skipped, image_notes
from gancli.runtime.text import plural, printable, shell_quote

NOT_SQUARE = 1.3  # ratio of the sides from which a size of height and width is named


def main(action: str, path: str) -> int:
    """Print the report of a folder and return 0; raise ValueError after the report where a file is bad."""
    if action != "check":
        raise ValueError(f"gan data has no action {action!r}; type gan data check DIR")
    report = check_folder(path)
    print(report_text(report))
    if not report.infos:
        raise ValueError(f"{path} has no image that can be decoded; give a folder with PNG, JPEG, WebP or other images")
    if report.bad:
        total = plural(len(report.bad) + len(report.infos), "file")
        raise ValueError(f"{len(report.bad)} of {total} in {path} cannot be used; delete or repair those named above")
    return 0


def report_text(report: CheckReport) -> str:

    rows = [("folder", str(report.path)), ("images", f"{len(report.infos):,}")]
    rows += [("layout", note) for note in report.notes]
    if report.infos:
        without = "none, but a table of labels" if report.has_labels else "none: there are no class folders"
        rows += [("classes", f"{len(report.classes)}" if report.classes else without)]
        rows += [("", f"{n:>9,}  {name}") for name, n in report.classes.items()]
        for name in ("width", "height"):
            sides = [getattr(info, name) for info in report.infos]
            median = round(statistics.median(sides))
            rows += [(name, f"{min(sides):,} to {max(sides):,} pixels, median {median:,}")]
        for name in ("mode", "format"):
            counts = Counter(getattr(info, name) for info in report.infos).most_common()
            rows += [(f"{name}s", ", ".join(f"{value} {n:,}" for value, n in counts))]
    rows += [("notes" if i == 0 else "", note) for i, note in enumerate(image_notes(report.remarks))]
    rows += [("", count)] if (count := count_skipped(report.skipped)) else []
    rows += [("bad", f"{len(report.bad):,}"), *(("", f"{name}: {reason}") for name, reason in report.bad)]
    rows += [("try" if i == 0 else "", line) for i, line in enumerate(suggestions(report))]
    return "\n".join(printable(f"{name:<10}{value}".rstrip()) for name, value in rows)


def advice_for_few(n: int, classes: int, held_out: bool) -> list[str]:
    """Return what gan train does, and what to look at, where images are few enough to be memorised.

    Args:
        held_out: whether some are held out, as of folders without a layout.
    """
    recipe = "" if classes > 1 else "takes model=fastgan and "
    few = f"{plural(n, 'image')} {'is' if n == 1 else 'are'} few"
    lines = [
        f"{few}: gan train {recipe}augments what D sees, unless model/augment=none is typed",
        "gan evaluate ckpt=RUN metrics=[copies] says whether a model repeats its training images",
    ]
    if n < LEAST:
        lines.append(f"of fewer than {LEAST} images a GAN repeats more than it invents; add some if you can")
    elif held_out:
        lines.append("a tenth is held out to see whether D memorises; data.hold_out=0 trains on all")
    return lines


def suggestions(report: CheckReport) -> list[str]:
    """Return a command that trains on the folder, then advice; nothing for a folder without an image."""
    if not (n := len(report.infos)):
        return []
    side = statistics.median(min(info.width, info.height) for info in report.infos)
    size = next((s for s in (64, 32, 16) if s <= side), 8)  # a small machine trains 64 in one sitting
    model = "model=cyclegan data=unpaired" if report.has_domains else "data=folder"
    path = shell_quote(override("data.path", literal_text(f"{report.path}{'/' * report.path.is_dir()}")))
    command = f"gan train {model} {path} data.size={size}"
    if all(info.mode in ("1", "L", "I") or info.mode.startswith("I;16") for info in report.infos):
        command += " data.channels=1"
    if len(report.classes) > 1:
        command += " model=cgan"
    lines = [command]
    shape = statistics.median(info.width / info.height for info in report.infos)
    if max(shape, 1 / shape) >= NOT_SQUARE:
        height, width = (max(round(size * f / 8) * 8, 8) for f in (max(1 / shape, 1), max(shape, 1)))
        lines.append(f"squares cut their ends off; data.size=[{height},{width}] keeps their shape")
    if report.classes and max(report.classes.values()) >= 10 * min(report.classes.values()):
        rare = min(report.classes, key=lambda name: report.classes[name])
        count = f"{report.classes[rare]} of {sum(report.classes.values())}"
        lines.append(f"class {rare} is rare, {count}: add images or leave it out")
    if n < FEW and not report.has_domains:
        lines += advice_for_few(n, len(report.classes), held_out=not report.notes)
    if report.bad:
        lines.append("delete or repair the bad files; training skips them, or stops at them with data.strict=true")
    return lines
