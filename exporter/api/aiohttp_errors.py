"""The one door through which aiohttp's exceptions and answers become ours.

No text that leaves here quotes a header or a body: aiohttp's own `repr` of an answer's error holds the
request's headers, and with them the token.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.http import HttpProcessingError

from exporter.api.transport import Response
from exporter.model.errors import (
    ApiUnavailableError,
    BadResponseError,
    ExporterError,
    HopelessError,
    TransientError,
)
from exporter.model.limit_headers import limit_told

#: What an attempt can raise besides our own errors.
FOREIGN = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError)
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
_TITLE_WITHIN = 16 * 1024
_LONGEST_TITLE = 80
_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_PROXY_IS_DOWN = (502, 503, 504)
_HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_ADDRESS_MISMATCH = 64  # X509_V_ERR_IP_ADDRESS_MISMATCH


def limit_of(response: Response) -> tuple[bool, float | None]:
    """Return whether a refusal says that it is a limit, and the seconds to wait; see `limit_told`."""
    return limit_told(response.headers, _time_of(response))


def page_of(headers: Mapping[str, str], body: bytes) -> str:
    """Return what kind of page came in place of an order, as `text/html, titled 'Down'`; empty for no page."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if "html" not in kind and body.lstrip()[:1] != b"<":
        return ""
    title = _TITLE.search(body[:_TITLE_WITHIN].decode(errors="replace"))
    words = "".join(each if each.isprintable() else " " for each in title[1]) if title else ""
    shown = " ".join(words.split())[:_LONGEST_TITLE]
    return f"{kind or 'text/html'}, titled {shown!r}" if shown else kind or "text/html"


def _time_of(response: Response) -> datetime:
    """Return the answer's own time, which no skew of our clock can bend, or ours where it has none."""
    try:
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return datetime.now(UTC)


def translated(error: Exception, timeout_s: float, *, answered: bool = False) -> ExporterError:
    """Return one of our errors for what aiohttp, asyncio or the system raised: one of `FOREIGN`.

    Where the API has `answered` before, a certificate that is refused is an outage to wait out.
    """
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        distrusted = _distrusted(error)
        return TransientError(distrusted.what.rstrip(".")) if answered else distrusted
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransientError(f"no connection within {timeout_s:g} s")
    if isinstance(error, TimeoutError):
        return TransientError(f"no whole answer within {timeout_s:g} s")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _refused_by_proxy(error.status)
    if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError):
        return BadResponseError("the answer is not valid HTTP")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransientError("the answer's body was cut or cannot be decoded")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return TransientError("the connection was closed before an answer came")
    return TransientError(f"the connection failed ({type(error).__name__})")


def _not_connected(error: aiohttp.ClientConnectorError) -> TransientError:
    cause = error.os_error
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if cause.errno in _NO_SUCH_HOST:
            return HopelessError(f"{error.host}: no such host")
        return TransientError(f"{error.host}: the name server does not answer")
    where = f"no connection to {error.host}:{error.port}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return TransientError(f"{where}: TLS failed ({_reason(cause)})")
    if cause.errno == errno.ECONNREFUSED:
        return TransientError(f"{where}: it refuses connections")
    return TransientError(f"{where} ({cause.strerror or type(cause).__name__})")


def _distrusted(error: aiohttp.ClientConnectorCertificateError) -> ApiUnavailableError:
    cause = error.certificate_error
    what = f"{error.host}:{error.port}: its certificate is refused: {_reason(cause)}."
    if getattr(cause, "verify_code", None) in (_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH):
        return ApiUnavailableError(what, "Give the host name of the certificate in --api-url.")
    return ApiUnavailableError(what, "Give the authority that signed it with --ca-file.")


def _reason(cause: Exception) -> str:
    return str(cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else cause).rstrip(".")


def _refused_by_proxy(status: int) -> ExporterError:
    if status in _PROXY_IS_DOWN:
        return TransientError(f"the proxy answered {status}")
    return ApiUnavailableError(f"The proxy answered {status}.", "Check --proxy, its user name and password.")
