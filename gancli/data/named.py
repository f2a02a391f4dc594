"""A data set by the word that a person types for it outside training."""

from pathlib import Path
from typing import Any

from gancli.config import CONFIGS, build, choices, nearest, register_resolvers
from gancli.data.dataset import ImageDataset
from gancli.data.folder import folder


def named(word: str, size: int | None, channels: int | None, split: str = "test") -> ImageDataset:
    """The images of `word` at `size` pixels a side and with `channels`; None leaves either as that data has it.

    word: a name of configs/data, with that file's own settings, or a folder of pictures, read as data=folder does.
    `split` says nothing where there are no splits. ValueError where there is no such data.
    """
    known = choices("data")
    if word not in known:
        if not word or not Path(word).expanduser().is_dir():
            there = ", ".join(known)
            raise ValueError(f"there is no data {word!r}{nearest(word, known)}; there are: {there}, and folders: DIR/")
        return folder(word, size or 32, channels or 3)

    from omegaconf import OmegaConf

    register_resolvers()
    data: Any = OmegaConf.load(CONFIGS / "data" / f"{word}.yaml")
    if "path" in data:
        raise ValueError(
            f"data={word} is the kind of your own data, not its place; type data=DIR, a folder of pictures"
        )
    for key, value in {"size": size, "channels": channels, "split": split}.items():
        if key in data and value is not None:
            data[key] = value
    images: ImageDataset = build(OmegaConf.create({"data": data}).data.source)
    return images.resized(size, channels)  # where the source does not take both
