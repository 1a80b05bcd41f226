"""The store's payloads into tables, tables into files: all in input order, while the refresh still runs.

`publish_tables` follows the plan from its first line: what is settled is flattened and written; at a
number that is still pending it waits. It needs nothing but the store and the plan, so it runs in a
process of its own (`publisher`), where its Python work cannot starve the fetching loop. The same store
gives the same bytes, whatever the order in which the answers came.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import compress, islice, repeat
from pathlib import Path

import pyarrow as pa

from exporter.dataset.dataset_writer import DatasetWriter, schemas_of
from exporter.dataset.flatten import Drift
from exporter.dataset.publishing.block_flattening import (
    BLOCK,
    READ,
    READ_BYTES,
    Flattened,
    Flattening,
    Piece,
)
from exporter.dataset.publishing.flattening_processes import Flatteners
from exporter.dataset.publishing.publish_job import PublishJob, PublishProgress, PublishResult
from exporter.model.manifest import REJECTS_FILE, STALE_FILE, time_text
from exporter.model.options import MIB
from exporter.model.outside_text import json_line
from exporter.store.order_store import PlannedOrder, Store
from exporter.system import durable

#: Orders to a row group. Each group leaves 105 KiB in the file's footer, which Arrow holds to the end: with 10,000
#: the process has 121 MiB at 100,000 orders and 132 at a million, with 15,000 134 and 143 (measured 2026-11-24).
#: What grows less was chosen.
ORDERS_PER_ROW_GROUP = 15_000
#: Where orders are large, fewer of them make a row group.
_ROW_GROUP_BYTES = 96 * MIB
_WAIT_S = 0.1
# So many lines are a second of flattening; processes take a third of that to start. Reading and writing takes a third of what
# flattening does, so more processes than these would wait for it.
_WORTH_SPREADING = 50_000
_MOST_FLATTENERS = 4
_TELL_EVERY_S = 0.5

_Reject = tuple[int, str, str, int | None, int, str]


def publish_tables(
    job: PublishJob,
    refresh_is_over: Callable[[float], bool],
    tell: Callable[[PublishProgress], None],
    cores: int = 1,
) -> PublishResult:
    """Write every table and the rejects into the empty folder `job.staged`, onto the disk.

    `refresh_is_over` waits up to that many seconds, and says whether nothing more will be settled; `tell` is told
    twice a second how far it is. Once nothing more will be settled, other processes flatten what is left on so many
    `cores`. A `StorageError` where the disk refuses, the store is damaged, or such a process breaks.
    """
    with closing(Store(Path(job.store), readonly=True)) as store:
        store.attach_plan(Path(job.plan))
        return _Publish(job, store, tell, cores).run(refresh_is_over)


class _Publish:
    def __init__(
        self, job: PublishJob, store: Store, tell: Callable[[PublishProgress], None], cores: int
    ) -> None:
        self._job, self._store, self._tell, self._cores = job, store, tell, cores
        self._told_at = 0.0
        self._writer = DatasetWriter(Path(job.staged), schemas_of(job), job, job.about)
        self._line, self._is_over = -1, False
        self._through = self._exported = self._order_items = self._stale = self._rejected_from = 0
        self._drift = Drift()
        self._in_group = self._group_bytes = 0

    def run(self, refresh_is_over: Callable[[float], bool]) -> PublishResult:
        with self._writer as writer:
            for piece, tables in self._pieces(refresh_is_over):
                self._add(piece)
                writer.add(tables)
                if self._in_group >= ORDERS_PER_ROW_GROUP or self._group_bytes >= _ROW_GROUP_BYTES:
                    self._end_row_group()
            self._end_row_group()
            first = self._rejected_from or self._store.last_line() + 1
            listed = self._store.rejects(self._job.freshness, first)
            rejects = self._list(REJECTS_FILE, "the rejects", zip(listed, repeat(None)))
            stale: dict[str, int] = {}
            if self._stale:  # what is published as it was last had; none makes no file
                kept = self._store.stale(self._job.freshness)
                stale = self._list(STALE_FILE, "the stale orders", kept)
            files = writer.close(self._counts(rejects))
        return PublishResult(
            exported=self._exported,
            order_items=self._order_items,
            rejects_by_reason=rejects,
            stale_by_reason=stale,
            files=files,
            drift=self._drift.counts(),
        )

    def _pieces(self, refresh_is_over: Callable[[float], bool]) -> Iterator[Flattened]:
        """Yield what is settled, flattened, in the plan's order: here, or by other processes what is left when all of it is."""
        orders, flattening = self._settled(refresh_is_over), Flattening(self._job, self._store)
        while not self._is_worth_spreading():
            before = self._line
            yield from flattening(islice(orders, BLOCK))
            if self._line == before:
                return
        if "jemalloc" in pa.supported_memory_backends():
            # Nobody fetches beside this any more: it may have 12 MiB for half the system's time (measured 2026-11-30).
            pa.set_memory_pool(pa.jemalloc_memory_pool())
        with Flatteners(self._job, self._line, min(self._cores, _MOST_FLATTENERS)) as flatteners:
            for flattened in flatteners:
                self._through += flattened.piece.numbers
                self._tell_sometimes()
                yield flattened

    def _is_worth_spreading(self) -> bool:
        return self._is_over and self._cores > 1 and self._store.last_line() - self._line >= _WORTH_SPREADING

    def _settled(self, refresh_is_over: Callable[[float], bool]) -> Iterator[PlannedOrder]:
        """Yield what is settled, in the plan's order, until the refresh is over and all of it is."""
        wait_s = 0.0
        while True:
            # Asked before reading: what was settled before the answer is seen by the query after it.
            over = self._is_over = refresh_is_over(wait_s)
            planned = self._store.planned(self._job.freshness, self._line, limit=READ, limit_bytes=READ_BYTES)
            is_settled = [order.state is not None for order in planned]
            if over and not planned:
                return
            if over and not all(is_settled):  # a bug of ours
                raise AssertionError("the refresh is over, and an order is still pending")
            for order in compress(planned, is_settled):
                self._line = order.line
                self._through += 1
                yield order
            self._tell_sometimes()
            wait_s = 0.0 if over or (planned and all(is_settled)) else _WAIT_S

    def _tell_sometimes(self) -> None:
        if time.monotonic() - self._told_at >= _TELL_EVERY_S:
            self._told_at = time.monotonic()
            self._tell(PublishProgress(self._through, self._drift.counts()))

    def _add(self, piece: Piece) -> None:
        self._exported += piece.orders
        self._order_items += piece.items
        self._stale += piece.stale
        self._rejected_from = self._rejected_from or piece.rejected_from
        self._in_group += piece.orders
        self._group_bytes += piece.size
        self._drift.add(piece.drift)

    def _end_row_group(self) -> None:
        self._writer.end_row_group()
        # What it needed and freed is given back, or it piles up in pieces over many row groups.
        pa.default_memory_pool().release_unused()
        self._in_group = self._group_bytes = 0

    def _counts(self, rejects_by_reason: dict[str, int]) -> dict[str, str]:
        rejects = ", ".join(f"{reason} {count:,}" for reason, count in rejects_by_reason.items())
        counts = {"Orders": f"{self._exported:,}", "Items": f"{self._order_items:,}"}
        return {**counts, "Rejected": rejects or "none"}

    def _list(self, name: str, what: str, rejects: Iterable[tuple[_Reject, float | None]]) -> dict[str, int]:
        """Write rejects, each with when it was fetched, as lines of JSON; return their reasons with counts."""
        reasons: Counter[str] = Counter()
        path = Path(self._job.staged, name)
        with durable.storage_errors(f"writing {what}", path):
            durable.write_lines(path, (_line(reasons, *each) for each in rejects), mode=None)
        return dict(reasons)


def _line(reasons: Counter[str], facts: _Reject, fetched_at: float | None) -> bytes:
    line, number, reason, http_status, attempts, detail = facts
    reasons[reason] += 1
    reject = {"order_number": number, "line": line, "reason": reason, "http_status": http_status}
    reject |= {"attempts": attempts, "detail": detail}
    if fetched_at is not None:
        reject["fetched_at"] = time_text(fetched_at)
    return json_line(reject).encode() + b"\n"
