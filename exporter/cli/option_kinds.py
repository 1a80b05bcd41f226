"""The kinds of words on the command line: options in sections, and where each value came from."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from exporter.model.errors import RENAMED
from exporter.model.options import ENVIRONMENT_ONLY, Options

F = TypeVar("F", bound=Callable[..., Any])
OTHERS = "Other options"
_ALL = "exporter.help_all"
#: A path as it was typed: the shell completes it, and whoever opens it checks it.
PATH = click.Path(readable=False)
_HINTS = get_type_hints(Options)
_PATHS = ("FILE", "OUT", "PATH")
_WORDS = {**ENVIRONMENT_ONLY, "orders": "ORDERS", "out": "OUT"}


@dataclass
class Session:
    """One run of the program, as far as its last words need to know it; once published, no command resumes it."""

    context: click.Context | None = None
    published: bool = False

    @property
    def given(self) -> dict[str, Any]:
        """The values of the options, as far as they could be read."""
        return self.context.params if self.context else {}


class Option(click.Option):
    """An option in a section of its command's help."""

    def __init__(self, *names: Any, section: str = OTHERS, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.section = section


class Words(click.Choice[str]):
    """Known words, several in one text with commas between them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check each word; what is made of them is the caller's business."""
        return ",".join(super(Words, self).convert(word.strip(), param, ctx) for word in value.split(","))


class Command(click.Command):
    """A command whose help lists the options by section: `--help` those that are needed `often`, `--help-all` all."""

    def __init__(self, *args: Any, often: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._often = often.split()
        if often:
            flags = {"is_flag": True, "is_eager": True, "expose_value": False}
            what = "Show every option and exit."
            self.params.append(click.Option(["--help-all"], callback=_show_all, help=what, **flags))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the command, then parse its words: what is wrong with them is told in its format."""
        ctx.ensure_object(Session).context = ctx
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each section under its own heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        often = {*self._often, "help", "help-all"} if self._often and not ctx.meta.get(_ALL) else None
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or not isinstance(parameter, click.Option):
                continue
            if often is None or key_of(parameter) in often:
                sections.setdefault(getattr(parameter, "section", OTHERS), []).append(record)
        rest = sections.pop(OTHERS)
        for title, records in [*sections.items(), (OTHERS if sections else "Options", rest)]:
            with formatter.section(title):
                formatter.write_dl(records, col_max=22)


def _show_all(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()


def option(*names: str, section: str = OTHERS, **settings: Any) -> Callable[[F], F]:
    """Declare an option that the environment and the configuration file can give as well."""
    long = next(name for name in names if name.startswith("--"))
    envvar = "EXPORTER_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, cls=Option, section=section, envvar=envvar, show_envvar=False, **settings)


def settings(section: str, flags: str, **more: Any) -> Callable[[F], F]:
    """Declare options that are fields of `Options`: default, kind, choices and help are what is there.

    `flags` has the flag of each with its value's name, as `--rate RATE --stale`; `more` beats the fields.
    """
    return together(*(_setting(section, more, *words.split()) for words in re.split(r"\s*--", flags)[1:]))


def _setting(section: str, more: dict[str, Any], key: str, metavar: str | None = None) -> Callable[[F], F]:
    name = RENAMED.get(key, key.replace("-", "_"))
    known = _field_settings(name) | {"metavar": metavar, "help": _help_of(name)}
    known |= {"type": PATH} if metavar in _PATHS else {}
    return option(f"--{key}", name, section=section, **known | more)


def _help_of(name: str) -> str:
    """Return what the options' docstrings say of one, with its words on the command line for the names in it."""
    docs = "".join(str(kind.__doc__) for kind in Options.__mro__[:3])
    found = re.search(rf"^ {{8}}{name}: (.+(?:\n {{12}}.+)*)", docs, re.MULTILINE)
    text = re.sub(r"\n +", " ", found[1]) if found else ""
    return re.sub("`([a-z_]+)`", lambda one: _WORDS.get(one[1]) or f"--{one[1].replace('_', '-')}", text)


def _field_settings(name: str) -> dict[str, Any]:
    hint, default = _HINTS[name], getattr(Options, name, None)
    multiple = get_origin(hint) is tuple
    if get_origin(hint) is not Literal:  # it is one of several kinds, or may be left out
        hint = next(kind for kind in (get_args(hint) or (hint,)) if kind is not type(None))
    if hint is bool:
        return {"is_flag": True}
    if get_origin(hint) is Literal:
        hint = (Words if multiple else click.Choice)(get_args(hint))
    known = {"type": hint, "multiple": multiple}
    return known | {"default": default} if default else known


def together(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Make one decorator of many; the help lists their options in this order."""

    def decorate(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def key_of(parameter: click.Parameter) -> str:
    """Return the parameter's name as people write it: `max-rejects`, or `ORDERS`."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len).removeprefix("--")
    return parameter.make_metavar(click.Context(click.Command(None)))


def name_of(parameter: click.Parameter) -> str:
    """Return the parameter's name as on the command line: `--max-rejects`, or `ORDERS`."""
    return f"--{key_of(parameter)}" if isinstance(parameter, click.Option) else key_of(parameter)


def source_of(ctx: click.Context, parameter: click.Parameter, default: str | None = None) -> str:
    """Return where the value came from: `--rate`, `EXPORTER_RATE` or `exporter.toml: rate`, and what a default is called."""
    source = ctx.get_parameter_source(parameter.name or "")
    if source is ParameterSource.ENVIRONMENT:
        return str(parameter.envvar)
    if source is ParameterSource.DEFAULT_MAP:
        return f"{ctx.meta['exporter.settings']}: {key_of(parameter)}"
    return default if default and source is ParameterSource.DEFAULT else name_of(parameter)


def nearest(word: str, words: Iterable[str]) -> str:
    """Say which of `words` looks like `word`, nothing where none does; a single letter may begin any.

    >>> nearest("--max-reject", ["--max-rate", "--max-rejects"])
    'Did you mean --max-rejects? '
    """
    from difflib import get_close_matches

    found = get_close_matches(word, sorted(words), n=1, cutoff=0.6 if len(word) > 2 else 0.0)
    return f"Did you mean {found[0]}? " if found else ""


def show(facts: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a command found: as one JSON object, or for people."""
    from exporter.model.outside_text import json_line, visible

    click.echo(json_line(facts) if as_json else "\n".join(map(visible, lines)))
