"""What travels between the coordinator and a worker: through the scheduler, over a link, and in files.

Nothing here holds a credential but `Word.secrets`, which goes to local workers only, over loopback.
"""

from __future__ import annotations

from typing import Any

import msgspec

from exporter.dataset.publishing.publish_job import PublishResult
from exporter.model.errors import ToldError
from exporter.model.freshness import Freshness
from exporter.model.records import Traffic


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One range, as a worker is asked to do it.

    Attributes:
        version: The coordinator's.
        try_id: Names the coordinator's try; only who knows it may speak to the coordinator.
        index: Which range.
        folder: Its folder, on a file system that all workers see.
        out: Where the dataset will stand; names the run in the range's store.
        options: The options but for the secret ones.
        is_local: Whether those come over the link.
        freshness: What counts as done.
        coordinator: The address of the coordinator's broker.
        concurrency: Requests in flight, at most.
        good_number: An order that the API is known to answer, or None.
        key: What a result must be of to be used again.
    """

    version: str
    try_id: str
    index: int
    folder: str
    out: str
    options: dict[str, Any]
    is_local: bool
    freshness: Freshness
    coordinator: str
    concurrency: int
    good_number: str | None
    key: str


class RangeResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a range ended; one of `result`, `error` and `again` is set.

    Attributes:
        key: See `Assignment`.
        try_id: The try that finished it.
        result: What stands in its folder.
        staged: The folder of its files, inside its own.
        traffic: Requests that reached the wire for it, in all tries.
        good_number: An order that the API answered, or None.
        error: One of our errors.
        again: Why it was left unfinished without an error.
    """

    key: str
    try_id: str
    result: PublishResult | None = None
    staged: str = ""
    traffic: Traffic = Traffic()
    good_number: str | None = None
    error: ToldError | None = None
    again: str | None = None


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's first message on its link; see `Assignment`."""

    try_id: str
    index: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What `Statistics` counted since the last report."""

    latency_counts: list[int]
    latency_sum_s: float
    statuses: dict[str, int]
    failures: dict[str, int]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a range is.

    Attributes:
        pending: Order numbers that this try had to ask for.
        fetched: Fetched by it.
        rejected: Rejected by it.
        retried: Requests that asked again.
        throttled: Requests that were answered 429.
        waiting: Orders that wait for another attempt.
        published: Order numbers through the tables.
    """

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
    """What a worker tells the coordinator, a few times a second.

    Attributes:
        asked: Slots that it has ever wanted.
        latencies: Of the answers since the last report, in seconds.
        refusals: (Retry-After or None, latency) of each 429 since then.
        figures: What was counted since then; None for nothing.
        standing: How far it is; None until it knows.
        logs: (level, template, text) of each line of the log.
        last: Whether nothing will follow.
    """

    asked: int = 0
    latencies: list[float] = []
    refusals: list[tuple[float | None, float | None]] = []
    figures: Figures | None = None
    standing: Standing | None = None
    logs: list[tuple[int, str, str]] = []
    last: bool = False


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the coordinator tells a worker.

    Attributes:
        slots: Ages of the slots that it may use, in seconds.
        voided: Whether every slot that it was given before is void.
        free: Whether nothing bounds the pace: no slots are needed.
        share_per_s: The pace to go on with alone; None for no bound.
        paused_s: Seconds until the pause's end; 0 while nobody waits.
        stop: The signal to stop for.
        secrets: Options that are secret; in the first word to a local worker.
    """

    slots: list[float] = []
    voided: bool = False
    free: bool = False
    share_per_s: float | None = None
    paused_s: float = 0.0
    stop: int | None = None
    secrets: dict[str, str | None] | None = None
