"""The last words of a run that failed: one sentence what happened and where, one what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from exporter.cli.nearest_word import nearest
from exporter.cli.notification import notify
from exporter.cli.option_kinds import key_of, source_of
from exporter.cli.session import Session
from exporter.model.errors import ExporterError, TooManyRejectsError
from exporter.model.outside_text import json_line, visible

#: After these the same command goes on where it stopped.
_RESUMABLE = {1, 5, 6, 7, 130, 143}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is told of a failure; `command` goes on from here, and is None where no command of this kind helps."""

    what: str
    hint: str
    exit_code: int
    command: str | None = None


def tell(failure: Failure, session: Session) -> int:
    """Write the last words on stderr, with `--json` an object on stdout too, and return the exit code."""
    facts = {"hint": failure.hint, "exit_code": failure.exit_code, "command": failure.command}
    notify(session.notify, f"Order export failed: {failure.what}", {"error": failure.what, **facts})
    if session.as_json and not session.published:  # else the summary is the one object
        _echo(json_line({"error": failure.what, **facts}))
    if session.log_format == "json":
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "level": "error", "event": "failed", "message": failure.what, **facts}
        _echo(json_line(line), err=True)
    else:
        _echo("\n".join(map(visible, _lines(failure))), err=True)
    return failure.exit_code


def _echo(text: str, *, err: bool = False) -> None:
    with suppress(OSError):  # the stream is full, or nobody reads it: the exit code still tells
        click.echo(text, err=err)


def _lines(failure: Failure) -> Iterator[str]:
    yield f"Error: {failure.what}"
    if failure.hint:
        yield failure.hint
    if failure.command:
        yield f"  {failure.command}"


def failure_of(error: BaseException, session: Session) -> Failure:
    """Return what to tell of the error that ended the program: one of ours, one of click's, or a bug."""
    if isinstance(error, ExporterError):
        return _of_ours(error, session)
    if isinstance(error, click.UsageError):
        what, hint = _of_usage(error)
        return Failure(what=what, hint=hint, exit_code=2)
    if isinstance(error, click.ClickException):
        return Failure(what=error.format_message(), hint="", exit_code=2)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Failure(what="Stopped by Ctrl-C.", hint="", exit_code=130)
    return _of_bug(error, session)


# --- ours ---


def _of_ours(error: ExporterError, session: Session) -> Failure:
    return Failure(
        what=error.what_of(error.option and _place(error.option, session.context)),
        hint=error.flag_hint,
        exit_code=error.exit_code,
        command=_way_on(error, session),
    )


def _way_on(error: ExporterError, session: Session) -> str | None:
    from exporter.cli.next_command import command_again

    ctx = session.context
    if error.command is not None:
        return error.command
    if ctx is None or ctx.command.name != "run" or session.published:
        return None
    if isinstance(error, TooManyRejectsError):
        return command_again(ctx, error.out, max_rejects=error.allow)
    return command_again(ctx, error.out) if error.exit_code in _RESUMABLE else None


def _place(option: str, ctx: click.Context | None) -> str:
    """Return where the option's value came from: a flag, the environment or the file."""
    for parameter in ctx.command.params if ctx else ():
        if ctx and parameter.name == option:
            return _source(ctx, parameter)
    return f"--{option.replace('_', '-')}"


# --- click's ---


def _of_usage(error: click.UsageError) -> tuple[str, str]:
    where = error.ctx.command_path if error.ctx else "exporter"
    help_hint = f"See {where} --help."
    if isinstance(error, click.NoSuchOption):
        parameters = error.ctx.command.get_params(error.ctx) if error.ctx else []
        names = [name for parameter in parameters for name in parameter.opts if "--" in name]
        near = nearest(error.option_name, names)
        return f"{where}: no such option {error.option_name}.", f"The nearest is {near}; see {where} --help."
    if isinstance(error, click.exceptions.NoSuchCommand) and isinstance(error.ctx, click.Context):
        group = error.ctx.command
        names = group.list_commands(error.ctx) if isinstance(group, click.Group) else []
        near = nearest(error.command_name, names)
        what = f"{where}: no such command {error.command_name!r}."
        return what, f"The nearest is {near}; see {where} --help."
    if isinstance(error, click.MissingParameter) and error.param is not None and error.ctx is not None:
        return f"{where}: {_name(error.param)} is missing.", error.ctx.command.epilog or help_hint
    if isinstance(error, click.BadParameter) and error.param is not None and error.ctx is not None:
        return f"{_source(error.ctx, error.param)}: {_sentence(error.message)}", help_hint
    return f"{where}: {_sentence(error.format_message())}", help_hint


def _source(ctx: click.Context, parameter: click.Parameter) -> str:
    source = source_of(ctx, parameter)
    return _name(parameter) if source == "default" else source


def _name(parameter: click.Parameter) -> str:
    return f"--{key_of(parameter)}" if isinstance(parameter, click.Option) else key_of(parameter)


def _sentence(text: str) -> str:
    """Return click's text as one sentence in our manner.

    >>> _sentence("Missing command.")
    'missing command.'
    """
    line = " ".join(text.split())
    start = line[:1].lower() + line[1:] if line[1:2].islower() else line
    return start if start.endswith(".") else f"{start}."


# --- a bug ---


def _of_bug(error: BaseException, session: Session) -> Failure:
    from exporter.cli.bug_report import write_report
    from exporter.system.crash_place import crash_text

    report = write_report(error)
    return Failure(
        what=f"A bug of the exporter stopped it: {crash_text(error)}; what was fetched is kept.",
        hint=f"Report it with the file {report}, which holds no data of yours; the same command goes on."
        if report
        else "Report it with these words; the same command goes on.",
        exit_code=1,
        command=_way_on(ExporterError(""), session),
    )
