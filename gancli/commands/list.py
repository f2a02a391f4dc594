"""gan list: the choices in configs/, and the bundled checkpoints."""

from gancli import plugins
from gancli.config import UsageError, choices, entries, header, nearest, own_configs
from gancli.runtime.bundled import starters, trained

GROUPS = {
    "models": "model",
    "data": "data",
    "trainers": "trainer",
    "losses": "model/loss",
    "penalties": "model/penalty",
    "augmentations": "model/augment",
    "contents": "model/content",
    "likelihoods": "model/likelihood",
    "tasks": "model/task",
    "loggers": "trainer/log",
    "experiments": "experiment",
    "sweeps": "sweep",
}
CHECKPOINTS = "checkpoints"
WIDTH = 24  # of the names, in characters


def main(group: str, config_dir: str) -> None:
    """Print the names in a group, or in all groups, with the first line of each yaml."""
    # The config's own name and its last part are typed too: model/loss, loss.
    words = {word: g for name, g in GROUPS.items() for word in (name, g, g.rpartition("/")[2])}
    if group and group not in (*words, CHECKPOINTS):
        known = [*GROUPS, CHECKPOINTS]
        raise UsageError(f"there is no group {group!r}{nearest(group, known)}; there are: {', '.join(known)}")
    with own_configs(*entries(config_dir)):
        for folder in [words[group]] if group in words else [] if group else GROUPS.values():
            if not group:
                print(f"{folder}=")
            for choice in choices(folder):
                title = header(f"{folder}/{choice}").partition("\n")[0]
                print(f"  {choice:<{WIDTH}}{title}".rstrip())
    if group in ("", CHECKPOINTS) and starters():
        print("" if group else "ckpt=\n", end="")
        for name, file in starters().items():
            print(f"  {name:<{WIDTH}}{trained(file)}")
    elif group == CHECKPOINTS:
        print("no checkpoint is bundled with this version")
    if not group and (there := plugins.installed()):
        print("plugins")
        for plugin in there:
            print(f"  {plugin.name:<{WIDTH}}configs of {plugin.package}, networks of {plugin.vouched}")
