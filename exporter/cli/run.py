"""`exporter run`: the main job."""

from __future__ import annotations

from typing import Any

import click

from exporter.cli.words import (
    api_options,
    config_option,
    log_options,
    option,
    pace_options,
    secrets_from_environment,
)

EPILOG = "Example: exporter run orders.txt --out orders-{date} --rate 10/s"

run_options = (
    option("--column", metavar="NAME", help="The input's column of order numbers. [default: found]"),
    option("--overwrite", is_flag=True, help="Replace a finished dataset at OUT."),
    option(
        "--format",
        "formats",
        type=click.Choice(["parquet", "csv"]),
        multiple=True,
        default=("parquet",),
        help="File format; may be given twice. [default: parquet]",
    ),
    option(
        "--max-rejects",
        default="5%",
        show_default=True,
        help="A count, or a percentage of the lines; with more nothing is published.",
    ),
    option("--store", metavar="PATH", help="Keep the store there between runs."),
    option(
        "--max-age",
        default="0s",
        show_default=True,
        help="Younger orders in the store are not asked for again.",
    ),
    option(
        "--refresh-status",
        multiple=True,
        metavar="CODES=AGE",
        help="Another --max-age for orders of these statuses, as 550,600=30d; may be given again.",
    ),
    option(
        "--resume-within",
        default="24h",
        show_default=True,
        help="An unfinished run that is older is begun anew.",
    ),
    option(
        "--rows-per-file", type=int, metavar="N", help="Above it a table becomes a directory of part files."
    ),
    option(
        "--compression",
        type=click.Choice(["zstd", "snappy", "gzip", "lz4", "none"]),
        default="zstd",
        show_default=True,
        help="Of the Parquet files.",
    ),
    option(
        "--pii",
        type=click.Choice(["keep", "drop", "hash"]),
        default="keep",
        show_default=True,
        help="Personal columns: keep, leave null, or HMAC-SHA256 by EXPORTER_PII_KEY.",
    ),
    option(
        "--select",
        multiple=True,
        metavar="COLUMN",
        help="Only these columns (name or glob); may be given again.",
    ),
    option("--drop", multiple=True, metavar="COLUMN", help="Without these columns; may be given again."),
    option(
        "--csv-dialect",
        type=click.Choice(["standard", "excel"]),
        default="standard",
        show_default=True,
        help="excel is for spreadsheets: BOM, `;`, harmless formulas.",
    ),
    option(
        "--on-drift",
        type=click.Choice(["warn", "fail"]),
        default="warn",
        show_default=True,
        help="What fields that fit no column do.",
    ),
)


def decorate(function: Any) -> Any:
    """Give a command every option of `run`, in the order of its help."""
    for decorator in (log_options, *reversed(run_options), pace_options, api_options, config_option):
        function = decorator(function)
    return function


def options_of(orders: str, settings: dict[str, Any]) -> Any:
    """Build `Options` from what click parsed; credentials come from the environment."""
    from exporter.options import Options

    given = dict(settings)
    given["timeout_s"] = given.pop("timeout")
    return Options(orders=orders, **given, **secrets_from_environment())


@click.command("run", epilog=EPILOG)
@click.argument("orders", metavar="ORDERS")
@option(
    "--out", required=True, metavar="OUT", help="Directory of the dataset; {date} and {time} are filled in."
)
@decorate
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object on stdout.")
def command(orders: str, as_json: bool, quiet: bool, log_format: str, **settings: Any) -> int:
    """Export the orders named in ORDERS (.txt, .csv, .jsonl, .parquet, .xlsx, also .gz; - is standard input).

    The dataset appears at OUT all at once: orders, order_items, rejects.jsonl and manifest.json. Stopped
    or killed, the same command goes on where it was.
    """
    from exporter.cli.eyes import print_summary, watching
    from exporter.cli.signals import run_stoppable
    from exporter.run import export_async

    options = options_of(orders, settings)
    with watching(quiet=quiet, log_format=log_format) as on_progress:
        summary = run_stoppable(lambda stop: export_async(options, on_progress=on_progress, stop=stop))
    print_summary(summary, as_json=as_json, quiet=quiet)
    return summary.exit_code
