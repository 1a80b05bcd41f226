"""`exporter demo` and `exporter serve`: a whole export, seen in ten seconds, and the demo API by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exporter.cli.commands.run import fault_rate_option, log_options
from exporter.cli.option_kinds import Command
from exporter.model.errors import UsageError
from exporter.model.outside_text import visible

if TYPE_CHECKING:
    from exporter.dataset.summary import Summary
    from exporter.model.progress import ProgressCallback
    from exporter.system.stopping import Stop

_ROWS = 5
_LONGEST_TEXT = 22
_SHOWN = {
    "orders": ("number", "status", "date_placed", "shipping_address_city_name", "amount", "currency"),
    "order_items": ("order_number", "item_index", "product_sku", "price", "tax_rate", "status"),
}
_HEADINGS = {"shipping_address_city_name": "…_city_name"}


@click.command(cls=Command, epilog="Example: exporter demo --orders 500 --out demo")
@click.option("--orders", type=click.IntRange(1), default=500, help="Orders in the demo API.")
@click.option("--out", default="demo", help="Folder for the input file and the dataset.")
@fault_rate_option
@log_options
def demo(orders: int, out: str, fault_rate: float, quiet: bool, log_format: str) -> int:
    """Start a small API on this machine, export its orders, and show what came out."""
    from exporter.cli.outcome_text import print_summary
    from exporter.cli.signals import run_stoppable
    from exporter.cli.watching import watching

    with watching(quiet=quiet, log_format=log_format) as on_progress:
        summary = run_stoppable(lambda stop: _tour(orders, out, fault_rate, on_progress, stop))
    print_summary(summary, as_json=False, quiet=quiet)
    if not quiet:
        click.echo("\n".join(_first_rows(summary.out)))
    return summary.exit_code


async def _tour(
    orders: int, folder: str, fault_rate: float, on_progress: ProgressCallback, stop: Stop
) -> Summary:
    """Export the demo API's orders into `folder`: it gets `order_numbers.txt` and, as `dataset`, what came out."""
    from exporter.demo.api import DemoSettings, serve
    from exporter.fetch.work_directory import discard
    from exporter.model.options import Options
    from exporter.run.export import export_async
    from exporter.system import durable

    async with serve(DemoSettings(orders=orders, fault_rate=fault_rate)) as api:
        numbers = Path(folder, "order_numbers.txt")
        with durable.storage_errors("writing the demo's input", numbers):
            numbers.parent.mkdir(parents=True, exist_ok=True)
            durable.write_lines(numbers, (f"{number}\n".encode() for number in api.numbers), mode=None)
        options = Options(
            orders=str(numbers),
            out=str(Path(folder, "dataset")),
            api_url=api.url,
            token=api.settings.token,
            rate="200/s",
            formats=("parquet", "csv"),
            overwrite=True,
        )
        discard(options.out)  # of a demo that was killed: its API had another port
        return await export_async(options, on_progress=on_progress, stop=stop)


def _first_rows(out: str) -> Iterator[str]:
    """Yield the first rows of both tables of a Parquet dataset, as a person would write them down."""
    import pyarrow.parquet as pq

    for name, columns in _SHOWN.items():
        with pq.ParquetFile(Path(out) / f"{name}.parquet") as file:
            batch = next(file.iter_batches(_ROWS, columns=list(columns)), None)
            rows = batch.to_pylist() if batch else []
            yield ""
            yield f"{name}.parquet: {file.metadata.num_rows:,} rows, {file.metadata.num_columns} columns; the first:"
        yield from _table(columns, rows)


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Iterator[str]:
    cells = [tuple(_HEADINGS.get(column, column) for column in columns)]
    cells += [tuple(_text(row[column]) for column in columns) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [any(isinstance(row[column], Decimal | int) for row in rows) for column in columns]
    for line in cells:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        yield ("  " + "  ".join(aligned)).rstrip()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, Decimal):
        return f"{value:.2f}" if value == round(value, 2) else f"{value.normalize():f}"
    text = visible(str(value))
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


@click.command(cls=Command, epilog="Example: exporter serve --orders 1000 --rate-limit 30 --fault-rate 0.05")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port; 0 takes a free one.")
@click.option("--orders", type=click.IntRange(0), default=500, help="Number of orders.")
@click.option(
    "--rate-limit",
    "rate_limit_per_s",
    type=float,
    help="Requests it answers in any second; more get 429. [default: no limit]",
)
@fault_rate_option
@click.option(
    "--latency", "latency_s", type=click.FloatRange(0), default=0.0, help="Seconds before each answer."
)
@click.option(
    "--evolve",
    is_flag=True,
    help="Orders change from day to day; below URL/2026-11-24 it is always that day.",
)
@click.option("--whole-list", is_flag=True, help="Entries of the order list are complete orders.")
@click.option(
    "--lies", type=click.IntRange(0), metavar="N", help="One in N of those is not as its detail.", default=0
)
@click.option("--token", default="demo-token", help="The token that it accepts.")
def serve(port: int, **settings: Any) -> None:
    """Run the demo API on this machine until Ctrl-C, to try the options of `exporter run` against it."""
    from exporter.cli.signals import run_stoppable
    from exporter.demo.api import DemoSettings, serve

    async def until(stop: Stop) -> None:
        async with serve(DemoSettings(**settings), port) as api:
            click.echo(api.url)
            click.echo(f"The demo API knows {len(api.numbers)} orders. In another shell:")
            click.echo(f"  export EXPORTER_API_URL={api.url} EXPORTER_API_TOKEN={api.settings.token}")
            click.echo("  exporter numbers --out numbers.txt")
            click.echo("  exporter run numbers.txt --out exported")
            click.echo("Ctrl-C ends it.")
            await stop.wait()

    try:
        run_stoppable(until)
    except OSError as error:
        what = f"it cannot be used: {error.strerror}."
        raise UsageError(what, "Give another --port, or 0.", option="port", value=port) from None
