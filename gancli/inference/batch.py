"""The file commands' one loop: read an image, run a model on it, write the result. A file that fails is named."""

import contextlib
import glob
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from gancli.config import UsageError
from gancli.data.decoder import open_image
from gancli.data.image_modes import ImageWarning
from gancli.data.listing import count_skipped, images_left_out, walk_images, why_no_image
from gancli.inference import animation, image_io
from gancli.runtime.files import check_writable, typed_path, with_ending
from gancli.runtime.text import plural, printable


class Item(NamedTuple):
    """One image to process."""

    source: Path
    target: Path
    subfolder: Path = Path()  # of the source, relative to the folder that was named
    variant: str = ""  # of the variants of its results

    @property
    def format(self) -> str:
        """Key of `image_io.ALL_FORMATS`."""
        return image_io.format_of(self.target)


class Failure(NamedTuple):
    """One input that cannot be processed."""

    name: str
    reason: str


class Batch:
    """The images that a command was given, and how its results are written.

    A command builds its model only if there are `items`, calls `run` with it, and at the end `finish`.

    Args:
        command: as in `gan translate`.
        inputs: files, folders and globs.
        suffix: appended to the name of each result, before its extension.
        out: a file, a folder, or "" to write next to each input.
        format: a key of `image_io.ALL_FORMATS`; "" follows out=FILE, else png.
        quality: of jpg and webp, 1 to 100.
        scale: how many times wider and higher results are.
        variants: names of several results of each image, which their files carry.
        animate: whether all frames of an animation are processed, into its own format unless another is asked for.
    """

    def __init__(
        self,
        command: str,
        inputs: Sequence[str],
        suffix: str,
        out: str,
        overwrite: bool,
        skip: bool,
        format: str = "",
        quality: int = 100,
        scale: int = 1,
        variants: Sequence[str] = (),
        animate: bool = False,
    ):
        self.format, self.quality, self.scale = image_io.output_format(out, format, quality), quality, scale
        if not inputs:
            example = "photo.jpg" if command == "upscale" else "photo.jpg ckpt=latest"
            raise UsageError(f"gan {command} was given no image; type gan {command} {example}, or name a folder")
        if overwrite and skip:
            raise UsageError("overwrite=true and skip=true contradict each other; leave one out")
        self.overwrite, self.skip, self.animate = overwrite, skip, animate
        self.items: list[Item] = []
        self.failures: list[Failure] = []
        self.losses: Counter[str] = Counter()  # what results lack, and in how many: said once
        self.skipped = self.left_out = self.written = 0
        self.bar: tqdm = tqdm(disable=True)
        found = find_items(inputs, out, suffix + image_io.ALL_FORMATS[self.format][0])
        if animate and not format and not image_io.names_file(out):
            found = [in_own_format(item) for item in found]
        self._plan([variant for item in found for variant in in_variants(item, variants)])
        self.total = len(self.items) + len(self.failures) + self.skipped
        if self.failures and self.total == 1:
            raise ValueError(": ".join(self.failures[0]))
        for failure in self.failures:
            say(*failure)
        if self.left_out:
            say(f"{plural(self.left_out, 'input')} left out: results of other inputs")

    def _plan(self, inputs: list[Item | Failure]) -> None:
        """Sort out duplicates, and results that would replace another result, their own input or a file that exists.

        Inputs that are results of other inputs are left out: `gan upscale *.png` twice processes the same images.
        """
        sources = {item.target.resolve(): item.source.resolve() for item in inputs if isinstance(item, Item)}
        targets: dict[Path, Path] = {}
        checked: set[Path] = set()
        for item in inputs:
            if isinstance(item, Failure):
                self.failures.append(item)
                continue
            source, target, reason = item.source.resolve(), item.target.resolve(), ""
            other = targets.get(target)
            if other and other.resolve() == source:
                continue
            if sources.get(source, source) != source:
                self.left_out += 1
            elif source == target:
                reason = "would be replaced by its own result; type another out="
            elif other:
                reason = f"its result {item.target} is also that of {other}; run it separately with another out="
            else:
                targets[target] = item.source
                if not target.exists() or self.overwrite:
                    if target.parent not in checked:
                        check_writable("out", item.target)
                        checked.add(target.parent)
                    self.items.append(item)
                elif self.skip:
                    self.skipped += 1
                else:
                    reason = f"{item.target} exists already; type overwrite=true, or skip=true to keep it"
            if reason:
                self.failures.append(Failure(printable(str(item.source)), printable(reason)))

    def run(self, model: Callable[[Image.Image, Item], Image.Image]) -> None:
        """Read every image, run the model on it and write the result."""
        for item in self:
            with self.attempt(item):
                if self.animate and item.format in animation.FORMATS and frames_of(item.source) > 1:
                    self.run_frames(model, item)
                    continue
                image = image_io.read_image(item.source, self.scale, item.format)
                result = model(image, item)
                image_io.write_image(result, item.target, item.format, self.quality)

    def run_frames(self, model: Callable[[Image.Image, Item], Image.Image], item: Item) -> None:
        """Read every frame of an animation, run the model on it and write the result."""
        with open_image(item.source) as file:
            image_io.check_size(file, self.scale, item.format)
            animation.convert(file, item.target, item.format, self.quality, lambda frame: model(frame, item))

    def __iter__(self) -> Iterator[Item]:
        """Yield the items under a progress bar, which counts pixels of the inputs."""
        frames = [frames_of(item.source) if self.animate else 1 for item in self.items]
        sizes = [count_pixels(item.source) * n for item, n in zip(self.items, frames)]
        with tqdm(total=sum(sizes), unit="px", unit_scale=True, file=sys.stderr, disable=None) as self.bar:
            end = 0
            for item, size in zip(self.items, sizes):
                self.bar.set_description_str(printable(item.source.name))
                end += size
                yield item
                self.bar.update(end - self.bar.n)

    def progress(self, pixels: int) -> None:
        """Advance the progress bar."""
        self.bar.update(pixels)

    @contextlib.contextmanager
    def attempt(self, item: Item) -> Iterator[None]:
        """Process one item: print the path written, or name what failed. ValueError where it is the only item."""
        name, reason = printable(str(item.source)), ""
        with warnings.catch_warnings(record=True) as caught:  # Pillow's own, on odd metadata say, are not shown
            warnings.simplefilter("always")
            try:
                yield
            except KeyboardInterrupt as error:
                self.bar.close()
                done = f"{self.written} of {plural(len(self.items), 'image')} written; skip=true continues from there"
                raise KeyboardInterrupt(done) from error
            except Exception as error:  # a damaged file can fail in any way inside Pillow
                reason = image_io.explain(error)
                if self.total == 1 or os.environ.get("GAN_TRACEBACK") == "1":
                    self.bar.close()
                    raise ValueError(f"{name}: {reason}") from error
        texts = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, ImageWarning))
        for text in texts:  # once, also of many frames
            self.losses[text] += 1
            if self.losses[text] == 1:
                say(name, text)
        if reason:
            self.failures.append(Failure(name, reason))
            say(name, reason)
        else:
            self.written += 1
            tqdm.write(printable(str(item.target)), file=sys.stdout)

    def finish(self) -> None:
        """Say how many images were written and which lack what others lack too; ValueError where some failed."""
        for text, n in self.losses.items():
            if n > 1:
                say(f"the same of {plural(n - 1, 'other image')}", text)
        if self.failures:
            raise ValueError(f"{len(self.failures)} of {plural(self.total, 'image')} failed: see above")
        if self.total != 1:
            existing = f", {self.skipped} existed already" if self.skipped else ""
            print(f"{plural(self.written, 'image')} written{existing}", file=sys.stderr)


# --- which images, and where their results go ---------------------------------------------------------------------


def find_items(words: Sequence[str], out: str, ending: str) -> list[Item | Failure]:
    """Return an item for every image that the words name, in order, and a failure for what cannot be one.

    Args:
        ending: suffix and extension of the results, such as "_x4.png".
    """
    to, one_file = typed_path(out) if out else None, image_io.names_file(out)
    items: list[Item | Failure] = []
    for word in map(str, words):
        path = Path(word)
        # A file of exactly this name comes first, even where the name reads as a pattern: [1].png, ~.png.
        if not os.path.lexists(path):
            with contextlib.suppress(ValueError):  # ~user that does not exist
                path = typed_path(word)
        paths = [path]
        if not os.path.lexists(path):
            paths = [p for p in matches(path) if p.is_file() and not why_no_image(str(p))]
        if not paths:
            reason = "no image matches" if glob.has_magic(str(path)) else "there is no such file or folder"
            items.append(Failure(printable(word), reason))
        for path in paths:
            if not path.is_dir():
                in_folder = (to or path.parent) / with_ending(path.stem, ending)
                items.append(Item(path, to if to and one_file else in_folder))
            elif one_file:
                raise ValueError(f"out={out} names one image, but {path} is a folder; type out=DIR/")
            else:
                # Next to the folder, not inside: a second run must not take results for inputs.
                named = path if path.name and path.name != ".." else path.resolve()
                mirror = to or named.with_name(with_ending(named.name, Path(ending).stem))
                items += find_in_folder(path, mirror, ending) or [Failure(printable(word), "no image is in it")]
    if one_file and len(items) > 1:
        raise ValueError(f"out={out} names one image, but {len(items)} were given; type out=DIR/")
    return items


def frames_of(path: Path) -> int:
    """Return the number of frames of an animation, and 1 of anything else."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # as in count_pixels
        warnings.simplefilter("ignore")
        with open_image(path) as image:
            return animation.count(image)
    return 1


def in_own_format(item: Item | Failure) -> Item | Failure:
    """Return an item whose target has the format of its source, where that is an animated GIF or WebP."""
    if isinstance(item, Failure) or item.source.suffix.lower() not in (".gif", ".webp") or frames_of(item.source) == 1:
        return item
    return item._replace(target=item.target.with_suffix(item.source.suffix.lower()))


def in_variants(item: Item | Failure, variants: Sequence[str]) -> list[Item | Failure]:
    """Return an item for every variant of its result: photo_x4_sharp.png for photo_x4.png; without variants, itself."""
    if isinstance(item, Failure) or not variants:
        return [item]
    name = item.target
    return [
        item._replace(target=name.with_name(with_ending(name.stem, f"_{variant}{name.suffix}")), variant=variant)
        for variant in variants
    ]


def matches(path: Path) -> list[Path]:
    """Return what a pattern matches, sorted. A part that exists as typed is a name: `scans [2024]/*.png`."""
    pattern = ""
    for part in path.parts:
        literal = os.path.join(pattern, glob.escape(part))  # noqa: PTH118  patterns are no paths
        is_name = glob.has_magic(part) and glob.glob(literal)  # noqa: PTH207  Path.glob takes no absolute pattern
        pattern = literal if is_name else os.path.join(pattern, part)  # noqa: PTH118
    return [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207


def find_in_folder(folder: Path, to: Path, ending: str) -> list[Item | Failure]:
    """Return the images at any depth of a folder, with the same subfolders in `to`; files inside `to` are no inputs."""
    names, skipped = walk_images(folder)
    refused = images_left_out(skipped)
    if others := count_skipped(pair for pair in skipped if pair not in refused):
        say(printable(str(folder)), others)
    inside = to.resolve() if folder.resolve() != to.resolve() else None
    items: list[Item | Failure] = []
    for source in (folder / name for name in names):
        subfolder = source.relative_to(folder).parent
        if not (inside and source.resolve().is_relative_to(inside)):
            items.append(Item(source, to / subfolder / with_ending(source.stem, ending), subfolder))
    return [*items, *(Failure(printable(f"{folder / name}"), reason) for name, reason in refused)]


def count_pixels(path: Path) -> int:
    """Return the number of pixels by the file's header; 0 where it is unreadable, which `attempt` reports later."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_image(path) as image:
            return image.width * image.height
    return 0


def say(*parts: str) -> None:
    """Print a line on standard error, above the progress bar."""
    tqdm.write(f"gan: {': '.join(parts)}", file=sys.stderr)
