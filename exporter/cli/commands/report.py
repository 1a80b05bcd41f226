"""`exporter report`: the page about a dataset, made later."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.cli.option_kinds import Command


@click.command("report", cls=Command, epilog="Example: exporter report orders-2026-11-23")
@click.argument("out", metavar="OUT")
def command(out: str) -> int:
    """Write report.html into the dataset at OUT, from its manifest and its tables alone.

    One page that needs no network: what the data looks like, and how the run went, in counts and sums. A
    report that is there is replaced.
    """
    from exporter.model.manifest import REPORT_FILE
    from exporter.report.page import write_report

    write_report(Path(out))
    click.echo(str(Path(out) / REPORT_FILE))
    return 0
