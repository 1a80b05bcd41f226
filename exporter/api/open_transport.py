"""Which transport asks the API: the lean one with the releases of aiohttp that it was tested with."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractAsyncContextManager
from typing import Literal

import aiohttp

from exporter.api.lean_transport import open_lean_transport
from exporter.api.session_transport import open_session_transport
from exporter.api.transport import Route, Transport

log = logging.getLogger("exporter")

#: Raised by CONTRIBUTING.md's recipe "A new release of aiohttp".
_TESTED = ("3.14.",)
#: For tests alone: `lean` or `session`, whatever aiohttp is installed.
FORCED = "EXPORTER_TEST_TRANSPORT"


def open_transport(route: Route) -> AbstractAsyncContextManager[Transport]:
    """Open the transport for this release of aiohttp, for the length of the block."""
    kind = kind_for(aiohttp.__version__)
    log.debug("Requests go through the %s transport over aiohttp %s.", kind, aiohttp.__version__)
    return open_lean_transport(route) if kind == "lean" else open_session_transport(route)


def kind_for(release: str) -> Literal["lean", "session"]:
    """Return which transport is used with a release of aiohttp.

    >>> kind_for("3.14.5"), kind_for("3.15.0")
    ('lean', 'session')
    """
    lean = os.environ.get(FORCED, "lean" if release.startswith(_TESTED) else "") == "lean"
    return "lean" if lean else "session"
