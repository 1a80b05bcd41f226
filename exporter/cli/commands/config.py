"""`exporter config`: the settings in effect, and where each came from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from exporter.cli.commands.run import run_options
from exporter.cli.config_file import settings_of
from exporter.cli.option_kinds import Command, nearest, source_of
from exporter.model.options import SECRETS, shown
from exporter.model.outside_text import visible

_HIDDEN = "(hidden)"
_WIDEST = 34


@click.command("config", cls=Command, epilog="Example: exporter config --rate 5/s")
@run_options(required=False)
def command(as_json: bool, **_: Any) -> int:
    """Show what `exporter run` would work with, and where each setting came from.

    A flag beats the environment, which beats the configuration file. In the environment, white space
    separates the values of an option that may be given again; in the file they are a list. Credentials
    come from the environment alone and are not shown.
    """
    ctx = click.get_current_context()
    if as_json:
        click.echo(json.dumps({key: {"value": v, "source": source} for key, v, source in _settings(ctx)}))
        return 0
    for key, value, source in _settings(ctx):
        click.echo(f"{key:<22}{visible(_shown(value)):<{_WIDEST}}  {source}".rstrip())
    for line in _unknown_variables(ctx):
        click.echo(line, err=True)
    return 0


def _settings(ctx: click.Context) -> Iterator[tuple[str, Any, str]]:
    for key, option in settings_of(ctx.command).items():
        value = ctx.params[option.name or ""]
        yield key, shown(key, value) if isinstance(value, str) else value, source_of(ctx, option)
    for name in SECRETS.values():
        yield (name, _HIDDEN, name) if os.environ.get(name) else (name, None, "not set")


def _shown(value: Any) -> str:
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _unknown_variables(ctx: click.Context) -> Iterator[str]:
    known = {str(option.envvar) for option in settings_of(ctx.command).values()}
    known |= {"EXPORTER_CONFIG", *SECRETS.values()}
    for name in sorted(os.environ):
        if name.startswith("EXPORTER_") and name not in known:
            yield f"{name} is set, and no option has that name; the nearest is {nearest(name, known)}."
