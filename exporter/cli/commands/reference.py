"""`exporter schema`, `config` and `completion`: columns, the settings in effect, and the script for a shell."""

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from exporter.cli.commands.run import run_options
from exporter.cli.config_file import settings_of
from exporter.cli.option_kinds import Command, nearest, source_of
from exporter.model.options import ENVIRONMENT_ONLY, HIDDEN, shown
from exporter.model.outside_text import visible

_WIDEST = 34


@click.command(cls=Command, epilog="Example: exporter schema --format sql | duckdb orders.duckdb")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json", "sql"]),
    default="text",
    help="For a terminal, a data dictionary, programs, or as CREATE TABLE for DuckDB and PostgreSQL.",
)
def schema(form: Any) -> None:
    """Print every column of every table: its name, its type, whether it is personal, and its meaning."""
    from exporter.model.catalog_text import render

    click.echo(render(form), nl=False)


@click.command(cls=Command, epilog="Example: exporter config --rate 5/s")
@run_options(required=False)
def config(as_json: bool, **_: Any) -> None:
    """Show what `exporter run` would work with, and where each setting came from.

    A flag beats the environment, which beats the configuration file. In the environment, white space
    separates the values of an option that may be given again; in the file they are a list. Credentials
    come from the environment alone and are not shown.
    """
    ctx = click.get_current_context()
    if as_json:
        click.echo(json.dumps({key: {"value": v, "source": source} for key, v, source in _settings(ctx)}))
        return
    for key, value, source in _settings(ctx):
        click.echo(f"{key:<22}{visible(_shown(value)):<{_WIDEST}}  {source}".rstrip())
    known = {str(option.envvar) for option in settings_of(ctx.command).values()}
    known |= {"EXPORTER_CONFIG", *ENVIRONMENT_ONLY.values()}
    for name in sorted(name for name in os.environ if name.startswith("EXPORTER_") and name not in known):
        near = nearest(name, known)
        click.echo(f"{name} is set, and no option has that name. {near}".rstrip(), err=True)


def _settings(ctx: click.Context) -> Iterator[tuple[str, Any, str]]:
    for key, option in settings_of(ctx.command).items():
        value = ctx.params[option.name or ""]
        yield key, shown(key, value) if isinstance(value, str) else value, source_of(ctx, option, "default")
    for name in ENVIRONMENT_ONLY.values():
        yield (name, HIDDEN, name) if os.environ.get(name) else (name, None, "not set")


def _shown(value: Any) -> str:
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@click.command(cls=Command, epilog='Example: eval "$(exporter completion bash)"')
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in that shell.

    For good: put the example's line into ~/.bashrc, or the same for zsh into ~/.zshrc; for fish write the
    output to ~/.config/fish/completions/exporter.fish.
    """
    from click.shell_completion import shell_complete

    program = click.get_current_context().find_root().command
    shell_complete(program, {}, "exporter", "_EXPORTER_COMPLETE", f"{shell}_source")
