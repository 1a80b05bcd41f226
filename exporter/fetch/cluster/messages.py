"""What travels between the coordinator and a worker, always through what Dask itself authenticates, and in files.

Nothing here holds a credential, nor a hash of one that was made without a key.
"""

from __future__ import annotations

from typing import Any

import msgspec

from exporter.dataset.publishing.publish_job import PublishResult
from exporter.model.errors import ToldError
from exporter.model.freshness import Freshness
from exporter.model.records import Traffic

#: Dask's topics, on which every worker reports and every coordinator speaks. The scheduler keeps the last
#: thousand messages of each topic: with one for each try it would keep ever more.
REPORTS, WORDS = "omnitron-exporter-reports", "omnitron-exporter-words"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker must agree with to take part.

    A file in `folder`, which all workers see, holds `try_id`. The secret `options` are not here; `pii_mark` is what
    the coordinator's `EXPORTER_PII_KEY` makes of the run's name, None where nothing is hashed.
    """

    version: str
    folder: str
    try_id: str
    run_id: str
    options: dict[str, Any]
    pii_mark: str | None


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One range, as a worker is asked to do it.

    Attributes:
        check: Looked at before anything is done: the worker may have come late.
        out: Where the dataset will stand; names the run in the range's store.
        good_number: An order that the API is known to answer, or None.
        answered: Whether the API has answered this try; what goes wrong later may be an outage.
        unlimited: Whether it need not wait for a share.
        key: What a result must be of to be used again.
    """

    check: Check
    index: int
    folder: str
    out: str
    freshness: Freshness
    concurrency: int
    good_number: str | None
    answered: bool
    unlimited: bool
    key: str


class RangeResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a range ended; one of `result`, `error` and `again` (why it was left unfinished without one) is set.

    The range's folder holds the `staged` folder of its files; `traffic` is that of all tries.
    """

    key: str
    try_id: str
    worker: str = ""
    result: PublishResult | None = None
    staged: str = ""
    traffic: Traffic = Traffic()
    good_number: str | None = None
    error: ToldError | None = None
    again: str | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What `Statistics` counted since the last report."""

    latency_counts: list[int]
    latency_sum_s: float
    statuses: dict[str, int]
    failures: dict[str, int]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a range is; `pending` are the order numbers that this try had to ask for, the rest as in `Progress`."""

    pending: int
    fetched: int = 0
    rejected: int = 0
    retried: int = 0
    throttled: int = 0
    waiting: int = 0
    published: int = 0

    @property
    def left(self) -> int:
        """Order numbers that are still to be settled."""
        return self.pending - self.fetched - self.rejected


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a range tells the coordinator, several times a second.

    Attributes:
        seat: Names this doing of the range: it may be done again elsewhere.
        serial: Counts this seat's reports.
        share_per_s: The share that it keeps to; None for no bound.
        started: Requests that it has started.
        answers: Answers since the last report, refusals aside, which took `answers_s` together.
        latency_s: What one takes of late; None before the first.
        refusals: (Retry-After or None, latency, what was answered) of each 429 since the last report.
        logs: (level, template, text) of each line of the log.
        over: Whether it needs no share any more, and nothing will follow.
    """

    try_id: str
    seat: str
    index: int
    worker: str
    serial: int
    concurrency: int
    share_per_s: float | None = 0.0
    started: int = 0
    answers: int = 0
    answers_s: float = 0.0
    latency_s: float | None = None
    refusals: list[tuple[float | None, float | None, str]] = []
    figures: Figures | None = None
    standing: Standing | None = None
    logs: list[tuple[int, str, str]] = []
    over: bool = False


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the coordinator tells all ranges, once a second and whenever it changes.

    `shares` holds each seat's share (None for no bound) and the last of its reports that the share knows of; `stop`
    is the signal to stop for.
    """

    try_id: str
    shares: dict[str, tuple[float | None, int]] = {}
    stop: int | None = None
