"""Which proxy a request goes through: the one that was given, or the environment's, as for curl and pip."""

import os
from urllib.parse import urlsplit
from urllib.request import getproxies_environment
from urllib.request import proxy_bypass_environment as bypassed  # type: ignore[attr-defined] # not in typeshed

from exporter.model.options import checked_proxy, is_loopback
from exporter.system.log import log


def proxy_for(url: str, given: str | None) -> str | None:
    """Return the URL of the proxy that a request to `url` goes through, and say so in the log; None for none.

    Where `--proxy`, what was `given`, is None, the environment decides, and this machine needs no proxy. A `UsageError`
    where a variable names something else than an HTTP proxy.
    """
    if given is not None:
        return _told(url, None if given == "none" else given, "--proxy")
    target, found = urlsplit(url), getproxies_environment()
    if is_loopback(target.hostname or "") or bypassed(target.netloc, found):
        return None
    kind = next((kind for kind in (target.scheme, "all") if found.get(kind)), None)
    if kind is None:
        return None
    names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
    variable = next((name for name in names if name in os.environ), names[1])
    return _told(url, checked_proxy(found[kind], variable), variable)


def _told(url: str, proxy: str | None, source: str) -> str | None:
    if proxy is not None:
        shown = proxy.rpartition("@")[2].rpartition("/")[2]
        log.info("Requests to %s go through the proxy %s (%s).", urlsplit(url).hostname, shown, source)
    return proxy
