"""`exporter report`: the page about a dataset, made later."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from exporter.cli.option_kinds import Command


@click.command("report", cls=Command, epilog="Example: exporter report orders-2026-11-23")
@click.argument("out", metavar="OUT")
def command(out: str) -> int:
    """Write report.html into the dataset at OUT, from its manifest and its tables alone.

    One page that needs no network: how the run went, and what the data looks like, in counts and sums. A
    report that is there is replaced. It needs the extra: pip install 'omnitron-exporter[report]'.
    """
    from exporter.report import REPORT_FILE, write_report

    # Without a writable home it says that it made a temporary folder for its cache: nobody can act on that.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    write_report(Path(out))
    click.echo(str(Path(out) / REPORT_FILE))
    return 0
