"""The configuration file: TOML with the names of the options, weakest of the three sources."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from exporter.errors import UsageError

DEFAULT_FILE = Path("exporter.toml")
_NOT_SETTINGS = {"config", "help", "orders"}


def load_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults of the command being parsed; a click callback.

    Raises:
        UsageError: The file is missing, is no TOML, or holds an unknown name.
    """
    chosen = path or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    ctx.meta["exporter.config"] = chosen
    if chosen is None:
        return
    known = {parameter.name for parameter in ctx.command.params if parameter.name} - _NOT_SETTINGS
    values = {}
    for key, value in _read(chosen).items():
        name = key.replace("-", "_")
        if name not in known | _every_setting():
            raise _unknown(chosen, key, known)
        if name in known:
            values[name] = value
    ctx.default_map = {**(ctx.default_map or {}), **values}


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}.", "Give a readable --config file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected TOML: {error}.", 'Write for example: rate = "10/s"') from None


def _every_setting() -> set[str]:
    """Return the names that some command knows: one file serves all of them."""
    from exporter.cli.run import command

    return {parameter.name for parameter in command.params if parameter.name} - _NOT_SETTINGS


def _unknown(path: Path, key: str, known: set[str]) -> UsageError:
    near = get_close_matches(key.replace("-", "_"), sorted(known | _every_setting()), n=1, cutoff=0.0)
    return UsageError(f"{path}: unknown setting {key!r}.", f"The nearest is {near[0].replace('_', '-')}.")
