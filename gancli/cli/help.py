"""Help and completion, read from the yaml files. Needs neither Hydra nor torch."""

import re
import textwrap

from gancli.cli.known import chosen, every_key, train_keys
from gancli.cli.overrides import full_key, places_of, read_train
from gancli.config import CONFIGS, Key, UsageError, choices, groups, header, keys, own_configs, readable

WIDTH, COLUMN = 100, 40  # of the help, and where the meanings begin
ORDER = ["train", "sample", "upscale", "translate", "inpaint", "reconstruct", "edit", "project", "evaluate"]
ORDER += ["explain", "report", "bench", "list", "info", "verify", "data", "export", "push", "new"]


def commands() -> list[str]:
    """Return the commands: every yaml at the top of configs/ is one."""
    names = {p.stem for p in CONFIGS.glob("*.yaml")}
    return [c for c in ORDER if c in names] + sorted(names - set(ORDER))


def overview() -> str:
    """Return the text of `gan --help`."""
    lines = ["gan: train generative image models from YAML configs and use them", ""]
    lines += [f"  gan {c:<12} {header(c).splitlines()[0].partition(': gan ')[0]}" for c in commands()]
    examples = """
    Begin here:
      gan train                                   handwritten digits: no download, about a minute
      gan train model=dcgan data=mnist trainer.minutes=5
      gan sample ckpt=latest out=samples.png      images from the newest run
      gan train -m model=dcgan,mlp seed=0,1,2     a sweep with its leaderboard
      gan upscale photo.jpg                       photo_x4.png, by a bundled network

    gan COMMAND --help shows every key, its default and its meaning; gan list shows the choices.
    Tab completion: eval "$(gan --completion bash)" (or zsh, fish) in your shell's start-up file.
    """
    return "\n".join(lines) + "\n" + textwrap.dedent(examples).rstrip()


def help_of(command: str, words: list[str]) -> str:
    """Return examples, then the keys with defaults and meanings; of `gan train` those of the choices in `words`."""
    if command != "train":
        return "\n".join([header(command), "", "Keys:", *key_lines(keys(command))])
    typed = read_train([word for word in words if word not in ("-h", "--help", "all")])
    with own_configs(*typed.places):
        return _help_of_train(typed.words, everything="all" in words)


def _help_of_train(typed: list[str], everything: bool) -> str:
    choice = chosen(typed)
    lines = [header("train"), "", "Choices:"]
    wrap = textwrap.TextWrapper(WIDTH, subsequent_indent=" " * 6, break_on_hyphens=False)
    for group in ["model", "data", "trainer", "experiment", "sweep", *(g for g in choice if g.startswith("model/"))]:
        lines += wrap.wrap(f"  {group}={', '.join(choices(group))}")
    every = list(train_keys(choice).values())
    shown = [key for key in every if key.meaning and not key.rare]
    rest = [key for key in every if key not in shown]
    lines += ["", f"Keys with model={choice['model']} data={choice['data']}:", *key_lines(shown), ""]
    if everything:
        return "\n".join([*lines, "Rarely changed:", *key_lines(rest)])
    lines += [f"{len(rest)} keys that are rarely changed: gan train --help all"]
    return "\n".join([*lines, "Keys of other models and data: gan train model=cyclegan data=unpaired --help"])


def key_lines(shown: list[Key]) -> list[str]:
    """Return lines of `key=default  meaning`."""
    lines = []
    for key in shown:
        left = f"  {key.name}={readable(key.default).strip(chr(34))}"
        meaning = textwrap.wrap(key.meaning, WIDTH - COLUMN)
        if len(left) >= COLUMN or not meaning:
            meaning.insert(0, "")
        lines += [f"{a:<{COLUMN}}{b}".rstrip() for a, b in zip([left] + [""] * len(meaning), meaning)]
    return lines


SCRIPTS = {
    "bash": """_gan() { local IFS=$'\\n'; COMPREPLY=($(gan --complete "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)); \
[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace; local w="${COMP_LINE:0:COMP_POINT}"; w="${w##* }"; \
local cut="${w%"${w##*[=:]}"}"; COMPREPLY=("${COMPREPLY[@]#"$cut"}"); }
complete -o default -F _gan gan""",
    "zsh": """_gan() { local -a found; found=(${(f)"$(gan --complete "$LBUFFER" 2>/dev/null)"}); \
compadd -S '' -- $found; (( ${#found} )) || _files; }
compdef _gan gan""",
    "fish": """complete -c gan -f -a '(gan --complete (commandline -cp))'""",
}


def completion_script(words: list[str]) -> str:
    """Return the shell code that turns completion on."""
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise UsageError('type one of gan --completion bash, zsh or fish; as in eval "$(gan --completion bash)"')
    return SCRIPTS[words[0]]


def complete(words: list[str]) -> list[str]:
    """Return the words that may follow the line typed so far: commands, keys or choices."""
    typed = " ".join(words).split(" ")[1:]
    if len(typed) <= 1:
        return [c for c in commands() if c.startswith(typed[0] if typed else "")]
    command, current = typed[0], typed[-1]
    if command not in commands():
        return []
    try:
        with own_configs(*places_of(typed[1:-1])):
            return _complete(command, current)
    except UsageError:  # a place that does not exist, or not yet
        return []


def _complete(command: str, current: str) -> list[str]:
    key, equals, value = current.partition("=")
    if command == "train":
        if equals and (group := full_key(key)) in groups():
            last = re.split(r"[\[,]", value)[-1]
            done = value.removesuffix(last)
            return [f"{key}={done}{c}" for c in choices(group) if c.startswith(last)]
        names = [f"{g}=" for g in groups()] + [f"{k.name}=" for k in every_key().values() if k.meaning]
    else:
        names = [f"{k.name}=" for k in keys(command)]
    return [] if equals else [n for n in names if n.startswith(current)]
