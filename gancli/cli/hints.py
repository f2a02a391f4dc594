"""Words that people type after `gan train` from habit, and what to type instead. Needs neither Hydra nor torch."""

from gancli.cli.stored import is_run
from gancli.config import choices, defaults, groups, nearest, typed
from gancli.runtime.files import typed_path
from gancli.runtime.text import shell_quote

# Names of other tools, and short ones, with the key they mean; {} stands for the value.
WORDS = {
    "trainer.steps={}": "steps iterations iteration iters iter n_iter num_iters num_iterations max_steps num_steps",
    "trainer.minutes={}": "minutes mins max_minutes",
    "trainer.kimg={}": "kimg max_kimg",
    "model.lr={}": "lr learning_rate lr_g lr_d g_lr d_lr rate",
    "data.batch_size={}": "batch_size batch bs batchsize",
    "data.size={}": "size image_size img_size imsize resolution res",
    "data.flip={}": "flip mirror",
    "data=folder data.path={}": "path data_dir data_path dataroot datadir dataset_path images folder",
    "model.z_dim={}": "z_dim nz latent_dim latent_size noise_dim",
    "model.width={}": "width ngf ndf channels_base ch",
    "model.n_critic={}": "n_critic ncritic d_steps",
    "data={}": "dataset",
    "model={}": "arch architecture network net gan type",
    "model/loss={}": "gan_mode gan_loss loss_type",
    "run.dir={}": "out output outdir output_dir save_dir logdir log_dir results_dir dir run",
    "resume={}": "checkpoint ckpt resume_from load weights",
    "seed={}": "random_seed manual_seed",
    "device=cuda": "gpu gpus cuda use_cuda",
    "device=cpu": "cpu no_cuda no_gpu",
    "trainer.log=[tensorboard]": "tensorboard tb use_tensorboard",
    "trainer.log=[wandb]": "wandb use_wandb",
    "trainer.log=[mlflow]": "mlflow",
    "trainer.precision=bf16": "amp fp16 mixed_precision bf16",
    "trainer.sample_every={}": "sample_every sample_interval save_image_freq",
    "trainer.log_every={}": "log_every log_interval print_freq",
    "trainer.checkpoint_every={}": "checkpoint_every save_every save_freq snap",
}
MEANT = {name: word for word, names in WORDS.items() for name in names.split()}
EPOCHS = ("epochs", "epoch", "n_epochs", "num_epochs", "max_epochs", "nepochs")


def for_key(key: str, value: str) -> str:
    """Return "; type trainer.steps=10" for a key of another tool, or an empty string."""
    name = key.lower().lstrip("+").rpartition(".")[2].replace("-", "_")
    if name in EPOCHS:
        epochs = int(value) if value.isdigit() else 5
        return (
            f"; type trainer.kimg={9 * epochs}: thousands of images, here {epochs} epochs of the 9,000 images of "
            f"data=mnist10k"
        )
    return f"; type {MEANT[name].format(value)}" if name in MEANT and key.rpartition(".")[0] in ("", "trainer") else ""


def for_option(option: str, value: str) -> str:
    """Return what to type for an option such as --model dcgan, --steps=10 or --gpu."""
    name = option.lstrip("-").replace("-", "_")
    value = "" if value.startswith("-") or "=" in value else value
    if name == "resume":
        return f"; type resume={value or 'latest'}"
    if meant := for_key(name, value or "..."):
        return meant
    inner = {group.rpartition("/")[2] for group in groups()}
    if name in inner or name in ("seed", "device") or "." in name:
        return f"; type {name}={value or '...'}"
    return f"{nearest(option, OPTIONS)}; gan train --help"


OPTIONS = ["-m", "--multirun", "--resolve", "--cfg", "--package", "--config-dir", "--config-name", "--help"]


def for_word(word: str) -> str:
    """Return what to type for a word without "=": a folder, an archive, a choice, a run, or "latest"."""
    path = typed_path(word)
    if word in ("latest", "resume"):
        return "type resume=latest"
    if is_run(path):
        return f"type {shell_quote(typed('resume', word))}"
    if path.exists():
        return f"type {_data(word)}"
    for group in groups():
        if word in choices(group) and group in (*defaults("train"), *defaults("model/dcgan")):
            return f"type {group}={word}"
    return "type it as in gan train model=dcgan data=mnist"


def for_choice(group: str, choice: str) -> str:
    """Return "; type data=folder data.path=pictures/" for a path in place of a data set, or an empty string."""
    is_path = "/" in choice or "\\" in choice or choice.endswith(".npz") or typed_path(choice).exists()
    return f"; type {_data(choice)}" if group == "data" and is_path else ""


def _data(path: str) -> str:
    return f"data={'npz' if path.endswith('.npz') else 'folder'} {shell_quote(typed('data.path', path))}"
