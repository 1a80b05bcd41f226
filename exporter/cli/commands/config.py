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
    settings = {**_settings(ctx), **_secrets()}
    if as_json:
        click.echo(json.dumps({k: {"value": v, "source": s} for k, (v, s) in settings.items()}))
        return 0
    for key, (value, source) in settings.items():
        click.echo(f"{key:<22}{visible(_shown(value)):<{_WIDEST}}  {source}".rstrip())
    for line in _unknown_variables(ctx):
        click.echo(line, err=True)
    return 0


def _settings(ctx: click.Context) -> dict[str, tuple[Any, str]]:
    return {
        key: (
            shown(key, value) if isinstance(value := ctx.params[option.name or ""], str) else value,
            source_of(ctx, option),
        )
        for key, option in settings_of(ctx.command).items()
    }


def _secrets() -> dict[str, tuple[str | None, str]]:
    return {name: (_HIDDEN, name) if os.environ.get(name) else (None, "not set") for name in SECRETS.values()}


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
