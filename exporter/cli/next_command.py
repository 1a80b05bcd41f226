"""The very words of a next command, made from the options of this one."""

import click
from click.core import ParameterSource

from exporter.cli.option_kinds import key_of
from exporter.dataset.summary import Summary
from exporter.model.options import shown
from exporter.model.units import seconds
from exporter.system.shell_words import shell_command

_DAY_S = 86400.0


def command_again(ctx: click.Context, out: str | None, **changes: str) -> str:
    """Return this command with the values of some parameters changed, so that it resumes the run that it began.

    The dataset of that run was to be at `out`; None where that was not known yet.
    """
    if out is None or out == ctx.params["out"]:
        return _command(ctx, changes, leave_out=set())
    # Later, `{date}` and `{time}` would name another place. Where they are filled in, nothing fits --keep.
    return _command(ctx, {**changes, "out": out}, leave_out={"keep"})


def command_for_rejects(ctx: click.Context, summary: Summary) -> str:
    """Return the command that asks again for what was rejected, into the same dataset."""
    changes = {"out": summary.out, "overwrite": "", "retry_rejects": ""}
    days = int(summary.duration_s // _DAY_S) + 2  # what this run has fetched is taken from the store
    if ctx.params["store"] is not None and seconds(ctx.params["max_age"], option="max_age") < days * _DAY_S:
        changes["max_age"] = f"{days}d"
    return _command(ctx, changes, leave_out={"keep"} if summary.out != ctx.params["out"] else set())


def _command(ctx: click.Context, changes: dict[str, str], leave_out: set[str]) -> str:
    arguments, options = ctx.command_path.split(), []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in changes:
            values = [changes[name]]
        elif name not in leave_out and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            values = _given(ctx, parameter)
        else:
            continue
        flag = f"--{key_of(parameter)}"
        if isinstance(parameter, click.Argument):
            arguments += values
        elif getattr(parameter, "is_flag", False):
            options.append(flag)
        else:
            options += [word for value in values for word in (flag, value)]
    return shell_command([*arguments, *options])


def _given(ctx: click.Context, parameter: click.Parameter) -> list[str]:
    if parameter.name not in ctx.params:  # --config is used up while parsing
        return [str(ctx.meta["exporter.settings"])]
    value = ctx.params[parameter.name]
    return [shown(parameter.name or "", str(one)) for one in (value if isinstance(value, tuple) else [value])]
