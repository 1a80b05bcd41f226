"""`exporter numbers`: where an input file may come from."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from exporter.cli.option_kinds import Command
from exporter.cli.shared_options import (
    api_options,
    config_option,
    listing_options,
    log_options,
    pace_options,
    secrets_from_environment,
    timezone_option,
)


# `--out` and `--overwrite` come from the command line alone: those of the environment and the
# configuration file are meant for datasets.
@click.command("numbers", cls=Command, epilog="Example: exporter numbers --out numbers.txt --status 500,550")
@config_option
@click.option("--out", required=True, metavar="FILE", help="Text file, one order number on each line.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@listing_options
@timezone_option
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
def command(out: str, overwrite: bool, page_size: int, quiet: bool, log_format: str, **settings: Any) -> int:
    """List the API's orders, all or those selected, and write their numbers to FILE, as input for `exporter run`.

    Orders that move between pages meanwhile are written once. FILE appears complete or not at all. After a stop
    or a kill the same command resumes.
    """
    from exporter.cli.signals import run_stoppable
    from exporter.cli.watching import watching
    from exporter.fetch.number_listing import Listing, list_numbers
    from exporter.model.options import Options
    from exporter.model.outside_text import visible

    options = Options(from_api=True, out=out, overwrite=overwrite, **settings, **secrets_from_environment())
    with watching(quiet=quiet, log_format=log_format) as on_progress:
        listing = partial(Listing, options=options, page_size=page_size, on_progress=on_progress)
        numbers, walk = run_stoppable(lambda stop: list_numbers(listing(stop=stop)))
    if not quiet:
        click.echo(f"{numbers:,} order numbers from {walk.pages:,} pages: {visible(out)}")
    return 0
