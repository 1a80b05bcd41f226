"""Write the pages that are made from the program and its house: `python -m tests.support.generated_pages`.

A test compares what this writes with what stands here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from exporter.cli import COMMANDS, exporter
from exporter.cli.failures import _RESUMABLE
from exporter.cli.option_kinds import Option, key_of
from exporter.model import catalog_text, errors
from exporter.model.options import ENVIRONMENT_ONLY
from tests.house.test_imports import FOLDERS, PACKAGE, PURE

_INTERNAL = (errors.AttemptError, errors.InputError)
_PLACES = {"INTEGER RANGE": "N", "INTEGER": "N", "FLOAT RANGE": "X", "FLOAT": "X"}
_SECRET_MEANINGS = {
    "token": "The API token.",
    "username": "The user to log in as, instead of a token.",
    "password": "That user's password.",
    "pii_key": "The key of `--pii hash`, at least 32 bytes.",
}


def main(folder: Path) -> None:
    """Write every generated page into `folder`."""
    (folder / "options.md").write_text("\n".join(_options()), "utf-8")
    (folder / "data-dictionary.md").write_text(_data_dictionary(), "utf-8")
    (folder / "house.md").write_text("\n".join(_house()), "utf-8")


# --- options ---


def _options() -> Iterator[str]:
    yield "# Options and exit codes"
    yield ""
    yield "Every command, option, default, environment variable and exit code, made from the program itself."
    yield ""
    yield "A flag beats the environment, which beats the configuration file (`exporter.toml` where it"
    yield "exists, or `--config FILE`). The file has one key for each option, as `max-age`. Where an option"
    yield "may be given again, the environment separates the values by white space and the file has a list."
    yield "`exporter config` shows the settings in effect, and where each came from."
    yield ""
    yield from _exit_codes()
    yield from _secrets()
    for words, command in commands().items():
        yield from _command(words, command)


def commands() -> dict[str, click.Command]:
    """Return every command by its words, as `run` and `store prune`; a group's own words do nothing."""
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = exporter.get_command(click.Context(exporter), name)
        assert command is not None
        inner = command.commands if isinstance(command, click.Group) else {}
        found |= {f"{name} {word}": one for word, one in inner.items()} or {name: command}
    return found


def _command(words: str, command: click.Command) -> Iterator[str]:
    ctx = click.Context(command, info_name=f"exporter {words}")
    yield f"## `exporter {words}`"
    yield ""
    yield "```text"
    yield command.get_usage(ctx).removeprefix("Usage: ")
    yield "```"
    yield ""
    yield _one_paragraph(command.help or "")
    yield ""
    if command.epilog:
        yield command.epilog.replace("Example: ", "Example: `", 1) + "`"
        yield ""
    yield from _table(ctx, command)


def _table(ctx: click.Context, command: click.Command) -> Iterator[str]:
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if not options:
        return
    yield "| Option | Meaning | Default | Environment | Key in the file |"
    yield "|---|---|---|---|---|"
    for one in options:
        key = f"`{key_of(one)}`" if isinstance(one, Option) else ""
        variable = f"`{one.envvar}`" if one.envvar else ""
        yield f"| {_words(ctx, one)} | {_meaning(one)} | {_default(one)} | {variable} | {key} |"
    yield ""


def _words(ctx: click.Context, option: click.Option) -> str:
    metavar = option.make_metavar(ctx)
    value = "" if option.is_flag else f" {_PLACES.get(metavar, metavar)}"
    return f"`{max(option.opts, key=len)}{value}`".replace("|", r"\|")


def _meaning(option: click.Option) -> str:
    text = _without_default(option.help or "").replace("|", r"\|")
    return re.sub(r"(?<![`\w])(EXPORTER_\w+|--[a-z][a-z-]+|[NCODES,=0-9]+=AGE)", r"`\1`", text)


def _without_default(text: str) -> str:
    return re.sub(r"\s*\[default: .*\]", "", text)


def _default(option: click.Option) -> str:
    """Return the default as the help tells it: in its text, or as click knows it."""
    told = re.search(r"\[default: (.*)\]", option.help or "")
    if told:
        return told[1]
    if option.required:
        return "must be given"
    default = option.default
    if option.is_flag or option.show_default is False or not isinstance(default, str | int | float | tuple):
        return ""
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"


def _one_paragraph(text: str) -> str:
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n\n".join(paragraphs)


def _secrets() -> Iterator[str]:
    yield "## Secrets"
    yield ""
    yield "They come from the environment, or a token from the file of `--token-file`; never from an option's"
    yield "value, which `ps` would show."
    yield ""
    yield "| Environment | Meaning |"
    yield "|---|---|"
    for name, variable in ENVIRONMENT_ONLY.items():
        yield f"| `{variable}` | {_SECRET_MEANINGS[name]} |"
    yield ""


# --- exit codes ---


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes"
    yield ""
    yield "| Code | Meaning | The same command resumes |"
    yield "|---|---|---|"
    for code, meaning in sorted(exit_codes().items()):
        yield f"| {code} | {meaning} | {_goes_on(code)} |"
    yield ""


def exit_codes() -> dict[int, str]:
    """Return what each code means, from the errors that carry it."""
    meanings = {
        0: "Everything was exported.",
        1: "A bug of the exporter; or `exporter verify` found a difference.",
        3: "Published, with rejects; `rejects.jsonl` lists them.",
        130: "Stopped by SIGINT (Ctrl-C); what was fetched is kept.",
        143: "Stopped by SIGTERM; what was fetched is kept.",
        141: "The reader of the output went away, as in `exporter schema | head -1`.".replace("|", r"\|"),
    }
    for error in _children(errors.ExporterError):
        if "exit_code" in vars(error):
            meanings[error.exit_code] = f"{meanings.get(error.exit_code, '')} {_when(error)}".lstrip()
    return meanings


def _when(error: type[errors.ExporterError]) -> str:
    """Return when the error is raised, in the words of the command line."""
    text = " ".join((error.__doc__ or "").split("\n\n")[0].removeprefix("Raised when ").split())
    text = re.sub(r"`([a-z]+)_([a-z]+)`", r"`--\1-\2`", text)
    return text[:1].upper() + text[1:]


def _children(error: type[errors.ExporterError]) -> Iterator[type[errors.ExporterError]]:
    for child in error.__subclasses__():
        if child not in _INTERNAL:
            yield child
            yield from _children(child)


def _goes_on(code: int) -> str:
    if code == 4:
        return "with a higher `--max-rejects`, or `--on-drift warn`, it publishes without new requests"
    return "yes" if code in _RESUMABLE else ""


# --- the data ---


def _data_dictionary() -> str:
    opening = """# Data dictionary

Every column of every table: its type, where it comes from in the API's answer, and what it means.

Every column is always there, null where the API gave nothing. "Personal" columns are null with
`--pii drop` and a keyed hash with `--pii hash`. "Source" says whether the API's documentation has the
field (`documentation`), only its example does (`example`), or the exporter adds the column.
The same descriptions are in the Parquet files' own metadata, and `exporter schema` prints them. What
fits no column is in [`_unmapped`](how-it-works.md#what-fits-no-column).

"""
    return opening + catalog_text.render("markdown")


# --- the house ---


def _house() -> Iterator[str]:
    yield "# The house"
    yield ""
    yield "Every folder of `exporter/`, highest first: each imports from those below it, never from those above."
    yield f"Pure, without clock, randomness, files or event loop: {', '.join(f'`{folder}`' for folder in PURE)}."
    for folder in reversed(FOLDERS):
        yield from _room(PACKAGE / folder, "##")


def _room(folder: Path, heading: str) -> Iterator[str]:
    yield from ("", f"{heading} {folder.relative_to(PACKAGE)}/", "", _purpose(folder / "__init__.py"), "")
    files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    yield from ("| File | What it is for |", "|---|---|")
    yield from (f"| `{path.name}` | {_purpose(path)} |" for path in files)
    for room in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from _room(room, heading + "#")


def _purpose(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0]


if __name__ == "__main__":
    main(Path(__file__).parents[2] / "docs")
