"""`exporter store`: what a kept store needs over the years."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.cli.option_kinds import PATH, Command
from exporter.model.options import PRUNE_AGE
from exporter.model.outside_text import visible
from exporter.model.units import seconds, size_text


@click.group("store", epilog="Example: exporter store prune store.db --not-in numbers.txt")
def command() -> None:
    """Keep a store small, and take copies of it."""


@command.command(
    "prune",
    cls=Command,
    epilog="Example: exporter store prune store.db --not-in numbers.txt --older-than 90d",
)
@click.argument("store", type=PATH, metavar="STORE")
@click.option(
    "--not-in", "orders", type=PATH, metavar="ORDERS", required=True, help="The list of orders to keep."
)
@click.option(
    "--older-than",
    metavar="AGE",
    default=PRUNE_AGE,
    show_default=True,
    help="Keep orders answered since then.",
)
@click.option("--dry-run", is_flag=True, help="Say how many orders would go, and remove none.")
def prune_command(store: str, orders: str, older_than: str, dry_run: bool) -> int:
    """Remove orders that ORDERS does not name from STORE, with their personal data, and give back the space."""
    from exporter.run.pruning import prune_store, store_at

    size = size_text(store_at(store).stat().st_size)
    gone = prune_store(store, orders, seconds(older_than, option="older_than"), only_count=dry_run)
    size += "" if dry_run else f" → {size_text(store_at(store).stat().st_size)}"
    click.echo(f"{'Would remove' if dry_run else 'Removed'} {gone:,} orders from {visible(store)} ({size}).")
    return 0


@command.command("backup", cls=Command, epilog="Example: exporter store backup store.db store-copy.db")
@click.argument("store", type=PATH, metavar="STORE")
@click.argument("file", type=PATH, metavar="FILE")
def backup_command(store: str, file: str) -> int:
    """Copy STORE to FILE as it is at this moment, also while a run writes to it."""
    from exporter.run.pruning import store_at
    from exporter.store.upkeep import back_up

    back_up(store_at(store), Path(file))
    click.echo(f"{visible(file)}: {size_text(Path(file).stat().st_size)}")
    return 0
