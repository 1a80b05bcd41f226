"""Words on the command line to options; errors to exit codes.

Commands are imported when they are named, and each imports what it needs when it runs, so that
`exporter --help` starts as fast as click does.
"""

import gc
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

import click

from exporter.cli.option_kinds import Session
from exporter.model.version import __version__

#: Each command with the file of `exporter.cli.commands` that holds it, and what `--help` says of it.
COMMANDS = {
    "run": ("run", "Export the orders of a file of order numbers."),
    "demo": ("demo", "See a complete export at work, with its own demo API."),
    "numbers": ("run", "List the API's order numbers into a file, as input for run."),
    "changes": ("datasets", "Compare two datasets: what changed, order by order."),
    "history": ("datasets", "Show one order's history, from several datasets."),
    "load": ("datasets", "Load a dataset into PostgreSQL, DuckDB or SQLite."),
    "status": ("status_and_store", "Show what a dataset, a work directory or a store holds."),
    "store": ("status_and_store", "Prune or copy a store that you keep."),
    "verify": ("datasets", "Check a dataset against its manifest."),
    "report": ("datasets", "Write the page report.html about a dataset."),
    "schema": ("reference", "Print every column of every table."),
    "config": ("reference", "Show the settings in effect, and where each came from."),
    "serve": ("demo", "Run the demo API by itself, to try options."),
    "completion": ("reference", "Print the script that completes commands in your shell."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        file, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"exporter.cli.commands.{file}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    epilog="Example: exporter demo",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def exporter() -> None:
    """Export orders and their items from Akinon's Omnitron API to Parquet and CSV."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code; `arguments` are those of the process by default."""
    _prepare_streams()
    try:
        return _run(arguments)
    finally:
        _drop_unwritable()
        if arguments is None:  # the process ends with us
            gc.freeze()  # or Python looks through everything once more: up to 0.1 s


def _run(arguments: list[str] | None) -> int:
    session = Session()
    try:
        result = exporter.main(args=arguments, prog_name="exporter", standalone_mode=False, obj=session)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # click makes it exit code 1, which is for bugs
            return 141
        raise
    except (Exception, KeyboardInterrupt) as error:
        from exporter.cli.failures import failure_of, tell

        return tell(failure_of(error, session), session)
    return result if isinstance(result, int) else 0


def _prepare_streams() -> None:
    """Make all three standard streams usable.

    A closed one becomes the null device: the next file that is opened would take its descriptor, and what
    is meant for stderr would land in it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - it lives as long as we
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal or crontab of another encoding than UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_unwritable() -> None:
    """Drop what a standard stream refuses, so that Python's own flush at the exit keeps our exit code.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
