"""Options that commands share, declared once: the same flag has the same words everywhere.

Each can come from the command line, the environment (`EXPORTER_` and its name, as `EXPORTER_MAX_AGE`) or
the configuration file (its name, as `max-age`). Where an option may be given again, the environment
separates the values by white space and the file has a list.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from exporter.cli.config_file import load_settings
from exporter.cli.option_kinds import PATH, option, setting, together
from exporter.model.options import SECRETS

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

_of_api = partial(setting, section="The API")
api_options = together(
    _of_api("--api-url", default="", metavar="URL", help="Base URL of the API (or EXPORTER_API_URL)."),
    _of_api(
        "--token-file",
        type=PATH,
        metavar="FILE",
        help="File that holds the token, readable by its owner alone. Without it: EXPORTER_API_TOKEN,"
        " or a login by EXPORTER_API_USERNAME and EXPORTER_API_PASSWORD.",
    ),
    _of_api("--allow-http", help="Permit http to hosts that are not loopback."),
    _of_api(
        "--ca-file",
        type=PATH,
        metavar="FILE",
        help="Certificate authorities to trust besides the system's: a PEM file, or a directory of them.",
    ),
    _of_api("--client-cert", type=PATH, metavar="FILE", help="Certificate (PEM) that the API wants to see."),
    _of_api("--client-key", type=PATH, metavar="FILE", help="Its key (PEM), readable by its owner alone."),
    _of_api(
        "--proxy",
        metavar="URL",
        help="HTTP proxy to go through, or none. Without it: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.",
    ),
)

_of_pace = partial(setting, section="Pace and patience")
rate_options = together(
    _of_pace(
        "--rate",
        metavar="RATE",
        help="Requests permitted: N/s, N/m, N/h, auto (finds what the API bears) or unlimited.",
    ),
    _of_pace("--max-rate", metavar="RATE", help="What --rate auto may reach."),
)

pace_options = together(
    rate_options,
    _of_pace("--concurrency", metavar="N", help="Requests in flight, at most."),
    _of_pace("--timeout", "timeout_s", metavar="SECONDS", help="For one attempt."),
    _of_pace("--max-attempts", metavar="N", help="For one order."),
    _of_pace(
        "--patience",
        metavar="AGE",
        help="Wait so long for an API that serves no order any more; as 90s or 10m.",
    ),
)

_of_list = partial(setting, section="From the API's own list")
listing_options = together(
    _of_list("--status", metavar="CODES", help="Only orders that show one of these there, as 400,550."),
    _of_list("--placed-from", metavar="DAY", help="Only orders of that day, in --timezone (UTC), or later."),
    _of_list(
        "--placed-to", metavar="DAY", help="Only orders of that day, included, or earlier; as 2026-11-30."
    ),
    _of_list("--filter", "filters", metavar="KEY=VALUE", help="For the API, as it is; may be given again."),
)
timezone_option = setting(
    "--timezone",
    metavar="ZONE",
    section="Input and output",
    help="Of times in CSV, workbook and report, and of days as --placed-from, such as Europe/Istanbul.",
)

fault_rate_option = click.option(
    "--fault-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of faulty answers.",
)

log_options = together(
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        is_eager=True,
        help="Of the log on stderr.",
    ),
    option("--quiet", is_flag=True, help="Errors only."),
)


def secrets_from_environment() -> dict[str, Any]:
    """Return the credentials: never an option's value, so that `ps` cannot show them."""
    import os

    return {name: os.environ.get(variable) or None for name, variable in SECRETS.items()}
