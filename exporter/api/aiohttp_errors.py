"""The one door through which aiohttp's exceptions and answers become ours.

No text that leaves here quotes a header or a body: aiohttp's own `repr` of an answer's error holds the
request's headers, and with them the token.
"""

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
from exporter.model import errors
from exporter.model.rate import limit_told
from exporter.system.durable import RAISE_FILES, TOO_MANY_FILES

#: What an attempt can raise besides our own errors.
FOREIGN = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError)
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
_TITLE_WITHIN = 16 * 1024
_LONGEST_TITLE = 80
#: What to do about a failure that is a proxy's.
CHECK_PROXY = "Check the proxy (--proxy, or the variable that names it), then run the same command again."
_WRONG_NAME = "Give the host name of the certificate in --api-url."
_UNKNOWN_AUTHORITY = "Give the authority that signed it with --ca-file."
_WRONG_TIME = "Have the API's certificate renewed, or set this machine's clock right."
#: By OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, …_CERT_HAS_EXPIRED, …_HOSTNAME_MISMATCH and …_IP_ADDRESS_MISMATCH.
_CERTIFICATE_HINTS = {9: _WRONG_TIME, 10: _WRONG_TIME, 62: _WRONG_NAME, 64: _WRONG_NAME}
_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
#: What a proxy that answers by itself names itself in `Server`; what it passes on has the API's name.
_PROXIES = ("squid", "tinyproxy")
#: OpenSSL's reasons in plain words; others are told as they are.
_TLS_WORDS = {
    "wrong version number": "it does not speak TLS; it may be an http port",
    "no application protocol": "it does not speak HTTP/1.1",
    "certificate required": "it wants a client certificate (--client-cert)",
    "alert unknown ca": "it does not trust the client certificate",
    "alert protocol version": "it speaks no version of TLS that this machine does",
    "unsupported protocol": "it speaks no version of TLS that this machine does",
}
_TLS_FRAME = re.compile(r"^\[.*?\] | \(_ssl\.c:\d+\)$")
_HTTP_2 = r"b'\x00\x00"  # the length of HTTP/2's first frame, as the parser's complaint quotes it


def limit_of(response: Response) -> tuple[bool, float | None]:
    """Return whether a refusal says that it is a limit, and the seconds to wait; see `limit_told`."""
    try:  # the answer's own time, which no skew of our clock can bend
        now = parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        now = datetime.now(UTC)
    return limit_told(response.headers, now)


def page_of(headers: Mapping[str, str], body: bytes) -> str:
    """Return what kind of page came in place of an order, as `text/html, titled 'Down'`; empty for no page."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if "html" not in kind and body.lstrip()[:1] != b"<":
        return ""
    title = _TITLE.search(body[:_TITLE_WITHIN].decode(errors="replace"))
    words = "".join(each if each.isprintable() else " " for each in title[1]) if title else ""
    shown = " ".join(words.split())[:_LONGEST_TITLE]
    return f"{kind or 'text/html'}, titled {shown!r}" if shown else kind or "text/html"


def translated(
    error: Exception, timeout_s: float, *, answered: bool = False, proxied: bool = False
) -> errors.ExporterError:
    """Return one of our errors for what aiohttp, asyncio or the system raised: one of `FOREIGN`.

    Where the API has `answered` before, a certificate that is refused is an outage to wait out. `proxied` tells that
    a proxy is between us and the API: then its name alone is looked up here.
    """
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        distrusted = _distrusted(error)
        return errors.TransientError(distrusted.what.rstrip(".")) if answered else distrusted
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return errors.TransientError(f"no connection within {timeout_s:g} s", by_proxy=proxied)
    if isinstance(error, TimeoutError):
        return errors.TransientError(f"no complete answer within {timeout_s:g} s")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _refused_by_proxy(error.status)
    if isinstance(error, HttpProcessingError | aiohttp.ClientResponseError):
        is_newer = _HTTP_2 in str(error.message)
        return errors.BadResponseError(
            f"the answer is {'HTTP/2, not HTTP/1.1' if is_newer else 'not valid HTTP'}"
        )
    if isinstance(error, aiohttp.ClientPayloadError):
        return errors.TransientError("the answer's body was cut or cannot be decoded")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error, proxied)
    return _broken_off(error)


def _broken_off(error: Exception) -> errors.TransientError:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return errors.TransientError("the connection was closed before an answer came")
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        return errors.TransientError(f"the connection failed: TLS: {_tls_words(cause)}")
    if isinstance(error, ConnectionResetError) or getattr(error, "errno", None) == errno.ECONNRESET:
        return errors.TransientError("the connection was reset")
    return errors.TransientError(f"the connection failed ({type(error).__name__})")


def _not_connected(error: aiohttp.ClientConnectorError, proxied: bool) -> errors.ExporterError:
    cause, is_dns = error.os_error, isinstance(error, aiohttp.ClientConnectorDNSError)
    by_proxy = proxied and (is_dns or isinstance(error, aiohttp.ClientProxyConnectionError))
    host = f"the proxy {error.host}" if by_proxy else error.host
    if is_dns:
        if cause.errno in _NO_SUCH_HOST:
            return errors.HopelessError(f"{host}: no such host", by_proxy=by_proxy)
        return errors.TransientError(f"{host}: the name server does not answer", by_proxy=by_proxy)
    where = f"no connection to {host}:{error.port}"
    if isinstance(cause, ssl.SSLError):
        return errors.TransientError(f"{where}: TLS: {_tls_words(cause)}", by_proxy=by_proxy)
    if cause.errno in TOO_MANY_FILES:
        return errors.StorageError(f"{where}: too many files are open.", RAISE_FILES)
    if cause.errno == errno.ECONNREFUSED:
        return errors.TransientError(f"{where}: it refuses connections", by_proxy=by_proxy)
    return errors.TransientError(f"{where} ({cause.strerror or type(cause).__name__})", by_proxy=by_proxy)


def _tls_words(cause: ssl.SSLError) -> str:
    text = _TLS_FRAME.sub("", str(cause.args[-1]))
    return next((words for part, words in _TLS_WORDS.items() if part in text), text)


def _distrusted(error: aiohttp.ClientConnectorCertificateError) -> errors.ApiUnavailableError:
    cause = error.certificate_error
    reason = str(getattr(cause, "verify_message", cause)).rstrip(".")
    hint = _CERTIFICATE_HINTS.get(getattr(cause, "verify_code", 0), _UNKNOWN_AUTHORITY)
    return errors.ApiUnavailableError(
        f"{error.host}:{error.port}: its certificate is refused: {reason}.", hint
    )


def proxys_refusal(response: Response) -> errors.ExporterError | None:
    """Return what an answer means that is a proxy's own word, not the API's; None for the API's."""
    headers = response.headers
    own = "X-Squid-Error" in headers or headers.get("Server", "").lower().startswith(_PROXIES)
    return _refused_by_proxy(response.status) if own or response.status == 407 else None


def _refused_by_proxy(status: int) -> errors.ExporterError:
    if status >= 500:
        return errors.TransientError(f"the proxy answered {status}", by_proxy=True)
    check, ask = "Check the user name and the password in", "Ask its operator to permit the API, or change"
    hint = f"{check if status == 407 else ask} --proxy, or in the variable that names it."
    return errors.ApiUnavailableError(f"The proxy answered {status}.", hint)
