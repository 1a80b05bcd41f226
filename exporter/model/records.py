"""The frozen values that travel between rooms."""

import operator
from dataclasses import astuple, dataclass, field
from typing import NamedTuple, Self

# Outcome and Answer are named tuples: one of each is made for every order, and a frozen dataclass takes
# five times as long to make (1.5 µs against 0.3, measured 2026-11-24).

FETCHED = "fetched"

#: Why an order number ended without rows, in the order in which reports list them.
REJECT_REASONS = (
    "invalid_order_number",
    "not_found",
    "forbidden",
    "client_error",
    "bad_response",
    "unavailable",
)


class Outcome(NamedTuple):
    """How one order number ended: fetched with its payload, or rejected with a reason."""

    order_number: str
    state: str  # `fetched`, or one of `REJECT_REASONS`
    settled_at: float  # seconds since the epoch
    attempts: int  # without those that were answered 429
    http_status: int | None = None  # None without an answer
    order_status: str | None = None  # the order's own, where the payload has one
    detail: str | None = None  # why it was rejected, without personal data
    payload: bytes | None = None
    source: str = "detail"  # of the payload, or `list`
    list_digest: str | None = None  # of its entry in the list


class Answer(NamedTuple):
    """What one successful attempt brought: the order's JSON as received, decompressed, and its own status code."""

    payload: bytes
    order_status: str | None
    http_status: int = 200


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests that reached the wire: `sent` = first attempts + the three others."""

    sent: int = 0
    retried: int = 0
    throttled: int = 0
    redirected: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: Self) -> Self:
        return type(self)(*map(operator.sub, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the store remembers it; a resumed run keeps its identity and its start."""

    run_id: str
    started_at: float
    resumed: bool
    traffic: Traffic = field(default_factory=Traffic)  # of its earlier tries
    answered_at: float | None = None  # when the last answer came that was kept
    dropped: "RunRecord | None" = None  # the unfinished run that was too old, so that this one began


@dataclass(frozen=True, slots=True)
class PartFile:
    """One finished file of a table; its path is relative to the dataset, with forward slashes."""

    path: str
    rows: int
    bytes: int
    sha256: str
