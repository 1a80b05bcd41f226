"""`exporter run` and `exporter numbers`: what asks the API; and the options that other commands share with them.

An option can come from the command line, the environment (`EXPORTER_` and its name, as `EXPORTER_MAX_AGE`) or
the configuration file (its name, as `max-age`). Where an option may be given again, the environment
separates the values by white space and the file has a list.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from exporter.cli.config_file import load_settings
from exporter.cli.option_kinds import OTHERS, PATH, Command, F, Session, option, settings, together
from exporter.model.options import secrets_in

if TYPE_CHECKING:
    from exporter.dataset.summary import Summary
    from exporter.model.options import Options
    from exporter.model.progress import Progress, ProgressCallback

#: What most people need; `--help-all` shows the rest.
_OFTEN = "out overwrite format tables select timezone pii rate max-rejects store max-age dry-run"
EPILOG = "Example: exporter run orders.txt --out orders-{date} --rate 10/s"
_INPUT = "Input and output"

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="EXPORTER_CONFIG",
    is_eager=True,
    expose_value=False,
    callback=load_settings,
    help="TOML file with the options' names as keys; a flag beats the environment, which beats the file."
    "  [default: exporter.toml where it exists]",
)

api_options = together(
    settings(
        "The API",
        "--api-url URL",
        default="",
        show_default=False,
        help="Base URL of the API (or EXPORTER_API_URL).",
    ),
    settings(
        "The API",
        "--token-file FILE --allow-http --ca-file FILE --client-cert FILE --client-key FILE --proxy URL",
    ),
)
_PACE = "Pace and patience"
rate_options = settings(_PACE, "--rate RATE --max-rate RATE")
pace_options = together(
    rate_options, settings(_PACE, "--concurrency N --timeout SECONDS --max-attempts N --patience AGE")
)
_LISTING = "From the API's own list"
listing_options = settings(_LISTING, "--status CODES --placed-from DAY --placed-to DAY --filter KEY=VALUE")
timezone_option = settings(_INPUT, "--timezone ZONE")
fault_rate_option = click.option(
    "--fault-rate", type=click.FloatRange(0, 1), default=0.0, help="Share of faulty answers."
)

log_options = together(
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        is_eager=True,
        help="Format of the log on stderr.",
    ),
    option("--quiet", is_flag=True, help="Errors only."),
)
list_options = settings(_INPUT, "--column NAME --sheet NAME --encoding NAME --input-format")
freshness_options = settings(
    "Between runs",
    "--store PATH --max-age AGE --refresh-status CODES=AGE --details --recheck AGE --resume-within AGE"
    " --retry-rejects --stale",
)


def run_options(*, required: bool) -> Callable[[F], F]:
    """Return the decorator that gives a command every option of `run`; `required` is about `--out`."""
    return together(
        config_option,
        settings(_INPUT, "--out OUT", required=required),
        list_options,
        settings(
            _INPUT,
            "--overwrite --format --tables --max-rejects N|N% --expect-orders N|N% --max-items N --keep N"
            " --rows-per-file N --compression --csv-dialect --json-type",
        ),
        timezone_option,
        settings(_LISTING, "--from-api", is_eager=True),
        listing_options,
        settings("The data", "--select COLUMNS --drop COLUMNS --pii --on-drift"),
        freshness_options,
        pace_options,
        api_options,
        settings("Past one machine", "--dask ADDRESS|local --dask-insecure"),
        settings(OTHERS, "--changes --load TARGET --prune --notify URL --report"),
        option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object on stdout."),
        option(
            "--metrics-file",
            type=PATH,
            metavar="FILE",
            help="Write how the run ended for Prometheus' textfile collector, such as /…/exporter.prom.",
        ),
        log_options,
    )


def options_of(orders: str | None, settings: dict[str, Any]) -> Options:
    """Build `Options` from what click parsed; credentials come from the environment."""
    from exporter.model.options import OF_A_FILE, OF_THE_LIST, PLACEHOLDERS, Options

    source = click.get_current_context().get_parameter_source
    one = source("out") is ParameterSource.COMMANDLINE
    # What the file or the environment gives, and what the command line names has no use for.
    idle = ["keep"] if one and not any(one in settings["out"] for one in PLACEHOLDERS) else []
    idle += OF_A_FILE if orders is None else ("from_api", *OF_THE_LIST)
    for name in idle:
        if source(name) is not ParameterSource.COMMANDLINE:
            del settings[name]
    return Options(orders=orders or "", **settings, **secrets_in(os.environ, settings["token_file"]))


def _orders_or_list(ctx: click.Context, argument: click.Parameter, orders: str | None) -> str | None:
    """Tell of missing ORDERS before any other option; a click callback."""
    if orders is None and not ctx.params["from_api"] and not ctx.resilient_parsing:
        raise click.MissingParameter(ctx=ctx, param=argument)
    return orders


@click.command(cls=Command, epilog=EPILOG, often=_OFTEN)
@click.argument("orders", type=PATH, metavar="ORDERS", required=False, callback=_orders_or_list)
@run_options(required=True)
@option(
    "--dry-run",
    is_flag=True,
    section=_INPUT,
    help="Say what would be requested, and request nothing; with --details auto, one page of the list.",
)
def run(
    orders: str | None,
    as_json: bool,
    metrics_file: str | None,
    quiet: bool,
    log_format: str,
    dry_run: bool,
    **settings: Any,
) -> int:
    """Export the orders named in ORDERS: a list as text, CSV, JSON, Parquet, workbook … (- is standard input).

    With --from-api instead of ORDERS: all orders that the API lists. EXPORTER_API_URL names the API, EXPORTER_API_TOKEN
    holds the token. The dataset appears at OUT all at once: its tables, rejects.jsonl and manifest.json.
    Stopped or killed: run the same command again to resume.

    Exit code: 0 all exported; 2 usage or input; 3 published, with rejects; 4 too many rejects, nothing
    published; 5 token refused; 6 API not available; 7 storage; 8 another run is active; 130 and 143
    stopped. After 1, 5 to 7, 130 and 143 the same command resumes; after 4 with a higher --max-rejects.
    """
    from exporter.cli.metrics_file import reported
    from exporter.cli.outcome_text import print_summary
    from exporter.cli.watching import watching

    if dry_run:
        from exporter.cli.status_text import show_status
        from exporter.run.dry_run import dry_run as look

        show_status(look(options_of(orders, settings)), as_json=as_json)
        return 0
    with reported(metrics_file) as metrics:
        options = options_of(orders, settings)
        metrics.begin()
        with watching(quiet=quiet, log_format=log_format) as show:

            def on_progress(progress: Progress) -> None:
                show(progress)
                metrics.progress = progress

            metrics.summary = summary = _export(options, on_progress)
            click.get_current_context().ensure_object(Session).published = True
            _tell_end(summary, options.notify, aloud=quiet or as_json)
        print_summary(summary, as_json=as_json, quiet=quiet)
    return summary.exit_code


def _tell_end(summary: Summary, url: str | None, *, aloud: bool) -> None:
    """Post the end, and tell of rejects `aloud` where no table of the summary does."""
    from exporter.cli.notification import notify
    from exporter.cli.outcome_text import facts_of
    from exporter.system.log import log

    rejected = sum(summary.rejects_by_reason.values())
    if rejected and aloud:
        log.error(
            "Exported with %s: %s/rejects.jsonl says which, and why.",
            "1 reject" if rejected == 1 else f"{rejected:,} rejects",
            summary.out,
        )
    notify(
        url,
        f"Order export: {summary.exported:,} of {summary.requested:,} orders, {rejected:,} rejects, to {summary.out}",
        facts_of(summary),
    )


def _export(options: Options, on_progress: ProgressCallback) -> Summary:
    if options.dask is not None:
        from exporter.fetch.cluster import fork_server

        began = click.get_current_context().find_root().command.callback
        fork_server.start_for(options.dask, began.__module__)
    from exporter.cli.signals import run_stoppable
    from exporter.run.export import export_async

    return run_stoppable(lambda stop: export_async(options, on_progress=on_progress, stop=stop))


# `--out` and `--overwrite` come from the command line alone: those of the environment and the
# configuration file are meant for datasets.
@click.command(cls=Command, epilog="Example: exporter numbers --out numbers.txt --status 500,550")
@config_option
@click.option("--out", required=True, metavar="FILE", help="Text file, one order number on each line.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@listing_options
@timezone_option
@click.option(
    "--page-size",
    type=click.IntRange(1),
    metavar="N",
    default=100,
    help="Orders on a page, as far as the API permits.",
)
@pace_options
@api_options
@log_options
def numbers(out: str, overwrite: bool, page_size: int, quiet: bool, log_format: str, **settings: Any) -> None:
    """List the API's orders, all or those selected, and write their numbers to FILE, as input for `exporter run`.

    Orders that move between pages meanwhile are written once. FILE appears complete or not at all. After a stop
    or a kill the same command resumes.
    """
    from exporter.cli.signals import run_stoppable
    from exporter.cli.watching import watching
    from exporter.fetch.number_listing import Listing, list_numbers
    from exporter.model.options import Options
    from exporter.model.outside_text import visible

    secrets = secrets_in(os.environ, settings["token_file"])
    options = Options(from_api=True, out=out, overwrite=overwrite, **settings, **secrets)
    with watching(quiet=quiet, log_format=log_format) as on_progress:
        listing = partial(Listing, options=options, page_size=page_size, on_progress=on_progress)
        listed, walk = run_stoppable(lambda stop: list_numbers(listing(stop=stop)))
    if not quiet:
        click.echo(f"{listed:,} order numbers from {walk.pages:,} pages: {visible(out)}")
