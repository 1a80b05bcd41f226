"""Whether a worker can take part: the same version, the shared folder, credentials of its own, the same key."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

import msgspec

from exporter.api.credentials import token_of
from exporter.fetch.cluster.messages import Check
from exporter.model import options
from exporter.model.errors import UsageError
from exporter.model.options import Options
from exporter.model.version import __version__

#: The coordinator's try, as a file beside the ranges.
BEACON = "try"
#: Options that never go through the scheduler, and where a worker finds them.
SECRETS = options.SECRETS | {"proxy": "EXPORTER_PROXY"}  # whose URL may hold a password


def environment_of(given: Options) -> dict[str, str]:
    """Return the secret options as the environment of local workers: what is not given is empty there."""
    return {variable: getattr(given, name) or "" for name, variable in SECRETS.items()}


def options_of(public: dict[str, Any]) -> Options:
    """Return options from their public part and the secrets of this process's environment.

    Raises:
        UsageError: A credential is missing here, or an option cannot work.
    """
    secrets = {name: os.environ.get(variable) or None for name, variable in SECRETS.items()}
    return msgspec.convert({**public, **secrets}, Options)


def pii_mark(given: Options, run_id: str) -> str | None:
    """Return what tells one `EXPORTER_PII_KEY` from another, and nothing more: keyed by it, and only of this run."""
    if given.pii != "hash":
        return None
    return hmac.new(str(given.pii_key).encode(), f"the key of run {run_id}".encode(), "sha256").hexdigest()


def unfit(check: Check) -> str | None:
    """Say why this worker cannot take part, None where it can; asked of each worker before the first range."""
    if check.version != __version__:
        return f"it has omnitron-exporter {__version__}, and this is {check.version}"
    try:
        seen = Path(check.folder, BEACON).read_text() == check.try_id
    except OSError:
        seen = False
    if not seen:
        return f"it does not see the folder {check.folder}; --out must be on a file system that all share"
    try:
        given = options_of(check.options)
        token_of(given)
    except UsageError as error:
        return f"in its own environment: {error}"
    if not hmac.compare_digest(pii_mark(given, check.run_id) or "", check.pii_mark or ""):
        return "its EXPORTER_PII_KEY is another one; one customer would have two hashes"
    return None
