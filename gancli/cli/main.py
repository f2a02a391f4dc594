"""The command `gan`: from what was typed to a command, and from what went wrong to one sentence.

Knows argv, the yaml files and Hydra, never torch: help, completion and usage errors answer at once.
"""

import contextlib
import functools
import importlib
import math
import multiprocessing
import os
import re
import shlex
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from gancli.config import CONFIGS, Key, UsageError, choices, groups, header, keys, nearest
from gancli.runtime.signals import Stopped, StopRequest, current, of_worker

# Hydra's own flags, which may stand anywhere; those that take a value are followed by it.
FLAGS = {"-m", "--multirun", "-r", "--run", "--resolve", "--hydra-help", "--info", "-i"}
FLAGS_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn"}
PATHS = ("run.dir", "data.path", "data.root", "data.cache", "trainer.start", "model.content.weights")
WIDTH, COLUMN = 100, 40  # of the help, and where the meanings begin


def main(argv: list[str] | None = None) -> int:
    """Run a command; gives the exit code. 0 done, 1 failed, 2 bad usage, 130 and 143 stopped after saving."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return run(argv)
    except UsageError as error:
        return fail(error, 2)
    except BrokenPipeError:  # `gan list | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        if process()[0] == 0:
            print(f"gan: stopped{f': {error}' if str(error) else ''}", file=sys.stderr)
        return getattr(error, "exit_code", 130)
    except Exception as error:
        return fail(error, 1)


def fail(error: Exception, code: int) -> int:
    """One sentence on standard error; the traceback only where GAN_TRACEBACK=1 asks for it."""
    if os.environ.get("GAN_TRACEBACK") == "1":
        raise error
    expected = isinstance(error, ValueError | OSError)
    rank, size = process()
    if rank and isinstance(error, UsageError):
        return code  # the first says it
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'the disk'}: {error.strerror}"
    hint = "" if expected else f" ({type(error).__name__}; GAN_TRACEBACK=1 shows where)"
    print(f"gan{f', process {rank} of {size}' if rank else ''}: {text}{hint}", file=sys.stderr)
    return code


def process() -> tuple[int, int]:
    """Which process this is, of how many that torchrun or srun started to train one model."""
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in os.environ and int(os.environ.get(size, 1)) > 1:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] == "--version":
        from gancli import __version__

        print(f"gan {__version__}")
        return 0
    if argv[0] == "--completion":
        return print_completion(argv[1:])
    if argv[0] == "--complete":
        print("\n".join(complete(argv[1:])))
        return 0
    command, *rest = argv
    if command not in commands():
        raise UsageError(f"there is no command {command!r}{nearest(command, commands())}; gan --help lists them")
    if any(word in ("-h", "--help") for word in rest):
        print(help_of(command))
        return 0
    return train(rest) if command == "train" else simple(command, rest)


def commands() -> list[str]:
    """Every yaml at the top of configs/ is a command."""
    order = ["train", "sample", "upscale", "translate", "inpaint", "reconstruct", "edit", "project", "evaluate"]
    order += ["report", "bench", "list", "info", "data", "export"]
    found = {p.stem for p in CONFIGS.glob("*.yaml")}
    return [c for c in order if c in found] + sorted(found - set(order))


# --- commands other than train: key=value and paths, each value as it was typed ---------------------------------


def simple(command: str, words: list[str]) -> int:
    """Read configs/<command>.yaml, lay what was typed over it, call gancli.commands.<command>.main(**values)."""
    import yaml

    values: dict[str, Any] = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())
    # Bare words are paths and names: the first key takes all of them where it is a list, else the text keys in order.
    first = next(iter(values))
    texts = [key for key, default in values.items() if isinstance(default, str)]
    bare: list[str] = []
    for word in words:
        key, equals, text = word.partition("=")
        if word.startswith("-"):
            raise UsageError(f"gan {command} takes no option {word}; gan {command} --help lists its keys")
        if equals and key in values:
            values[key] = read_value(key, text, values[key])
        elif equals and key.replace("_", "a").isidentifier() and not Path(word).exists():
            raise UsageError(f"gan {command} has no key {key!r}{nearest(key, values)}; gan {command} --help lists them")
        else:
            bare.append(word)
    if bare and isinstance(values[first], list):
        values[first] = bare
    elif len(bare) > len(texts):
        raise UsageError(
            f"gan {command} takes {' and '.join(texts)}, but {len(bare)} words were given: {' '.join(bare)}"
        )
    else:
        values |= dict(zip(texts, bare))
    result = importlib.import_module(f"gancli.commands.{command}").main(**values)
    return int(result or 0)


def read_value(key: str, text: str, default: Any) -> Any:
    """A typed value as the kind of its default: texts and paths to the letter, numbers as numbers, lists as yaml."""
    if isinstance(default, list):
        import yaml

        with contextlib.suppress(yaml.YAMLError):
            value = yaml.safe_load(text)
            return value if isinstance(value, list) else [value]
        raise UsageError(f"{key} is a list, but {key}={text} was given; type it as in {key}=[3,7]")
    reader, kind = KINDS[type(default)]
    try:
        return reader(text)
    except (KeyError, ValueError):
        raise UsageError(
            f"{key} is {kind}, but {key}={text} was given; type it as in {key}={str(default).lower()}"
        ) from None


KINDS: dict[type, tuple[Any, str]] = {
    str: (str, "a text"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
}


# --- train: Hydra composes, sweeps and launches -------------------------------------------------------------------


def train(words: list[str]) -> int:
    flags, overrides = split_flags(words)
    sweep = bool({"-m", "--multirun"} & set(flags))
    # A folder of one's own configs may hold more choices than ours.
    known = not {"--config-dir", "-cd"} & set(flags)
    overrides = [check_override(word, sweep, known) for word in overrides]
    rank, size = process()
    if size > 1:
        return train_together(rank, size, flags, overrides)
    if not sweep:
        with StopRequest(at_once=True):
            return compose_and_call(flags, overrides)
    named = [word.partition("=")[2].strip("'") for word in overrides if word.startswith("run.dir=")]
    folder = Path(named[-1] if named else f"outputs/sweeps/{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}")
    stopped: KeyboardInterrupt | None = None
    with StopRequest(at_once=True) as stop:
        try:
            compose_and_call(flags, overrides if named else [*overrides, f"run.dir={folder}"])
        except KeyboardInterrupt as error:
            stopped = error
    if stop.signum:  # its jobs have heard it, and have ended
        stopped = Stopped(stop.signum)
    failed = report_sweep(folder)  # of what was run, also where the sweep was stopped
    if stopped:
        whole = ["gan", "train", *words, *([] if named else [f"run.dir={folder}"])]
        print(f"gan: to go on, type {shlex.join(whole)}", file=sys.stderr)
        raise stopped
    if failed:
        raise ValueError(failed)
    return 0


def train_together(rank: int, size: int, flags: list[str], overrides: list[str]) -> int:
    """One of several processes that train one model."""
    if {"-m", "--multirun"} & set(flags):
        raise UsageError(f"these {size} processes train one model, and a sweep trains several; leave out -m")
    if "MASTER_ADDR" not in os.environ:  # torchrun says it
        raise UsageError(
            f"srun started {size} processes which do not know where to meet; before it type export "
            f"MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1) MASTER_PORT=29500"
        )
    from gancli.training.distributed import joined

    with StopRequest(at_once=True), joined(rank, size) as name:
        return compose_and_call(flags, overrides, name)


def report_sweep(folder: Path) -> str:
    """Write and print the leaderboard; gives a sentence on the jobs that failed, or nothing."""
    from gancli.commands import report
    from gancli.report.run_folder import find_runs, read_run

    if not any(folder.glob("*/metrics.jsonl")):
        return ""
    report.main([str(folder)])
    runs = [read_run(job) for job in find_runs(folder)]
    failed = [run for run in runs if run.status == "failed"]
    if not failed:
        return ""
    first = f"{failed[0].name}: {failed[0].message}"
    return f"{len(failed)} of {len(runs)} jobs failed, the first, {first}; log.txt in each has its traceback"


def compose_and_call(flags: list[str], overrides: list[str], name: str = "") -> int:
    """Let Hydra compose the config and call the job or jobs. name: what processes agreed to call their run."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from gancli.config import register_resolvers

    register_resolvers(name)
    failures: list[Exception] = []
    sweep = bool({"-m", "--multirun"} & set(flags))

    def job(cfg: Any) -> float | None:
        worker = multiprocessing.parent_process() is not None
        stop = of_worker() if worker else current()
        from gancli.training.run import main as train_one

        try:
            if stop and stop.signum:
                raise Stopped(stop.signum)
            return train_one(cfg, jobs)
        except Stopped:
            if worker:  # an error would have the other workers killed, and they are saving
                return math.inf
            raise
        except Exception as error:
            # Hydra would print its own account and an Optuna sweep would end. The job has left its traceback and its
            # sentence in its folder; to a sweeper, which minimises, it is as bad as can be.
            failures.append(error)
            return math.inf

    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["gan train", *flags, *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the sentence is ours to write
    try:
        jobs = count_jobs(overrides) if sweep else None
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error)) from error
    finally:
        sys.argv = argv
        os.environ.pop("HYDRA_FULL_ERROR")
        os.environ |= {"HYDRA_FULL_ERROR": full} if full else {}
    if failures and not sweep:
        raise failures[0]
    return 0


def count_jobs(overrides: list[str]) -> int | None:
    """How many jobs a sweep over these overrides has; None where a sweep's or an experiment's own config has a say."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if any(word.startswith(("sweep=", "experiment=")) for word in overrides):
        return None
    parsed = OverridesParser.create().parse_overrides(overrides)
    return math.prod(sum(1 for _ in o.sweep_iterator()) for o in parsed if o.is_sweep_override())


def split_flags(words: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, which it wants first, and the overrides."""
    flags, overrides = [], []
    rest = iter(words)
    for word in rest:
        if word in FLAGS_WITH_VALUE:
            value = next(rest, None)
            if value is None:
                raise UsageError(f"{word} needs a value, as in gan train --cfg job")
            flags += [word, value]
        elif word in FLAGS:
            flags.append(word)
        elif word.startswith("-"):
            raise UsageError(
                f"gan train takes no option {word}{nearest(word, FLAGS | FLAGS_WITH_VALUE)}; gan train --help"
            )
        else:
            overrides.append(word)
    if {"-m", "--multirun"} & set(flags) and {"-c", "--cfg", "-i", "--info"} & set(flags):
        raise UsageError("a sweep is run with -m or a config is printed with --cfg, not both; leave one out")
    return flags, overrides


def check_override(word: str, sweep: bool, known: bool = True) -> str:
    """The override as Hydra shall read it. UsageError for a choice that is not there, with the nearest."""
    key, equals, value = word.partition("=")
    if not equals:
        if word.startswith("~"):
            return word
        raise UsageError(f"{word!r} is not key=value; type it as in gan train model=dcgan data=mnist")
    if key in (inner := short_names()):
        key, word = inner[key], f"{inner[key]}={value}"
    group = key.lstrip("+~").partition("@")[0]
    if group in groups():
        for choice in value.strip("'\"").split(",") if sweep else [value]:
            if known and choice not in choices(group) and choice != "null" and "(" not in choice:
                there = ", ".join(choices(group))
                raise UsageError(f"there is no {group} {choice!r}{nearest(choice, choices(group))}; there are: {there}")
    elif (default := plain_default(key)) is not None and not re.search(r"[(${]|^null$", value):
        if "," in value and not sweep:
            raise UsageError(f"{word} gives several values; to sweep over them add -m, as in gan train -m {word}")
        for one in value.split(","):
            read_value(key, one, default)
    elif key in PATHS and not re.fullmatch(r"[\w./:+-]*|'.*'|\".*\"", value) and not (sweep and "," in value):
        # A path is never grammar: quoted, so that ( ) = ~ , {} and spaces are ordinary.
        return f"{key}='" + value.replace("'", r"\'") + "'"
    return word


def short_names() -> dict[str, str]:
    """`task` for `model/task`, and so for every group within the model's."""
    return {group.partition("/")[2]: group for group in groups() if group.startswith("model/")}


def plain_default(key: str) -> int | float | bool | None:
    """The default of a train command's key where it is a number or true or false."""
    text = next((k.default for k in train_keys() if k.name == key), "")
    if follows := re.fullmatch(r"\$\{([\w.]+)\}", text):
        return plain_default(follows[1])
    for kind in (bool, int, float):
        with contextlib.suppress(KeyError, ValueError):
            return KINDS[kind][0](text)
    return None


def explain(error: Exception) -> str:
    """Hydra's message as one sentence, with the nearest key where one was misspelt."""
    text = str(error).strip()
    cause = str(error.__cause__ or "")
    if unknown := re.search(r"Could not override '([^']+)'", text):
        name = unknown[1]
        group = name.split(".")[0]
        if owners := [c for c in choices(group) if name in (k.name for k in keys(f"{group}/{c}", f"{group}."))]:
            return (
                f"{name} is a key of {group}={', '.join(owners)} and not of the {group} chosen here; gan train --help"
            )
        guess = nearest(name, [*groups(), *(key.name for key in train_keys())])
        return f"there is no key {name!r}{guess}; gan train --help lists them"
    if "ValidationError" in type(error).__name__ or "is not a valid" in text:
        return f"{text.splitlines()[0]}; gan train --help says what each key takes"
    if "multirun" in text.lower() or "Ambiguous value" in text:
        return f"{text.splitlines()[0]}: for a sweep over several values add -m, as in gan train -m seed=0,1,2"
    lines = [line.strip() for line in (text or cause).splitlines() if line.strip()]
    return f"{' '.join(lines[:2])}; gan train --help shows how overrides are written"


# --- help and completion: read off the yaml files -----------------------------------------------------------------


def overview() -> str:
    """What `gan --help` says."""
    lines = ["gan: train generative image models from YAML configs and put them to use", ""]
    lines += [f"  gan {c:<11} {header(c).splitlines()[0].partition(': gan ')[0]}" for c in commands()]
    examples = """
    Begin here:
      gan train                                   digits with a DCGAN: no download, about a minute
      gan train model=dcgan data=mnist trainer.minutes=5
      gan sample ckpt=latest out=samples.png      images from the newest run
      gan train -m model=dcgan,mlp seed=0,1,2     a sweep, with its leaderboard
      gan upscale photo.jpg                       photo_x4.png, by a network that comes along

    gan COMMAND --help shows every key, its default and its meaning; gan list shows what can be chosen.
    Tab completion: eval "$(gan --completion bash)" (or zsh, fish) in your shell's start-up file.
    """
    return "\n".join(lines) + "\n" + textwrap.dedent(examples).rstrip()


def help_of(command: str) -> str:
    """Examples, then every key with its default and meaning."""
    lines = [header(command), "", "Keys:"]
    if command != "train":
        return "\n".join(lines + key_lines(keys(command)))
    inner = [group for group in groups() if group.startswith("model/")]
    for group in ("model", "data", "trainer", "experiment", "sweep", *inner):
        known = ", ".join(choices(group))
        lines += textwrap.wrap(f"  {group}={known}", WIDTH, subsequent_indent=" " * (len(group) + 3))
    return "\n".join([*lines, "", *key_lines(train_keys())])


@functools.cache
def train_keys() -> list[Key]:
    """The keys of a train command with the default model, data and trainer, and of every other data set."""
    found = keys("train") + keys("trainer/default", "trainer.")
    for name in ["digits", *choices("data")]:
        found += keys(f"data/{name}", "data.")
    for name in ["dcgan", *choices("model")]:
        found += keys(f"model/{name}", "model.")
    for group in ("model/content", "model/penalty", "model/augment"):
        for name in choices(group):
            found += keys(f"{group}/{name}", f"{group.replace('/', '.')}.")
    first = {key.name: key for key in reversed(found)}
    return [key for name, key in reversed(first.items()) if ".source" not in name]


def key_lines(found: list[Key]) -> list[str]:
    """`key=default  meaning`, of the keys that say what they mean."""
    lines = []
    for key in found:
        if not key.meaning:
            continue
        left = f"  {key.name}={key.default.strip(chr(34))}"
        meaning = textwrap.wrap(key.meaning, WIDTH - COLUMN)
        if len(left) >= COLUMN:
            meaning.insert(0, "")
        lines += [f"{beside:<{COLUMN}}{text}".rstrip() for beside, text in zip([left] + [""] * len(meaning), meaning)]
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


def print_completion(words: list[str]) -> int:
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise UsageError('type one of gan --completion bash, zsh or fish; as in eval "$(gan --completion bash)"')
    print(SCRIPTS[words[0]])
    return 0


def complete(words: list[str]) -> list[str]:
    """What may follow the line typed so far, given whole: command words, keys, choices."""
    typed = " ".join(words).split(" ")[1:]
    if len(typed) <= 1:
        return [c for c in commands() if c.startswith(typed[0] if typed else "")]
    command, current = typed[0], typed[-1]
    if command not in commands():
        return []
    key, equals, value = current.partition("=")
    if command == "train":
        if equals and (group := short_names().get(key, key)) in groups():
            done, comma, last = value.rpartition(",")
            return [f"{key}={done}{comma}{c}" for c in choices(group) if c.startswith(last)]
        names = [f"{g}=" for g in groups()] + [f"{k.name}=" for k in train_keys() if k.meaning]
    else:
        names = [f"{k.name}=" for k in keys(command)]
    return [] if equals else [n for n in names if n.startswith(current)]


if __name__ == "__main__":
    sys.exit(main())
