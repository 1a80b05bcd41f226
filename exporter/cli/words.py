"""Options that commands share, declared once: the same flag has the same words everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from exporter.cli.config import load_config

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


def _option(*names: str, **settings: Any) -> Decorator:
    """Declare an option that the environment and the configuration file can give as well."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    envvar = "EXPORTER_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=envvar, show_envvar=False, **settings)


def _all(*decorators: Decorator) -> Decorator:
    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="EXPORTER_CONFIG",
    is_eager=True,
    expose_value=False,
    callback=load_config,
    help="TOML file with the same names; a flag beats the environment, which beats the file."
    " [default: exporter.toml where it exists]",
)

api_options = _all(
    _option("--api-url", default="", metavar="URL", help="Base URL of the API (or EXPORTER_API_URL)."),
    _option(
        "--token-file",
        metavar="FILE",
        help="File that holds the token, readable by its owner alone. Without it: EXPORTER_API_TOKEN,"
        " or a login by EXPORTER_API_USERNAME and EXPORTER_API_PASSWORD.",
    ),
    _option("--allow-http", is_flag=True, help="Permit http to hosts that are not loopback."),
    _option(
        "--ca-file", metavar="FILE", help="Certificate authorities (PEM) to trust instead of the system's."
    ),
    _option("--proxy", metavar="URL", help="HTTP proxy to go through."),
)

pace_options = _all(
    _option(
        "--rate",
        default="10/s",
        show_default=True,
        help="Requests permitted: N/s, N/m, N/h, auto (finds what the API bears) or unlimited.",
    ),
    _option("--max-rate", default="50/s", show_default=True, help="What --rate auto may reach."),
    _option("--concurrency", type=int, default=32, show_default=True, help="Requests in flight."),
    _option("--timeout", type=float, default=30.0, show_default=True, help="Seconds for one attempt."),
    _option("--max-attempts", type=int, default=6, show_default=True, help="Attempts for one order."),
)

log_options = _all(
    _option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Of the log on stderr.",
    ),
    _option("--quiet", is_flag=True, help="Errors only."),
)


def secrets_from_environment() -> dict[str, Any]:
    """Return the credentials: never an option's value, so that `ps` cannot show them."""
    import os

    return {
        "token": os.environ.get("EXPORTER_API_TOKEN"),
        "username": os.environ.get("EXPORTER_API_USERNAME"),
        "password": os.environ.get("EXPORTER_API_PASSWORD"),
        "pii_key": os.environ.get("EXPORTER_PII_KEY"),
    }


option = _option
