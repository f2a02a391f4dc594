"""The reference pages: Markdown that is made from the configs and the terms when the documentation is built."""

import re

import gancli
from gancli.cli.help import commands as command_names
from gancli.commands.list import GROUPS
from gancli.config import Key, choices, header, keys, readable
from gancli.metrics.terms import GROUPS as GROUPS_OF_TERMS

LINK = re.compile(r"(?<!<)(https?://\S+?)(?=[,;)]*(?:\s|$))")


def escape(text: str) -> str:
    """Return text for a cell of a table: addresses are links, and nothing else is Markdown."""
    text = re.sub(r"([|*_<>\[\]`$])", r"\\\1", text)
    return LINK.sub(lambda link: f"<{link[1].replace(chr(92), '')}>", text)


def table_of(rows: list[Key]) -> list[str]:
    """Return a table of keys, defaults and meanings, or nothing if there are no keys."""
    if not rows:
        return []
    cells = [
        (f"`{key.name}`", f"`{readable(key.default)}`" if key.default else "", escape(key.meaning)) for key in rows
    ]
    return ["| key | default | meaning |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells), ""]


def keys_of(name: str, prefix: str = "") -> list[str]:
    """Return the keys of a config that are usually changed, then those that rarely are."""
    every = keys(name, prefix)
    lines = table_of([key for key in every if not key.rare])
    if rare := [key for key in every if key.rare and key.meaning]:
        lines += ["Rarely changed:", "", *table_of(rare)]
    return lines


def title_and_examples(name: str) -> list[str]:
    """Return the comment at the top of a config as a paragraph, its examples and what follows them."""
    title, *rest = header(name).splitlines()
    lines, examples = [escape(title).rstrip(".") + ".", ""], [line[2:] for line in rest if line.startswith("  ")]
    if examples:
        lines += ["```sh", *(re.sub(r" {2,}(?=\S)", "   # ", line, count=1) for line in examples), "```", ""]
    return lines + [escape(line) for line in rest if line and not line.startswith("  ")] + [""]


def commands() -> str:
    """Return a section for each command: examples, then keys."""
    lines: list[str] = []
    for command in command_names():
        lines += [f"## gan {command}", "", *title_and_examples(command), *keys_of(command)]
        if command == "train":
            lines += ["### trainer", "", *keys_of("trainer/default", "trainer.")]
    return "\n".join(lines)


def entries(group: str, prefix: str, base: str = "") -> str:
    """Return a section for each choice of a group with the keys that it adds to those of `base`."""
    known = {key.name: key.default for key in keys(f"{group}/{base}", prefix)} if base else {}
    lines: list[str] = []
    for choice in choices(group):
        own = [key for key in keys(f"{group}/{choice}", prefix) if not key.rare and key.meaning]
        new = [key for key in own if known.get(key.name) != key.default] if choice != base else own
        lines += [f"## {choice}", "", *title_and_examples(f"{group}/{choice}"), *table_of(new)]
    return "\n".join(lines)


def models() -> str:
    """Return a section for each model; keys that all of them have are in that of dcgan."""
    return entries("model", "model.", "dcgan")


def data() -> str:
    """Return a section for each data set."""
    return entries("data", "data.")


def losses() -> str:
    """Return a table for each group of choices inside a model."""
    lines: list[str] = []
    for group in (g for g in GROUPS.values() if g.startswith("model/")):
        lines += [f"## {group}=", "", "| choice | meaning |", "|---|---|"]
        lines += [f"| `{c}` | {escape(header(f'{group}/{c}').splitlines()[0])} |" for c in choices(group)]
        every = {k.name: k for c in choices(group) for k in keys(f"{group}/{c}", f"{group.replace('/', '.')}.")}
        lines += ["", *table_of([key for key in every.values() if key.meaning and not key.rare])]
    return "\n".join(lines)


def experiments() -> str:
    """Return a table of the experiments, and one of the sweeps."""
    lines: list[str] = []
    for group in ("experiment", "sweep", "trainer", "trainer/log"):
        lines += [f"## {group}=", "", "| choice | what it does |", "|---|---|"]
        lines += [f"| `{c}` | {escape(header(f'{group}/{c}').splitlines()[0])} |" for c in choices(group)] + [""]
    return "\n".join(lines)


def metrics() -> str:
    """Return the names of the terms of each group, with a link to their table in the guide."""
    lines: list[str] = []
    for group, terms in GROUPS_OF_TERMS.items():
        anchor = re.sub(r"[^\w ]", "", group.lower()).replace(" ", "-")
        names = ", ".join(f"`{name}`" for term in terms for name in term.names)
        lines += [f"- [{group[0].upper()}{group[1:]}](../reading-a-run.md#{anchor}): {names}"]
    return "\n".join(lines)


def autodoc(*directives: str) -> str:
    """Return the docstrings that Sphinx's directives of autodoc take from the code."""
    return "\n".join(["```{eval-rst}", *(f"{line}\n" for line in directives), "```"])


def functions() -> str:
    """Return the documentation of the public names of `gancli`: functions, then classes."""
    public = {name: getattr(gancli, name) for name in gancli.__all__ if name != "__version__"}
    classes = [name for name, value in public.items() if isinstance(value, type)]
    places = [f".. autofunction:: {public[name].__module__}.{name}" for name in public if name not in classes]
    for name in classes:  # the fields of a tuple are in its docstring
        members = "" if issubclass(public[name], tuple) else "\n   :members:"
        places.append(f".. autoclass:: {public[name].__module__}.{name}{members}")
    return autodoc(*places)


def modules() -> str:
    """Return a table of the public modules of `gancli`."""
    rows = [f"| `gancli.{name}` | {meaning} |" for name, meaning in gancli._PUBLIC_MODULES.items()]
    return "\n".join(["| module | what is in it |", "|---|---|", *rows])


def inference() -> str:
    """Return the documentation of what loads models for the other commands."""
    return autodoc(
        ".. autofunction:: gancli.inference.upscaler.load_upscaler",
        ".. autofunction:: gancli.inference.translator.load_translator",
        ".. autofunction:: gancli.inference.inpainter.load_inpainter",
    )
