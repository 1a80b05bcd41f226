"""The last words of a run that failed: one sentence what happened and where, one what to do."""

import platform
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click

from exporter.cli.notification import notify
from exporter.cli.option_kinds import Session, name_of, nearest, source_of
from exporter.model.errors import ExporterError, TooManyRejectsError, UsageError
from exporter.model.outside_text import json_line, visible
from exporter.model.version import __version__

_RESUMABLE = {1, 5, 6, 7, 130, 143}  # after these the same command resumes


class Failure(NamedTuple):
    """What is told of a failure; `command` resumes from here, and is None where no command of this kind helps."""

    what: str
    hint: str
    exit_code: int
    command: str | None = None


def tell(failure: Failure, session: Session) -> int:
    """Write the last words on stderr, with `--json` an object on stdout too, and return the exit code."""
    given = session.given
    facts = {"hint": failure.hint, "exit_code": failure.exit_code, "command": failure.command}
    notify(given.get("notify"), f"Order export failed: {failure.what}", {"error": failure.what, **facts})
    if given.get("as_json") and not session.published:  # else the summary is the one object
        _echo(json_line({"error": failure.what, **facts}))
    if given.get("log_format") == "json":
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "level": "error", "event": "failed", "message": failure.what, **facts}
        _echo(json_line(line), err=True)
    else:
        command = failure.command and f"  {failure.command}"
        lines = filter(None, (f"Error: {failure.what}", failure.hint, command))
        _echo("\n".join(map(visible, lines)), err=True)
    return failure.exit_code


def _echo(text: str, *, err: bool = False) -> None:
    with suppress(OSError):  # the stream is full, or nobody reads it: the exit code still tells
        click.echo(text, err=err)


def failure_of(error: BaseException, session: Session) -> Failure:
    """Return what to tell of the error that ended the program: one of ours, one of click's, or a bug."""
    if isinstance(error, click.UsageError):
        return Failure(*_of_usage(error), 2)
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), "", 2)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Failure("Stopped by Ctrl-C.", "", 130)
    ours = error if isinstance(error, ExporterError) else _bug(error)
    what = ours.what_of(ours.option and _place(ours.option, session.context))
    return Failure(what, ours.flag_hint, ours.exit_code, _way_on(ours, session))


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
            return source_of(ctx, parameter)
    return f"--{option.replace('_', '-')}"


def _of_usage(error: click.UsageError) -> tuple[str, str]:
    ctx = error.ctx
    where = ctx.command_path if ctx else "exporter"
    hint = f"See {where} --help."
    if ctx is not None and isinstance(error, click.NoSuchOption):
        names = (name for parameter in ctx.command.get_params(ctx) for name in parameter.opts if "--" in name)
        return f"{where}: no such option {error.option_name}.", nearest(error.option_name, names) + hint
    if isinstance(error, click.exceptions.NoSuchCommand) and ctx and isinstance(ctx.command, click.Group):
        near = nearest(error.command_name, ctx.command.list_commands(ctx))
        return f"{where}: no such command {error.command_name!r}.", near + hint
    if ctx is not None and isinstance(error, click.BadParameter) and error.param is not None:
        if isinstance(error, click.MissingParameter):
            return f"{where}: {name_of(error.param)} is missing.", ctx.command.epilog or hint
        return f"{source_of(ctx, error.param)}: {_sentence(error.message)}", hint
    return f"{where}: {_sentence(error.format_message())}", hint


def _sentence(text: str) -> str:
    """Return click's text as one sentence in our manner.

    >>> _sentence("Missing command.")
    'missing command.'
    """
    line = " ".join(text.split())
    start = line[:1].lower() + line[1:] if line[1:2].islower() else line
    return start if start.endswith(".") else f"{start}."


def _bug(error: BaseException) -> ExporterError:
    from exporter.system.crash_place import crash_text

    report = _written_report(error)
    how = f"the file {report}, which holds no data of yours" if report else "these words"
    what = f"A bug of the exporter stopped it: {crash_text(error)}; what was fetched is kept."
    return ExporterError(what, f"Report it with {how}, then run the same command again to resume.")


def _written_report(error: BaseException) -> Path | None:
    """Write a file to report a bug with beside the program's other state; None where none could be written."""
    from exporter.system import durable, private_files

    about = f"omnitron-exporter {__version__}, Python {platform.python_version()}, {sys.platform}"
    try:
        path = private_files.state_folder() / f"bug-{datetime.now(UTC):%Y%m%d-%H%M%S}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_lines(path, (f"{line}\n".encode() for line in (about, *_error_lines(error, set()))))
    except (OSError, UsageError):
        return None
    return path


def _error_lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    """Yield where in the code it happened, and nothing of what was being worked on.

    The messages of foreign exceptions are left out. They quote what they could not handle: an aiohttp error
    its request's headers, token included, a decoder the payload with its personal data.
    """
    seen.add(id(error))
    yield f"{type(error).__module__}.{type(error).__qualname__}"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _error_lines(member, seen)
    for behind in (error.__cause__, error.__context__):
        if behind is not None and id(behind) not in seen:
            yield "behind it:"
            yield from _error_lines(behind, seen)
