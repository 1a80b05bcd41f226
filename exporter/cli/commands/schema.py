"""`exporter schema`: every column of every table."""

from __future__ import annotations

from typing import Any

import click

from exporter.cli.option_kinds import Command


@click.command("schema", cls=Command, epilog="Example: exporter schema --format sql | duckdb orders.duckdb")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json", "sql"]),
    default="text",
    show_default=True,
    help="For a terminal, a data dictionary, programs, or as CREATE TABLE for DuckDB and PostgreSQL.",
)
def command(form: Any) -> int:
    """Print every column of every table: its name, its type, whether it is personal, and its meaning."""
    from exporter.model.catalog_text import render

    click.echo(render(form), nl=False)
    return 0
