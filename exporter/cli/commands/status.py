"""`exporter status`: what a dataset, a work directory or a store holds, and what a run would ask for."""

from __future__ import annotations

from typing import Any

import click

from exporter.cli.commands.run import freshness_options, list_options
from exporter.cli.option_kinds import PATH, Command
from exporter.cli.shared_options import config_option, rate_options
from exporter.cli.status_text import show_status


@click.command("status", cls=Command, epilog="Example: exporter status nightly.db orders.txt --max-age 7d")
@click.argument("place", type=PATH, metavar="OUT|STORE")
@click.argument("orders", type=PATH, metavar="[ORDERS]", required=False)
@config_option
@list_options
@freshness_options
@rate_options
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object on stdout.")
def command(place: str, orders: str | None, as_json: bool, **settings: Any) -> int:
    """Show what stands at OUT (a dataset, an unfinished run) or in STORE, and touch nothing.

    With ORDERS, also what a run with these options would ask for, and how long that takes.
    """
    from exporter.model.options import AskOptions
    from exporter.run.place_status import look

    show_status(look(place, AskOptions(**settings), orders=orders), as_json=as_json)
    return 0
