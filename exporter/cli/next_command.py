"""The very words of a next command, made from the options of this one."""

from __future__ import annotations

import shlex

import click
from click.core import ParameterSource

from exporter.cli.option_kinds import key_of
from exporter.model.options import without_user

#: Of the first run only: how it is read is not how `rejects.jsonl` is; its dataset and its metrics stay.
_NOT_FOR_REJECTS = {"column", "sheet", "encoding", "input_format", "overwrite", "keep", "metrics_file"}


def command_again(ctx: click.Context, out: str | None, **changes: str) -> str:
    """Return this command with some options changed, so that it goes on with the run that it began.

    Args:
        ctx: Of the command as it was given.
        out: Where that run's dataset was to stand; None where that was not known yet.
        changes: Values by parameter name; an argument or an option.
    """
    if out is None or out == ctx.params["out"]:
        return _command(ctx, changes, leave_out=set())
    # Later, `{date}` and `{time}` would name another place. Where they are filled in, nothing fits --keep.
    return _command(ctx, {**changes, "out": out}, leave_out={"keep"})


def command_for_rejects(ctx: click.Context, out: str) -> str:
    """Return the command that asks again for what was rejected from the dataset at `out`."""
    changes = {"orders": f"{out}/rejects.jsonl", "out": f"{out}-again", "max_rejects": "100%"}
    return _command(ctx, changes, leave_out=_NOT_FOR_REJECTS)


def _command(ctx: click.Context, changes: dict[str, str], leave_out: set[str]) -> str:
    arguments, options = [], []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in changes:
            values = [changes[name]]
        elif name not in leave_out and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            values = _given(ctx, parameter)
        else:
            continue
        if isinstance(parameter, click.Argument):
            arguments += values
        else:
            options += _words(parameter, values)
    return shlex.join([*ctx.command_path.split(), *arguments, *options])


def _given(ctx: click.Context, parameter: click.Parameter) -> list[str]:
    if parameter.name not in ctx.params:  # --config is used up while parsing
        return [str(ctx.meta["exporter.settings"])]
    value = ctx.params[parameter.name]
    if parameter.name == "proxy":
        return [without_user(value)]
    return [str(one) for one in value] if isinstance(value, tuple) else [str(value)]


def _words(parameter: click.Parameter, values: list[str]) -> list[str]:
    flag = f"--{key_of(parameter)}"
    if getattr(parameter, "is_flag", False):
        return [flag]
    return [word for value in values for word in (flag, value)]
