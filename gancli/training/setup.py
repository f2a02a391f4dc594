"""From a config to the objects of a training: options checked, data loaded, trainer built."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from gancli.checkpoint.trust import not_vouched
from gancli.config import ON_CPU, base_configs, build, choices, data_title, flatten, literal_text
from gancli.data import labels
from gancli.data.contents import PATHS
from gancli.data.crops import ImageCrops
from gancli.data.dataset import ImageDataset, check_size
from gancli.data.listing import FOLDER_TYPES
from gancli.data.loader import BatchLoader, fitting_batch
from gancli.data.pairs import two_classes
from gancli.objectives import CycleGAN, Unrolled, gan
from gancli.report.loggers import MetricLogger
from gancli.runtime import ranks
from gancli.runtime.cache import data_folder_of, remember
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.hardware import multiplies_bf16
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import plural, printable
from gancli.training import resume
from gancli.training.cuda_graphs import CudaGraphs, why_not
from gancli.training.ema import EMA
from gancli.training.loop import PRECISIONS, Trainer
from gancli.training.preflight import refuse_single_values
from gancli.training.schedules import Budget

PREFETCHED = 512  # batches whose indices are copied to a GPU together: a megabyte or two


def check_options(options: DictConfig) -> None:
    """Raise ValueError for an option of the trainer that is out of range."""
    for name in ("log_every", "sample_every", "sample_rows", "checkpoint_every"):
        check_number(f"trainer.{name}", options[name], least=1, example=100)
    counts = ("keep_every", "keep_last", "evaluate_every", "evaluate_patience", "freeze_d")
    for name in ("checkpoint_minutes", *counts, "clip"):
        check_number(f"trainer.{name}", options[name], least=0)
    if options.evaluate_patience and not options.evaluate_every:
        raise ValueError(
            f"trainer.evaluate_patience={options.evaluate_patience} counts evaluations, but there are none; "
            f"type trainer.evaluate_every=500"
        )
    check_number("trainer.accumulate", options.accumulate, least=1, example=4, whole=True)
    Budget(options.steps, options.kimg, options.minutes)
    check_choice("trainer.on_nan", options.on_nan, ("stop", "rollback"))
    check_choice("trainer.preflight", str(options.preflight).lower(), ("auto", "true", "false"))
    check_choice("trainer.precision", options.precision, ("auto", *PRECISIONS))


# Counts that must be at least 1, each with a value that works.
COUNTS = {
    **{"model.z_dim": 100, "model.width": 64, "model.depth": 6, "model.blocks": 2, "model.patch": 3},
    **{"model.n_critic": 1, "model.packing": 1, "data.batch_size": 64, "data.n": 10000},
}


def check_counts(cfg: DictConfig) -> None:
    """Raise ValueError for a size of the networks or of the data below 1, and for a learning rate not above 0."""
    for key in ("model.lr", *(f"model.optimizers.{name}.lr" for name in cfg.model.optimizers)):
        value = OmegaConf.select(cfg, key)
        if value is not None:
            check_number(key, value, above=0, example=2e-4)
    for key, example in COUNTS.items():
        value = OmegaConf.select(cfg, key)
        if value is not None:
            check_number(key, value, least=1, example=example, whole=True)
    if cfg.data.get("size") is not None:
        size = cfg.data.size
        check_size(list(size) if isinstance(size, ListConfig) else size)


def build_loggers(options: DictConfig) -> list[MetricLogger]:
    """Return the loggers of trainer.log; ValueError names the extra of one whose package is missing."""
    return [build(node) for node in (options.log or {}).values() if node]


def warnings_about(objective: Any, model: dict[str, Any]) -> list[str]:
    """Return a sentence for each choice of a model that is allowed but seldom intended; model: of the run's config."""
    return [*not_vouched(type(objective.G).__module__), *gan.warnings_about(objective, model)]


def load_data(cfg: DictConfig, folder: Path, before: dict[str, Any] | None) -> ImageDataset | ImageCrops:
    """Return the training images, on one process of a machine before the others.

    Args:
        folder: of the run; a new one must not lie among the images.
        before: config of a resumed run, of an older version perhaps, which held no images out.
    """
    if before and "hold_out" in cfg.data and "hold_out" not in before["data"]:
        cfg.data.hold_out = 0
    paths = [str(cfg.data[key]) for key in PATHS if cfg.data.get(key)]
    if not before and (inside := data_folder_of(folder, paths)):
        raise ValueError(
            f"run.dir={folder} lies in {inside}, and its samples would be trained on; type run.dir=DIR, a folder "
            f"outside"
        )
    data = ranks.in_turn(lambda: build(cfg.data.source))
    for path in paths:
        remember(path)
    if cfg.data.get("split") == "test" and cfg.data.name in FOLDER_TYPES and data.split in ("", "train"):
        data.warnings.append(f"data.split=test, but {cfg.data.path} holds no images out, so all of them are trained on")
    if cfg.data.name == "folder" and len(data) > 1 and are_alike(data):
        data.warnings.append(f"all {len(data):,} images are alike, so that a model can only repeat one; add others")
    return two_classes(data, *cfg.model.between) if "between" in cfg.model and not len(data.sources) else data


def are_alike(data: ImageDataset | ImageCrops, most: int = 64) -> bool:
    """Return whether all images, or `most` of them spread over the data, have the same pixels."""
    images = data.take(torch.arange(min(len(data), most)) * len(data) // min(len(data), most))
    return bool((images == images[:1]).all())


def complete_config(cfg: DictConfig, data: Any, folder: Path) -> str:
    """Write the shape of the loaded data into the config, from where it reaches the networks by interpolation.

    A batch that the data cannot fill becomes smaller.

    Returns:
        A sentence about the smaller batch, or an empty string.
    """
    data.notes += chosen_for_cpu(cfg)
    typed, packing = cfg.data.batch_size, cfg.model.get("packing", 1)
    cfg.data.batch_size = fitting_batch(data, typed, packing * ranks.world_size() * cfg.trainer.accumulate)
    cfg.data.update(size=data.size, channels=data.channels, classes=data.classes)
    if data.codes is not None:
        take_labels(cfg)
    refuse_no_classes(cfg)
    cfg.run.dir = literal_text(str(folder))
    if "betas" in cfg.model:
        cfg.model.betas = [float(beta) for beta in cfg.model.betas]  # Adam refuses [0, 0.9]
    if cfg.data.batch_size == typed:
        return ""
    few = f"there {'is' if len(data) == 1 else 'are'} {plural(len(data), 'image')}"
    few += f" and {plural(len(data.sources), 'source image')}" if len(data.sources) else ""
    return f"data.batch_size is {cfg.data.batch_size} instead of {typed}: {few}"


def chosen_for_cpu(cfg: DictConfig) -> list[str]:
    """Return a sentence on the defaults of the model that differ on a CPU, where they do; typed ones do not."""
    raw = flatten(OmegaConf.to_container(cfg))
    if OmegaConf.is_interpolation(cfg.data, "batch_size"):
        raw["data.batch_size"] = raw["model.default_batch_size"]
    raw.pop("model.default_batch_size", None)  # which nobody types
    others = {key: match[2] for key, value in raw.items() if (match := ON_CPU.fullmatch(str(value)))}
    values = {key: str(OmegaConf.select(cfg, key)) for key in others}
    different = [f"{key}={values[key]} (else {other})" for key, other in others.items() if values[key] != other]
    paper = f"paper/{cfg.model.name}"
    whole = f"; experiment={paper} has the paper's" if paper in choices("experiment") else ""
    return [f"on a CPU {', '.join(different)}, to learn more in minutes{whole}"] if different else []


def take_labels(cfg: DictConfig) -> None:
    """Give the labels that were typed to a model that takes some; raise ValueError for one that does not."""
    target = str(cfg.model.objective["_target_"]).rpartition(".")[2]
    if "classes" not in cfg.model.G or target == "ACGAN":
        raise ValueError(
            f"model={cfg.model.name} does not take several labels; type model=fastgan, cgan or sngan_proj, or leave "
            f"data.labels out"
        )
    if not cfg.model.classes:  # of a model that has none unless it is told
        cfg.model.classes = cfg.data.classes


def refuse_no_classes(cfg: DictConfig) -> None:
    """Raise ValueError for a model that learns the classes of the data where these have none."""
    if OmegaConf.is_interpolation(cfg.model, "classes") and cfg.model.classes == 0:
        name, title = cfg.model.name, printable(data_title(cfg.data.name, cfg.data.get("path")))
        base = next(iter(base_configs(f"model/{name}")), "dcgan") if name in choices("model") else "dcgan"
        folders = "give each class a folder of its own, or " if cfg.data.get("path") else ""
        raise ValueError(
            f"model={name} learns to generate classes, but data={title} has none; {folders}type model={base}, which "
            f"needs none"
        )


def output_of(data: Any) -> dict[str, Any]:
    """Return what a checkpoint says of the images and labels that its G generates."""
    output = {"size": data.size, "channels": data.channels, "class_names": data.class_names}
    return output | (labels.to_output(data.columns, data.codes) if data.columns else {})


def build_objective(cfg: DictConfig, data: Any) -> Any:
    """Return the objective with freshly initialised networks."""
    torch.manual_seed(derive_seed(cfg.seed, "networks"))
    objective = build(cfg.model.objective)
    objective.check_data(data)
    return objective


def choose_precision(cfg: DictConfig, objective: Any, device: torch.device) -> str:
    """Return the precision that trainer.precision means on the first process's machine."""
    precision = cfg.trainer.precision
    if precision == "auto" and device.type == "cuda":
        precision = "tf32"  # torch's own default for convolutions; nothing else has been measured
    elif precision == "auto":
        safe = cfg.model.bf16_safe and not objective.double_backward
        precision = "bf16" if device.type == "cpu" and safe and multiplies_bf16() else "fp32"
    return ranks.from_first(precision)


def freeze_first(objective: Any, options: DictConfig) -> None:
    """Keep the first layers of D, as many as trainer.freeze_d says; raise ValueError where there are none to keep."""
    if not options.start:
        raise ValueError(f"trainer.freeze_d={options.freeze_d} keeps layers of another run's D; type trainer.start=RUN")
    if type(objective) in (CycleGAN, Unrolled) or not isinstance(objective, gan.GAN):
        raise ValueError(f"trainer.freeze_d={options.freeze_d} is for models with one D, not unrolled; leave it out")
    resume.freeze(objective.D, options.freeze_d)


def build_trainer(cfg: DictConfig, objective: Any, data: Any, device: torch.device) -> tuple[Trainer, list[str]]:
    """Return the trainer at step 0, and warnings."""
    options, warnings = cfg.trainer, []
    batches = BatchLoader(
        *(data, cfg.data.batch_size, cfg.model.classes, cfg.data.flip, cfg.seed, device),
        *(ranks.rank(), ranks.world_size()),
        prefetch=PREFETCHED if device.type == "cuda" else 0,
    )
    optimizers = {network: build(optimizer) for network, optimizer in cfg.model.optimizers.items()}
    if options.freeze_d:
        freeze_first(objective, options)
    beta2 = build(cfg.model.beta2) if cfg.model.beta2 else None
    graphs = None
    if device.type == "cuda" and options.graphs:
        reason = why_not(cfg.model.graph_safe, optimizers.values(), beta2)
        graphs = None if reason else CudaGraphs(device)
        warnings += [f"no CUDA graphs: {reason}"] if reason else []
    trainer = Trainer(
        objective,
        batches,
        optimizers,
        Budget(options.steps, options.kimg, options.minutes),
        device,
        seed=cfg.seed,
        schedule=build(cfg.model.schedule),
        beta2=beta2,
        ema=lambda network: EMA(network, **options.ema),
        clip=options.clip,
        accumulate=options.accumulate,
        precision=options.precision,
        channels_last=options.channels_last,
        compile=options.compile,
        sync_bn=options.sync_bn,
        graphs=graphs,
    )
    if options.accumulate > 1 and cfg.model.get("reuse_fakes"):
        warnings.append(
            f"trainer.accumulate={options.accumulate}: G's update generates fakes of its own, as with "
            f"model.reuse_fakes=false"
        )
    if cfg.data.batch_size // (ranks.world_size() * cfg.model.get("packing", 1) * options.accumulate) == 1:
        refuse_single_values(trainer.networks.values())
    return trainer, warnings
