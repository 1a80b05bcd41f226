"""`exporter numbers`: where an input file may come from."""

from __future__ import annotations

from typing import Any

import click

from exporter.cli.option_kinds import Command
from exporter.cli.shared_options import (
    api_options,
    config_option,
    log_options,
    pace_options,
    secrets_from_environment,
)


def _pairs(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Split each KEY=VALUE; a click callback."""
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise click.BadParameter(f"expected KEY=VALUE, got {text!r}.")
    return [(key, value) for key, _, value in (text.partition("=") for text in texts)]


# `--out` and `--overwrite` come from the command line alone: those of the environment and the
# configuration file are meant for datasets.
@click.command(
    "numbers", cls=Command, epilog="Example: exporter numbers --out numbers.txt --filter status=500"
)
@config_option
@click.option("--out", required=True, metavar="FILE", help="Text file, one order number on each line.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="Passed on to the API, as status=500; may be given again.",
)
@click.option(
    "--page-size",
    type=click.IntRange(1),
    metavar="N",
    default=100,
    show_default=True,
    help="Orders on a page, as far as the API permits.",
)
@pace_options
@api_options
@log_options
def command(
    out: str,
    overwrite: bool,
    filters: list[tuple[str, str]],
    page_size: int,
    quiet: bool,
    log_format: str,
    **settings: Any,
) -> int:
    """List the API's orders and write their numbers to FILE, as input for `exporter run`.

    Orders that move between pages meanwhile are written once. FILE appears whole or not at all; stopped or
    killed, the same command resumes.
    """
    from exporter.cli.signals import run_stoppable
    from exporter.cli.watching import watching
    from exporter.fetch.number_listing import list_numbers
    from exporter.model.options import Options
    from exporter.model.outside_text import visible

    options = Options(orders="-", out=out, overwrite=overwrite, **settings, **secrets_from_environment())
    with watching(quiet=quiet, log_format=log_format):
        listed = run_stoppable(
            lambda stop: list_numbers(options, filters=filters, page_size=page_size, stop=stop)
        )
    if not quiet:
        click.echo(f"{listed.numbers:,} order numbers from {listed.pages:,} pages: {visible(out)}")
    return 0
