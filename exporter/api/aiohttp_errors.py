"""The one door through which aiohttp's exceptions and answers become ours.

No text that leaves here quotes a header or a body: aiohttp's own `repr` of an answer's error holds the
request's headers, and with them the token.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.http import HttpProcessingError

from exporter.api.transport import Response
from exporter.model.errors import ApiUnavailableError, BadResponseError, ExporterError, TransientError
from exporter.model.rate import parse_retry_after

#: What an attempt can raise besides our own errors.
FOREIGN = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError)
_PROXY_IS_DOWN = (502, 503, 504)
_HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_ADDRESS_MISMATCH = 64  # X509_V_ERR_IP_ADDRESS_MISMATCH


def retry_after_s(response: Response) -> float | None:
    """Return the seconds that an answer asks to wait, or None; a date is read against the answer's own."""
    return parse_retry_after(response.headers.get("Retry-After"), _time_of(response))


def _time_of(response: Response) -> datetime:
    """Return the answer's own time, which no skew of our clock can bend, or ours where it has none."""
    try:
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return datetime.now(UTC)


def translated(error: Exception, timeout_s: float) -> ExporterError:
    """Return one of our errors for what aiohttp, asyncio or the system raised: one of `FOREIGN`."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _distrusted(error)
    if isinstance(error, TimeoutError):
        return TransientError(f"no whole answer within {timeout_s:g} s")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _refused_by_proxy(error.status)
    if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError):
        return BadResponseError("the answer is not valid HTTP")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransientError("the answer's body was cut or cannot be decoded")
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransientError(f"no connection to {error.host}:{error.port}")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return TransientError("the connection was closed before an answer came")
    return TransientError(f"the connection failed ({type(error).__name__})")


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
