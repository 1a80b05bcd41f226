"""`exporter changes`: what differs between two datasets."""

from __future__ import annotations

from typing import get_args

import click

from exporter.cli.option_kinds import PATH, Command, Words, show
from exporter.model.options import FileFormat


@click.command(
    "changes",
    cls=Command,
    epilog="Example: exporter changes orders-2026-11-23 orders-2026-11-24 --out new",
)
@click.argument("old", type=PATH, metavar="OLD")
@click.argument("new", type=PATH, metavar="NEW")
@click.option("--out", type=PATH, required=True, metavar="DIR", help="Directory, or s3://…, of the result.")
@click.option("--overwrite", is_flag=True, help="Replace a finished comparison at DIR.")
@click.option(
    "--full", is_flag=True, help="Also changed_orders: complete rows, before and after, ready for a MERGE."
)
@click.option(
    "--format",
    "formats",
    type=Words(get_args(FileFormat)),
    default="parquet",
    show_default=True,
    help="Of the tables, with commas.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object on stdout.")
def command(old: str, new: str, out: str, overwrite: bool, full: bool, formats: str, as_json: bool) -> int:
    """Compare the datasets OLD and NEW, and write what changed into DIR, one row for each changed field.

    Items are matched by their id. An order that NEW did not ask for, or could not get, is not compared; it is
    gone only where the API answered 404. It needs the extra `duckdb`.
    """
    from dataclasses import asdict

    import msgspec

    from exporter.cli.change_text import change_lines
    from exporter.cli.run_outcome import file_lines
    from exporter.model.manifest import Changes
    from exporter.model.options import TableOptions
    from exporter.model.summary import files_of
    from exporter.run.compare import compare

    chosen: tuple[FileFormat, ...] = tuple(dict.fromkeys(formats.split(",")))  # type: ignore[arg-type] # checked by click
    finished = compare(old, new, out, TableOptions(formats=chosen), full=full, overwrite=overwrite)
    files = files_of(finished)
    told = {
        "out": out,
        "exit_code": 0,
        **msgspec.to_builtins(finished.changes),
        "files": [*map(asdict, files)],
    }
    show(told, [*change_lines(finished.changes or Changes()), "", *file_lines(files)], as_json=as_json)
    return 0
