"""Headers by which an API, or what stands before it, says that it limits: read without a network or a clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from exporter.model.rate import parse_retry_after

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# `"default";r=0;t=30` (draft-ietf-httpapi-ratelimit-headers-10), `limit=100, remaining=0, reset=30` (-06).
_REMAINING = re.compile(r"(?:^|[;,\s])(?:r|remaining)\s*=\s*([0-9]+)", re.IGNORECASE)
_RESET = re.compile(r"(?:^|[;,\s])(?:t|reset)\s*=\s*([0-9]+)", re.IGNORECASE)
_EPOCH_S = 1e9  # a reset over this is a time, not a wait
_EPOCH_MS = 1e11


def limit_told(headers: Mapping[str, str], now_utc: datetime) -> tuple[bool, float | None]:
    """Return whether a refusal's headers, of any spelling, say that it is a limit, and for how many seconds.

    >>> limit_told({"RateLimit": '"default";r=0;t=30'}, datetime(2026, 11, 23))
    (True, 30.0)
    >>> limit_told({"X-RateLimit-Remaining": "57", "X-RateLimit-Reset": "30"}, datetime(2026, 11, 23))
    (False, None)
    """
    wait_s = parse_retry_after(headers.get("Retry-After"), now_utc)
    if wait_s is not None:
        return True, wait_s
    quota = headers.get("RateLimit", "")
    for prefix in ("X-RateLimit-", "RateLimit-"):
        if f"{prefix}Remaining" in headers:
            quota = f"r={headers[f'{prefix}Remaining']};t={_wait_of(headers.get(f'{prefix}Reset'), now_utc)}"
    remaining, reset = _REMAINING.search(quota), _RESET.search(quota)
    if remaining is not None and int(remaining[1]) == 0:
        return True, float(reset[1]) if reset else None
    return "cf-mitigated" in headers, None


def _wait_of(reset: str | None, now_utc: datetime) -> str:
    if reset is None or not _NUMBER.fullmatch(reset.strip()):
        return ""
    value = float(reset)
    if value > _EPOCH_MS:
        value /= 1000
    return f"{max(0.0, value - now_utc.timestamp() if value > _EPOCH_S else value):.0f}"
