"""A data set by the name that a person types for it outside training."""

from typing import Any

from gancli.config import build, choices, config_file, nearest, register_resolvers
from gancli.data.dataset import ImageDataset
from gancli.data.folder import folder
from gancli.data.listing import is_source
from gancli.images import Size
from gancli.runtime.files import typed_path


def load_by_name(name: str, size: Size | None, channels: int | None, split: str = "test") -> ImageDataset:
    """Return the data of configs/data/`name`.yaml, or of the folder `name`, at `size` pixels a side.

    A size or channels of None is that of the data, or of data=folder's defaults. `split`: train or test, where the
    data has splits.
    """
    known = choices("data")
    if name not in known:
        if not name or not is_source(typed_path(name)):
            raise ValueError(
                f"data={name} does not exist{nearest(name, known)}; choose one of {', '.join(known)}, or type a folder"
            )
        return folder(name, size or 32, channels or 3, split=split)

    from omegaconf import OmegaConf

    register_resolvers()
    data: Any = OmegaConf.load(config_file(f"data/{name}"))
    if "path" in data:
        raise ValueError(f"data={name} stands for your own data, not for its folder; type data=DIR, a folder of images")
    for key, value in {"size": size, "channels": channels, "split": split}.items():
        if key in data and value is not None:
            data[key] = value
    dataset: ImageDataset = build(OmegaConf.create({"data": data}).data.source)
    return dataset.resized(size, channels)  # where the source does not take both
