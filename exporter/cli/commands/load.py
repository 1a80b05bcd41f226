"""`exporter load`: a dataset into a database."""

from __future__ import annotations

from typing import Any

import click

from exporter.cli.option_kinds import PATH, Command, show


@click.command(
    "load",
    cls=Command,
    epilog="Example: exporter load orders-2026-11-24 postgresql://shop@db/shop",
)
@click.argument("dataset", type=PATH, metavar="DATASET")
@click.argument("target", metavar="TARGET")
@click.option("--schema", metavar="NAME", help="Of the tables; made where it is missing.")
@click.option("--prefix", default="", metavar="TEXT", help="Before the names of the tables.")
@click.option("--replace", is_flag=True, help="The tables then hold only this dataset.")
@click.option(
    "--mark-gone", is_flag=True, help="Record in _gone_at which orders the API no longer has (404)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object on stdout.")
def command(dataset: str, target: str, as_json: bool, **settings: Any) -> int:
    """Load the finished DATASET into TARGET: postgresql://…, duckdb:FILE or sqlite:FILE.

    All or nothing, in one transaction: orders replace those of the same number, with all their items. The same
    dataset twice does nothing. No password belongs into TARGET: PostgreSQL's come from PGPASSWORD or ~/.pgpass.
    """
    from dataclasses import asdict

    from exporter.run.load import load_place

    loaded = load_place(dataset, target, **settings)
    show({**asdict(loaded), "exit_code": 0}, [str(loaded)], as_json=as_json)
    return 0
