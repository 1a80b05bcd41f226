"""Whether a worker can take part: the same version, the shared folder, credentials of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from exporter.model import options
from exporter.model.errors import UsageError
from exporter.model.options import Options
from exporter.model.version import __version__

#: The coordinator's try, as a file beside the ranges.
BEACON = "try"
#: Options that never go through the scheduler, and where a worker finds them.
SECRETS = options.SECRETS | {"proxy": "EXPORTER_PROXY"}  # whose URL may hold a password


def own_secrets() -> dict[str, str | None]:
    """Return the secret options of this process's environment."""
    return {name: os.environ.get(variable) or None for name, variable in SECRETS.items()}


def options_of(public: dict[str, Any], secrets: dict[str, str | None]) -> Options:
    """Return options from their public part and the secret ones.

    Raises:
        UsageError: A credential is missing here, or an option cannot work.
    """
    return msgspec.convert({**public, **secrets}, Options)


def fitness(version: str, beacon: str, try_id: str, public: dict[str, Any] | None) -> str | None:
    """Say why this worker cannot take part, None where it can; asked of each worker before the first range.

    Args:
        version: The coordinator's.
        beacon: A file that the coordinator has just written.
        try_id: What it holds.
        public: The options but for the secret ones; None where the secrets come over the link.
    """
    if version != __version__:
        return f"it has omnitron-exporter {__version__}, and this is {version}"
    try:
        seen = Path(beacon).read_text() == try_id
    except OSError:
        seen = False
    if not seen:
        return (
            f"it does not see the folder {Path(beacon).parent}; --out must be on a file system that all share"
        )
    if public is None:
        return None
    try:
        options_of(public, own_secrets())
    except UsageError as error:
        return f"in its own environment: {error}"
    return None
