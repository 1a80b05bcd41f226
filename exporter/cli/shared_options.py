"""Options that commands share, declared once: the same flag has the same words everywhere.

Each can come from the command line, the environment (`EXPORTER_` and its name, as `EXPORTER_MAX_AGE`) or
the configuration file (its name, as `max-age`). Where an option may be given again, the environment
separates the values by white space and the file has a list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exporter.cli.config_file import load_settings
from exporter.cli.option_kinds import option, settings, together
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

api_options = together(
    settings(
        "The API", "--api-url URL  Base URL of the API (or EXPORTER_API_URL).", default="", show_default=False
    ),
    settings(
        "The API",
        """
        --token-file FILE  File with the token, readable only by its owner. Without it: EXPORTER_API_TOKEN,
                       or a login with EXPORTER_API_USERNAME and EXPORTER_API_PASSWORD.
        --allow-http   Permit http to hosts that are not loopback.
        --ca-file FILE  Certificate authorities to trust besides the system's: a PEM file, or a directory of them.
        --client-cert FILE  Client certificate (PEM) that the API requires.
        --client-key FILE   Its key (PEM), readable only by its owner.
        --proxy URL    HTTP proxy to go through, or none. Without it: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
                       NO_PROXY.
        """,
    ),
)
_PACE = "Pace and patience"
rate_options = settings(
    _PACE,
    """
    --rate RATE        Requests permitted: N/s, N/m, N/h, auto (finds what the API accepts) or unlimited.
    --max-rate RATE    The highest rate that --rate auto may reach.
    """,
)
pace_options = together(
    rate_options,
    settings(
        _PACE,
        """
        --concurrency N    Requests in flight, at most.
        --timeout SECONDS  For one attempt.
        --max-attempts N   For one order.
        --patience AGE     How long to wait for an API that no longer serves orders, such as 90s or 10m.
        """,
    ),
)
listing_options = settings(
    "From the API's own list",
    """
    --status CODES     Only orders that show one of these there, such as 400,550.
    --placed-from DAY  Only orders of that day, in --timezone (UTC), or later.
    --placed-to DAY    Only orders of that day or earlier, such as 2026-11-30.
    --filter KEY=VALUE  Sent to the API as it is; may be given again.
    """,
)
timezone_option = settings(
    "Input and output",
    "--timezone ZONE  Of times in CSV, workbook and report, and of days as --placed-from, such as Europe/Istanbul.",
)
fault_rate_option = click.option(
    "--fault-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Share of faulty answers.",
)

log_options = together(
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        is_eager=True,
        help="Of the log on stderr.",
    ),
    option("--quiet", is_flag=True, help="Errors only."),
)


def secrets_from_environment() -> dict[str, Any]:
    """Return the credentials: never an option's value, so that `ps` cannot show them."""
    import os

    return {name: os.environ.get(variable) or None for name, variable in SECRETS.items()}
