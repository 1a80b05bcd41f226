"""`exporter status` and `exporter store`: what is at a place, and what a kept store needs over the years."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from exporter.cli.commands.run import config_option, freshness_options, list_options, rate_options
from exporter.cli.option_kinds import PATH, Command
from exporter.cli.status_text import show_status
from exporter.model.errors import UsageError
from exporter.model.options import PRUNE_AGE
from exporter.model.outside_text import visible
from exporter.model.units import seconds, size_text


@click.command(cls=Command, epilog="Example: exporter status nightly.db orders.txt --max-age 7d")
@click.argument("place", type=PATH, metavar="OUT|STORE")
@click.argument("orders", type=PATH, metavar="[ORDERS]", required=False)
@config_option
@list_options
@freshness_options
@rate_options
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object on stdout.")
def status(place: str, orders: str | None, as_json: bool, **settings: Any) -> None:
    """Show what is at OUT (a dataset, an unfinished run) or in STORE, and change nothing.

    With ORDERS, also what a run with these options would request, and how long that takes.
    """
    from exporter.model.options import AskOptions
    from exporter.run.status import look

    show_status(look(place, AskOptions(**settings), orders=orders), as_json=as_json)


@click.group(epilog="Example: exporter store prune store.db --not-in numbers.txt")
def store() -> None:
    """Keep a store small, and take copies of it."""


@store.command(
    cls=Command, epilog="Example: exporter store prune store.db --not-in numbers.txt --older-than 90d"
)
@click.argument("place", type=PATH, metavar="STORE")
@click.option(
    "--not-in", "orders", type=PATH, metavar="ORDERS", required=True, help="The list of orders to keep."
)
@click.option("--older-than", metavar="AGE", default=PRUNE_AGE, help="Keep orders answered since then.")
@click.option("--dry-run", is_flag=True, help="Only count the orders that would be removed.")
def prune(place: str, orders: str, older_than: str, dry_run: bool) -> None:
    """Remove orders that ORDERS lacks from STORE. Their personal data goes too, and the space is freed."""
    from exporter.fetch.work_directory import locked_store
    from exporter.model.options import AskOptions
    from exporter.store import prune_and_backup
    from exporter.store.input_file import InputPlan, open_input

    path, age_s = _store_at(place), seconds(older_than, option="older_than")
    size = size_text(path.stat().st_size)
    with locked_store(path), TemporaryDirectory(prefix="exporter-") as folder, open_input(orders) as source:
        plan = Path(folder, "plan.db")
        InputPlan(source, orders, AskOptions(), plan).make()
        gone = prune_and_backup.prune(path, plan, time.time() - age_s, only_count=dry_run)
    size += "" if dry_run else f" → {size_text(path.stat().st_size)}"
    click.echo(f"{'Would remove' if dry_run else 'Removed'} {gone:,} orders from {visible(place)} ({size}).")


@store.command(cls=Command, epilog="Example: exporter store backup store.db store-copy.db")
@click.argument("place", type=PATH, metavar="STORE")
@click.argument("file", type=PATH, metavar="FILE")
def backup(place: str, file: str) -> None:
    """Copy STORE to FILE, even while a run uses it. The copy is of one moment."""
    from exporter.store.prune_and_backup import back_up

    back_up(_store_at(place), Path(file))
    click.echo(f"{visible(file)}: {size_text(Path(file).stat().st_size)}")


def _store_at(place: str) -> Path:
    path = Path(os.path.realpath(place))
    if not path.is_file():
        raise UsageError(f"{place}: expected a store, got none.", "Give the --store of a run.")
    return path
