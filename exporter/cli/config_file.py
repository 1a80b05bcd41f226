"""The configuration file: TOML with the names of the options, weakest of the three sources."""

import os
from pathlib import Path
from typing import Any

import click

from exporter.cli.option_kinds import Option, key_of, nearest
from exporter.model.errors import UsageError

DEFAULT_FILE = Path("exporter.toml")


def load_settings(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults of the command being parsed; a click callback."""
    chosen = path or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    ctx.meta["exporter.settings"] = chosen
    if chosen is None or ctx.resilient_parsing:
        return
    own = settings_of(ctx.command)
    values = {}
    for key, value in _read(chosen).items():
        if key in own:
            values[own[key].name] = _checked(chosen, key, value, own[key])
        elif key not in (others := _every_setting(ctx)):
            hint = nearest(key, {*own, *others}) + "See exporter config."
            raise UsageError(f"{chosen}: unknown setting {key!r}.", hint)
    ctx.default_map = {**(ctx.default_map or {}), **values}


def settings_of(command: click.Command) -> dict[str, Option]:
    """Return what the file and the environment can set of a command, by name."""
    return {key_of(option): option for option in command.params if isinstance(option, Option)}


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            text = file.read().decode("utf-8-sig")
        if path == DEFAULT_FILE:
            _refuse_foreign(path, found)
        return tomllib.loads(text)
    except OSError as error:
        what = f"{path}: cannot be read: {error.strerror}."
        raise UsageError(what, "Give a readable --config file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected TOML: {error}.", 'Write for example: rate = "10/s"') from None


def _refuse_foreign(path: Path, found: os.stat_result) -> None:
    """Refuse the file of a folder that somebody else may have prepared: it could send the token elsewhere."""
    from exporter.system.private_files import ROOT, fault_of

    fault = fault_of(found, path.absolute(), owners=frozenset({ROOT}))
    if fault is not None:
        raise UsageError(
            f"{path.absolute()}: expected a file that this user or root alone can change, but {fault}.",
            f"Look at its contents. Then give --config {path}, or run: chmod go-w {path}",
        )


def _checked(path: Path, key: str, value: Any, option: Option) -> Any:
    if isinstance(value, dict):
        raise UsageError(f"{path}: {key}: expected a value, got a table.", f'Write {key} = "…".')
    if isinstance(value, list) and not option.multiple:
        raise UsageError(f"{path}: {key}: expected one value, got a list.", f'Write {key} = "…".')
    if option.is_flag and not isinstance(value, bool):
        raise UsageError(f"{path}: {key}: expected true or false, got {value!r}.", f"Write {key} = true")
    if isinstance(value, bool) and not option.is_flag:
        raise UsageError(f"{path}: {key}: expected a value, got true or false.", f'Write {key} = "…".')
    return [value] if option.multiple and not isinstance(value, list) else value


def _every_setting(ctx: click.Context) -> set[str]:
    program = ctx.find_root().command  # one file serves all its commands
    assert isinstance(program, click.Group)
    commands = (program.get_command(ctx, name) for name in program.list_commands(ctx))
    return {key for command in commands if command for key in settings_of(command)}
