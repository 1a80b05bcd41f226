"""How often the API may be asked: `10/s`, `600/m`, `5000/h`, `auto`, `unlimited`; Retry-After and backoff."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Literal

from exporter.model.errors import UsageError

_PERIODS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FIXED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*([smh])")
_HINT = "Write 10/s, 600/m, 5000/h, auto or unlimited."
_SPARE_CONCURRENCY = 1.2
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 60.0


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A permitted rate of requests; what `auto` bears is found, and only a `fixed` one has numbers.

    Raises:
        UsageError: `requests` are not above 0, or `period_s` is not 1, 60 or 3600 seconds.
    """

    kind: Literal["fixed", "auto", "unlimited"] = "fixed"
    requests: float = math.inf
    period_s: float = 1.0

    def __post_init__(self) -> None:
        if self.period_s not in _PERIODS_S.values():
            raise UsageError(f"A rate's period is 1, 60 or 3600 seconds, got {self.period_s:g}.", _HINT)
        if self.kind == "fixed" and not 0 < self.requests < math.inf:
            raise UsageError(f"A rate is a number above 0, got {self.requests:g}.", _HINT)

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read a rate as a user writes it.

        Raises:
            UsageError: When the text is none of `N/s`, `N/m`, `N/h`, `auto` and `unlimited`.

        >>> Rate.parse("600/m").per_s
        10.0
        """
        word = text.strip().lower()
        if word == "auto":
            return cls(kind="auto")
        if word == "unlimited":
            return cls(kind="unlimited")
        found = _FIXED.fullmatch(word)
        if found is None:
            raise UsageError(f"A rate is a number a second, minute or hour, got {text!r}.", _HINT)
        return cls(requests=float(found[1]), period_s=_PERIODS_S[found[2]])

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
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # The asctime form names no zone; RFC 9110 says it is UTC.
    return when if when.tzinfo else when.replace(tzinfo=UTC)


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
