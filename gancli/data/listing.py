"""Which images a folder has, which of them a split takes, and which files are left out for which reason.

This module does not import torch: checking a folder answers at once.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gancli.data.archive import LABELS, is_archive, unpacked
from gancli.data.layout import Layout, find_layout
from gancli.runtime.files import typed_path
from gancli.runtime.text import plural, printable, shell_quote

FOLDER_TYPES = ("folder", "photos", "pairs", "unpaired")  # data that read folders, which may have a layout
Skipped = list[tuple[str, str]]  # (file or folder, reason)

# Files and beginnings of names that systems write: hidden ones, and thumbnails and metadata of a NAS, a Mac or Windows.
SYSTEM = (".", "@eaDir", "__MACOSX")
UNFINISHED_SAMPLES = ".gan-samples"  # in a folder: samples that are about to replace older ones
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r", LABELS}  # what lies next to images as a rule
# Pillow alone cannot decode HEIC, but a phone's images should be reported rather than overlooked.
EXTENSIONS = {
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
TABLES = {".parquet", ".arrow"}  # of images, which `datasets` writes
# Images that are never read. Those of cameras begin as a TIFF does, but hold only a thumbnail that Pillow can decode.
OTHER_IMAGES = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"),
    *(".ai", ".dcm", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".mat", ".nii", ".pdf", ".psd", ".svg", ".xcf"),
}
# Suffixes of other files, which are not opened to look: a folder may have as many of them as of images.
OTHER_FILES = {
    *TABLES,
    *(".7z", ".avi", ".csv", ".db", ".doc", ".docx", ".gz", ".h5", ".htm", ".html", ".ipynb", ".json"),
    *(".jsonl", ".log", ".md", ".mov", ".mp3", ".mp4", ".npy", ".npz", ".pkl", ".pt", ".pth", ".py"),
    *(".rar", ".rst", ".sh", ".tar", ".tfrecord", ".tgz", ".toml", ".tsv", ".txt", ".wav", ".xlsx", ".xml"),
    *(".xmp", ".yaml", ".yml", ".zip"),
}
STARTS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
)
NO_IMAGE, OTHER_FORMAT = "is no image", "is an image of a format that is not read"
OUTSIDE = "is in no folder of the layout"
# A part of a reason, and how images that are left out for it are counted; those of all other reasons are broken.
GROUPS = {
    NO_IMAGE: "not images",
    "is not an image": "not images",
    "is a film or another file": "not images",
    OTHER_FORMAT: "of formats that are not read",
    "is a HEIC image; to read": "HEIC, which need pip install 'gancli[heif]'",
    "is in no class folder": "without a class",
    OUTSIDE: "outside the layout",
    "which is not in train": "of classes that train lacks",
    "smaller than": "too small",
    "has more than the": "too large",
    "ermission denied": "not readable by this user",
    "is not a file": "links to nothing",
}


@dataclass
class FolderListing:
    """Image files of a folder, known by their names alone.

    names:   paths below root with forward slashes, sorted
    short:   the same paths below the folder of their split, where the folder has a layout
    classes: for each name the folder directly below root, or below its split, that holds it; empty without such folders
    skipped: (name, reason) of files and folders that are left out
    split:   train, val or test, where the folder has a layout, else empty
    notes:   the sentence about the layout
    class_names: of the training images, where the folder has a layout
    domain:  "a" or "b" where only one of two sets is listed
    """

    root: Path
    names: list[str]
    short: list[str]
    classes: list[str]
    skipped: Skipped
    split: str = ""
    notes: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    domain: str = ""

    @property
    def paths(self) -> list[Path]:
        return [self.root / name for name in self.names]


def existing_folder(path: str, key: str = "path") -> Path:
    """Return `path` as a folder, what is packed unpacked; ValueError, naming `data.<key>`, where there is none."""
    root = typed_path(str(path))  # Hydra reads data.path=2024 as a number
    try:
        if is_archive(root):
            return unpacked(root)
        root = without_tables(root)
        is_folder = root.is_dir()
    except OSError as error:  # it lies in a folder that is closed to this user
        raise ValueError(f"{path} cannot be opened ({error.strerror}); type data.{key}=DIR, one that can") from error
    if not is_folder:
        what = "a file" if root.exists() else "nothing"
        raise ValueError(f"{path} is {what}, not a folder; type data.{key}=DIR or gan data check DIR")
    return root


def table_of(path: str, labels: str = "") -> tuple[str, bool]:
    """Return the table of labels that was typed, or that what is packed holds, and whether it holds one.

    A zip of the StyleGAN tools does, and tables of images with several columns of classes. Those zips number folders
    for order alone, so these are no classes, also where the table has no labels.
    """
    typed, root = typed_path(str(path)), existing_folder(path)
    if labels or root == typed:
        return labels, bool(labels)
    own = root / LABELS
    if not own.is_file():
        return "", False
    try:
        content = json.loads(own.read_text(encoding="utf-8"))
        has_labels = bool(content.get("labels") if is_archive(typed) else content)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{LABELS} in {path} is no JSON object; pack it again without it") from error
    return str(own) if has_labels else "", True


def is_source(path: Path) -> bool:
    """Return whether a path can be read as a folder: it is one, a zip or a parquet file."""
    return path.is_dir() or is_archive(path) or bool(find_tables(path))


def without_tables(root: Path) -> Path:
    """Return the folder that tables of images are unpacked to, of a parquet file or a folder of such; else `root`."""
    tables = find_tables(root)
    return unpacked(root, tables) if tables else root


def find_tables(root: Path) -> list[Path]:
    """Return the tables of images that are read in place of a folder, sorted; none where images lie beside them.

    Looking ends at the first image: a folder may have a million of them.
    """
    if not root.is_dir():
        return [root] if root.suffix.lower() == ".parquet" and root.is_file() else []
    tables, pending = [], [str(root)]
    while pending:
        with contextlib.suppress(PermissionError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                if entry.name.startswith((*SYSTEM, "cache-")):  # results that datasets keeps beside its tables
                    continue
                if suffix in EXTENSIONS:
                    return []
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif suffix in TABLES:
                    tables.append(Path(entry.path))
    return sorted(tables)


def list_folder(
    path: str, split: str = "train", key: str = "path", classes: bool = True, domain: str = ""
) -> FolderListing:
    """List every image at any depth below the folder `path`; where it has a layout, those of a split.

    The order depends on the names alone.

    Args:
        split: "train", or "test" for the images that are held out, as `Layout` says.
        key: names the folder in errors.
        classes: the folders directly below that hold an image are the classes. Images outside such folders have no
            class and are skipped; where there is only one such folder next to them, there are no classes.
        domain: "a" or "b" of a layout with two sets, such as trainA and trainB; "" takes both.
    """
    root = existing_folder(path, key)
    names, skipped = walk_images(root)
    layout = find_layout(names)
    if not layout:
        return with_classes(root, [(name, name) for name in names], skipped, classes)
    return list_split(root, names, skipped, layout, split, classes, domain)


def list_split(
    root: Path, names: list[str], skipped: Skipped, layout: Layout, split: str, classes: bool = True, domain: str = ""
) -> FolderListing:
    """List the images of a split; as its classes those of the images that are trained on."""
    placed = layout.place(names)
    note = layout.describe(str(root), placed)
    outside = [(name, OUTSIDE) for name, folder in placed if not folder]
    domain = domain if layout.has_domains else ""
    classes = classes and not layout.has_domains
    layout = layout.domain(domain) if domain else layout
    trained, chosen = layout.trained, layout.chosen(split)
    listing = with_classes(root, layout.inside(placed, trained), skipped + outside, classes)
    listing.class_names = sorted({*listing.classes})
    if chosen != trained:
        known = listing.class_names
        listing = with_classes(root, layout.inside(placed, chosen), skipped + outside, classes)
        listing.class_names = known
        keep_known_classes(listing)
    listing.split, listing.notes, listing.domain = chosen, [note], domain
    return listing


FEW = 5_000  # images, below which D memorises them: Zhao et al. 2020, section 4, https://arxiv.org/abs/2006.10738
LEAST, MOST = 200, 1000  # images of a folder from which on some are held out, and how many at most


def keep_split(listing: FolderListing, split: str, fraction: float) -> None:
    """Keep the images of a split, of a folder that has no layout: the same `fraction` of each class is held out.

    Which ones depends on their names alone, so that images which are added later hardly change it.
    """
    total = len(listing.names)
    if listing.split or not fraction or total < LEAST:
        return
    held: set[str] = set()
    of_class = dict(zip(listing.names, listing.classes or [""] * total))
    for name in set(of_class.values()):
        members = sorted((n for n in listing.names if of_class[n] == name), key=_digest)
        held.update(members[: int(len(members) * min(fraction, MOST / total))])
    if not held:
        return
    kept = [i for i, name in enumerate(listing.names) if (name in held) == (split == "test")]
    listing.class_names = sorted({*listing.classes})
    listing.names, listing.short, listing.classes = (
        [row[i] for i in kept] if row else [] for row in (listing.names, listing.short, listing.classes)
    )
    listing.split = split
    listing.notes += [f"{len(held):,} of {total:,} images are held out, for scores; data.hold_out=0 trains on all"]


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def keep_known_classes(listing: FolderListing) -> None:
    """Leave out images of classes that are not in train: a model knows the classes that it was trained on.

    Where none is in train, as in val/images, the folders are no classes and all images are used.
    """
    if not listing.class_names or not listing.classes:
        return
    if not {*listing.classes} & {*listing.class_names}:
        listing.classes = []
        return
    rows = list(zip(listing.names, listing.short, listing.classes))
    listing.skipped = listing.skipped + [
        (name, f"is of class {of}, which is not in train") for name, _, of in rows if of not in listing.class_names
    ]
    rows = [row for row in rows if row[2] in listing.class_names]
    listing.names, listing.short, listing.classes = ([row[i] for row in rows] for i in range(3))


def with_classes(root: Path, found: list[tuple[str, str]], skipped: Skipped, wanted: bool) -> FolderListing:
    """Return a listing of (name, name below its split), with classes if they are `wanted`."""
    rows = [(name, short, short.split("/", 1)[0] if "/" in short else "") for name, short in found]
    classes = {of for _, _, of in rows}
    if wanted and classes - {""} and not ("" in classes and len(classes) == 2):  # one folder next to images is no class
        reason = "is in no class folder, so it has no class"
        skipped = skipped + [(name, reason) for name, _, of in rows if not of]
        rows = [row for row in rows if row[2]]
    else:
        rows = [(name, short, "") for name, short, _ in rows]
    names, short, of_class = ([row[i] for row in rows] for i in range(3))
    return FolderListing(root, names, short, of_class if any(of_class) else [], skipped)


def walk_images(root: Path) -> tuple[list[str], Skipped]:
    """Return the sorted names of all images below `root`, and (name, reason) of other files and of closed folders.

    Names of systems are ignored. A link to a folder is followed once, and not where it leads back into the tree or
    above it.
    """
    names: list[str] = []
    skipped: Skipped = []
    real_root = root.resolve()
    linked: set[Path] = set()

    def skip(error: OSError) -> None:
        skipped.append((Path(error.filename).relative_to(root).as_posix(), error.strerror or "cannot be opened"))

    def follow(folder: Path) -> bool:
        if not folder.is_symlink():
            return True
        real = folder.resolve()
        if real in linked or real.is_relative_to(real_root) or real_root.is_relative_to(real):
            return False
        linked.add(real)
        return True

    for folder, below, files in os.walk(root, onerror=skip, followlinks=True):
        here = Path(folder)
        if UNFINISHED_SAMPLES in below:
            raise ValueError(
                f"{printable(str(here))} is half way between two generations of samples, because gan sample was "
                f"stopped; type the same gan sample with overwrite=true again"
            )
        below[:] = sorted(name for name in below if not name.startswith(SYSTEM) and follow(here / name))
        prefix = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        for name in files:
            if name.startswith(SYSTEM) or name.lower() in SYSTEM_FILES:
                continue
            if reason := why_no_image(f"{folder}/{name}"):
                skipped.append((prefix + name, reason))
            else:
                names.append(prefix + name)
    return sorted(names), skipped


def why_no_image(file: str) -> str:
    """Return why a file is no image by its name or, where that says nothing, by how it begins; empty for an image."""
    suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122  a Path is slow for a hundred thousand files
    if suffix in EXTENSIONS:
        return ""
    if suffix in OTHER_IMAGES:
        return f"{OTHER_FORMAT}, {suffix}"
    if suffix in OTHER_FILES or not os.path.isfile(file):  # noqa: PTH113  a pipe would block for ever
        return NO_IMAGE
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            start = opened.read(32)
    except OSError as error:
        return error.strerror or "cannot be opened"
    return "" if begins_as_image(start) else NO_IMAGE


def begins_as_image(start: bytes) -> bool:
    """Return whether the first 32 bytes of a file are those of an image of a format that is read."""
    if start.startswith(STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
        return True
    if start[:2] == b"BM":  # the size of its header follows, as two letters alone also begin texts
        return start[15:18] == b"\0\0\0" and start[14] in (12, 40, 52, 56, 64, 108, 124)
    if start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace():
        return start[3:4].isdigit() or start[3:4] == b"#"
    return start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def count_skipped(skipped: Iterable[tuple[str, str]]) -> str:
    """Return one sentence, "skipped 12: 7 not images, 3 broken, 2 too small"; empty where nothing was left out."""
    counts = Counter(group(reason) for _, reason in skipped)
    parts = [f"{n:,} {name}" for name, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    return f"skipped {counts.total():,}: {', '.join(parts)}" if parts else ""


def skipped_lines(skipped: Skipped, most: int = 10) -> list[str]:
    """Return the sentence that counts what was left out, and a line for each of the first images among it."""
    named = images_left_out(skipped)
    lines = [f"skipped {name}: {reason}" for name, reason in named[:most]]
    lines += [f"skipped {len(named) - most:,} more; gan data check DIR names all"] if len(named) > most else []
    return [count_skipped(skipped), *lines] if skipped else []


def group(reason: str) -> str:
    """Return how an image that is left out for this reason is counted."""
    return next((name for part, name in GROUPS.items() if part in reason), "broken")


def image_notes(notes: Mapping[str, int]) -> list[str]:
    """Return one sentence for each thing that decoding changed or left out, of how many images."""
    return [f"{plural(n, 'image')}: {printable(note)}" for note, n in notes.items()]


def images_left_out(skipped: Iterable[tuple[str, str]]) -> Skipped:
    """Return the images among the skipped that somebody has to see to: other files, and splits, are only counted."""
    return [(name, reason) for name, reason in skipped if not reason.startswith((NO_IMAGE, OTHER_FORMAT, OUTSIDE))]


def no_images(key: str, path: str, skipped: Skipped, why: str = "it has no image that can be used") -> ValueError:
    """Return the error for a folder without a usable image."""
    counts = count_skipped(skipped)
    why = f"{why}, {counts}" if counts else "it has no images"
    command = f"gan data check {shell_quote(str(path))}"
    return ValueError(f"data.{key}={path} cannot be trained on, {why}; type {command} to see what is there")


def printable_skipped(skipped: Iterable[tuple[str, str]]) -> Skipped:
    """Return (file, reason) pairs sorted, as text that can be printed."""
    return sorted((printable(name), printable(reason)) for name, reason in skipped)
