"""`exporter demo`: a whole export, seen in ten seconds, with nothing but this package."""

from __future__ import annotations

import click

from exporter.cli.option_kinds import Command
from exporter.cli.shared_options import fault_rate_option, log_options


@click.command("demo", cls=Command, epilog="Example: exporter demo --orders 500 --out demo")
@click.option(
    "--orders", type=click.IntRange(1), default=500, show_default=True, help="Orders in the demo API."
)
@click.option("--out", default="demo", show_default=True, help="Folder for the input file and the dataset.")
@fault_rate_option
@log_options
def command(orders: int, out: str, fault_rate: float, quiet: bool, log_format: str) -> int:
    """Start a small API on this machine, export its orders, and show what came out."""
    from exporter.cli.run_outcome import print_summary
    from exporter.cli.signals import run_stoppable
    from exporter.cli.table_preview import dataset_lines
    from exporter.cli.watching import watching
    from exporter.demo.tour import tour

    with watching(quiet=quiet, log_format=log_format) as on_progress:
        summary = run_stoppable(
            lambda stop: tour(
                orders=orders, folder=out, fault_rate=fault_rate, on_progress=on_progress, stop=stop
            )
        )
    print_summary(summary, as_json=False, quiet=quiet)
    if not quiet:
        click.echo("\n".join(dataset_lines(summary.out)))
    return summary.exit_code
