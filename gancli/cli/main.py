"""The command `gan`: dispatch, and one sentence and an exit code for every error.

Help, completion and usage errors need neither torch nor Hydra.
"""

import importlib
import io
import os
import sys

from gancli.checkpoint.trust import trusting
from gancli.cli import help as helps
from gancli.cli.overrides import read_values
from gancli.cli.train import process, train
from gancli.config import UsageError, nearest, problems_of_plugins
from gancli.runtime.signals import terminable
from gancli.runtime.streams import unbroken
from gancli.runtime.text import sentence


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 failed, 2 bad usage, 130 and 143 stopped after saving."""
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that it lacks must not end a night's sweep
    with unbroken():
        return _main(argv)


def _main(argv: list[str]) -> int:
    try:
        code = run(argv)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return fail(error, 2)
    except KeyboardInterrupt as error:
        if process()[0] == 0:
            say(f"gan: stopped{f': {error}' if str(error) else ''}")
        return getattr(error, "exit_code", 130)
    except Exception as error:
        return fail(error, 1)


def run(argv: list[str]) -> int:
    """Call the command that argv names."""
    command, *words = argv or ["help"]
    known = helps.commands()
    if command in ("-h", "--help", "help"):
        print(helps.overview())
    elif command == "--version":
        from gancli import __version__

        print(f"gan {__version__}")
    elif command == "--completion":
        print(helps.completion_script(words))
    elif command == "--complete":
        print("\n".join(helps.complete(words)))
    elif command not in known:
        raise UsageError(f"there is no command {command!r}{nearest(command, known)}; gan --help lists them")
    else:
        for problem in problems_of_plugins() if process()[0] == 0 else ():
            say(f"gan: warning: {problem}")
        return run_command(command, words)
    return 0


def run_command(command: str, words: list[str]) -> int:
    """Call a command that exists, or print its help."""
    if {"-h", "--help"} & set(words):
        print(helps.help_of(command, words))
    elif command == "train":
        return train(words)
    else:
        values = read_values(command, words)
        with terminable(), trusting(values.pop("trust", ())):
            arguments = {key.replace(".", "_"): value for key, value in values.items()}
            return int(importlib.import_module(f"gancli.commands.{command}").main(**arguments) or 0)
    return 0


def say(text: str) -> None:
    """Print a text on standard error; commands that answer at once do not import what this takes."""
    from gancli.runtime import terminal

    terminal.say(text)


def fail(error: Exception, code: int) -> int:
    """Print one sentence on standard error and return the code; GAN_TRACEBACK=1 raises the error instead."""
    if os.environ.get("GAN_TRACEBACK") == "1":
        raise error
    rank, size = process()
    if rank and isinstance(error, UsageError):
        return code  # the first process prints it
    expected = isinstance(error, ValueError | OSError)
    hint = "" if expected else f" ({type(error).__name__}; GAN_TRACEBACK=1 shows where)"
    say(f"gan{f', process {rank} of {size}' if rank else ''}: {sentence(error)}{hint}")
    return code


if __name__ == "__main__":
    sys.exit(main())
