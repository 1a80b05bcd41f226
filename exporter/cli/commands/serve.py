"""`exporter serve`: the demo API by itself."""

from __future__ import annotations

from typing import Any

import click

from exporter.cli.option_kinds import Command
from exporter.cli.shared_options import fault_rate_option
from exporter.model.errors import UsageError


@click.command(
    "serve",
    cls=Command,
    epilog="Example: exporter serve --orders 1000 --rate-limit 30 --fault-rate 0.05",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one."
)
@click.option(
    "--orders", type=click.IntRange(0), default=500, show_default=True, help="Orders that it holds."
)
@click.option(
    "--rate-limit",
    "rate_limit_per_s",
    type=float,
    help="Requests it answers in any second; more get 429. [default: no limit]",
)
@fault_rate_option
@click.option(
    "--latency",
    "latency_s",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds before each answer.",
)
@click.option(
    "--evolve",
    is_flag=True,
    help="Orders change from day to day; below URL/2026-11-24 it is always that day.",
)
@click.option("--whole-list", is_flag=True, help="Entries of the order list are complete orders.")
@click.option("--token", default="demo-token", show_default=True, help="The token that it accepts.")
def command(port: int, **settings: Any) -> int:
    """Run the demo API on this machine until Ctrl-C, to try the options of `exporter run` against it."""
    from exporter.cli.signals import run_stoppable
    from exporter.demo.api import DemoSettings, serve_until

    try:
        run_stoppable(lambda stop: serve_until(stop, DemoSettings(**settings), port, click.echo))
    except OSError as error:
        raise UsageError(
            f"it cannot be used: {error.strerror}.", "Give another --port, or 0.", option="port", value=port
        ) from None
    return 0
