"""Pending order numbers through workers into the store.

A fixed set of workers takes numbers, asks for each until it is settled, and hands the outcome to the
recorder, which commits them in batches on a thread of its own. Every buffer between them is bounded, so
a slow disk slows the fetching. No task outlives `refresh`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from exporter.api.client import Client
from exporter.api.outage import PATIENCE_S, OutageWatch
from exporter.api.pace import Gate
from exporter.model.errors import AttemptError, ThrottledError
from exporter.model.options import MIB, Options
from exporter.model.rate import concurrency_hint
from exporter.model.records import FETCHED, Answer, Outcome, RunRecord, Traffic
from exporter.model.retry import backoff_s, worth_another
from exporter.model.run_statistics import Statistics
from exporter.store.order_store import Freshness, Store
from exporter.system.stopping import Stop
from exporter.system.task_groups import task_group

log = logging.getLogger("exporter")

_CHUNK = 1000
_BATCH = 1000
_BATCH_BYTES = 4 * MIB
#: A kill costs what is in flight and at most this much of answers, with the commit's own time.
_COMMIT_EVERY_S = 0.25
_MOST_WAITING = 2 * _BATCH
_GRACE_S = 8.0
_HINT_AFTER = 50


class Tally:
    """What this refresh has settled so far."""

    def __init__(self) -> None:
        self.settled: Counter[str] = Counter()
        self.backing_off = 0

    @property
    def total(self) -> int:
        """Order numbers settled by this refresh."""
        return self.settled.total()


class Pending:
    """The numbers still to be asked for, read from the store a chunk ahead.

    Args:
        store: With the plan attached; used on `thread` only.
        freshness: What counts as done.
        thread: The store's own thread.
    """

    def __init__(self, store: Store, freshness: Freshness, thread: ThreadPoolExecutor) -> None:
        self._store = store
        self._freshness = freshness
        self._thread = thread
        self._line = -1
        self._ready: deque[str] = deque()
        self._refill = asyncio.Lock()
        self._ahead: asyncio.Future[list[tuple[int, str]]] | None = None
        self.closed = False

    async def next(self) -> str | None:
        """Return the next order number, or None when there is none left or the end was asked for."""
        while not self._ready and not self.closed:
            async with self._refill:
                if not self._ready:
                    await self._take_chunk()
        return None if self.closed else self._ready.popleft()

    @property
    def furthest(self) -> str | None:
        """The last of the numbers that have been read ahead."""
        return self._ready[-1] if self._ready else None

    async def _take_chunk(self) -> None:
        chunk = await (self._ahead or self._read())
        if not chunk:
            self.closed = True
            return
        self._line = chunk[-1][0]
        self._ready.extend(number for _, number in chunk)
        self._ahead = self._read()

    def _read(self) -> asyncio.Future[list[tuple[int, str]]]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._store.pending, self._freshness, self._line, _CHUNK)


class Recorder:
    """Commits outcomes in batches, off the loop.

    Args:
        store: Used on `thread` only.
        run: The run that they belong to.
        traffic: Returns what has reached the wire so far.
        thread: The store's own thread.
    """

    def __init__(
        self, store: Store, run: RunRecord, traffic: Callable[[], Traffic], thread: ThreadPoolExecutor
    ) -> None:
        self._store = store
        self._run_id = run.run_id
        self._traffic = traffic
        self._thread = thread
        self._written = Traffic()
        self._waiting: list[Outcome] = []
        self._bytes = 0
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    async def add(self, outcome: Outcome) -> None:
        """Hand over an outcome; returns at once while there is room."""
        self._waiting.append(outcome)
        self._bytes += len(outcome.payload or b"")
        if len(self._waiting) >= _BATCH or self._bytes >= _BATCH_BYTES:
            self._full.set()
            if len(self._waiting) >= _MOST_WAITING or self._bytes >= 2 * _BATCH_BYTES:
                self._room.clear()
                await self._room.wait()

    async def run(self) -> None:
        """Commit every quarter of a second, or sooner when a batch is full, until closed."""
        while not self._closed:
            try:
                await asyncio.wait_for(self._full.wait(), _COMMIT_EVERY_S)
            except TimeoutError:
                pass
            await self.flush()

    def close(self) -> None:
        """Let `run` commit what is left and end."""
        self._closed = True
        self._full.set()

    async def flush(self, *, last: bool = False) -> None:
        """Commit what waits; `last` commits the traffic even where no outcome waits."""
        self._full.clear()
        batch, self._waiting, self._bytes = self._waiting, [], 0
        self._room.set()
        traffic = self._traffic() - self._written
        if not batch and not (last and traffic.sent):
            return
        self._written += traffic
        loop = asyncio.get_running_loop()
        settled = loop.run_in_executor(self._thread, self._store.settle, self._run_id, batch, traffic)
        # Shielded: a cancelled call that still waits for the thread would never be made, and its batch lost.
        await asyncio.shield(settled)


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """All that one refresh works with.

    Attributes:
        options: What the export is asked to do.
        store: With the plan attached.
        freshness: What counts as done.
        run: The run that this is a try of.
        client: The API.
        pace: The client's pace.
        statistics: The client's; knows the mean latency.
        tally: Kept up to date, for the display.
        stop: The end may be asked for.
        patience_s: Seconds of nothing but failures until the API counts as gone.
        good_number: An order that the API has answered for somebody else, or None.
    """

    options: Options
    store: Store
    freshness: Freshness
    run: RunRecord
    client: Client
    pace: Gate
    statistics: Statistics
    tally: Tally
    stop: Stop
    patience_s: float = PATIENCE_S
    good_number: str | None = None


async def refresh(job: Refresh) -> None:
    """Ask for every pending order number of the plan and commit how each ended.

    Args:
        job: All that it works with.

    Raises:
        ApiUnavailableError: The API does not answer; what was fetched is kept.
        TokenRefusedError: The API refuses the token; what was fetched is kept.
        InterruptedRunError: The end was asked for; what was fetched is kept.
        StorageError: The store cannot be written.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="store") as thread:
        await _Crew(job, thread).work()
    if job.stop.asked:
        raise job.stop.error(
            f"Stopped by a signal after {job.tally.total} orders of this try; they are kept.",
            "The same command goes on from there.",
        )


class _Crew:
    """The workers of one refresh, their recorder and their watchers."""

    def __init__(self, job: Refresh, thread: ThreadPoolExecutor) -> None:
        self._job = job
        self._pending = Pending(job.store, job.freshness, thread)
        self._recorder = Recorder(job.store, job.run, lambda: job.client.traffic, thread)
        self._outage = OutageWatch(
            job.client, self._a_good_number, timeout_s=job.options.timeout_s, patience_s=job.patience_s
        )
        self._thread = thread
        self._workers: list[asyncio.Task[None]] = []
        self._hinted = False

    async def work(self) -> None:
        try:
            async with task_group() as group:
                recorder = group.create_task(self._recorder.run())
                watcher = group.create_task(self._watch_stop())
                self._workers = [
                    group.create_task(self._worker()) for _ in range(self._job.options.concurrency)
                ]
                await asyncio.wait(self._workers)
                watcher.cancel()
                self._recorder.close()
                await recorder
        finally:
            await self._recorder.flush(last=True)
        if not self._job.stop.asked:
            await self._outage.judge_the_end(self._job.tally.settled)

    async def _worker(self) -> None:
        stop = self._job.stop
        while not stop.asked and (number := await self._pending.next()) is not None:
            # In a frame of its own: a local name here would keep each worker's last payload alive.
            await self._record(await self._settle(number))

    async def _record(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._job.tally.settled[outcome.state] += 1
            await self._recorder.add(outcome)

    async def _settle(self, number: str) -> Outcome | None:
        """Ask until the order is settled; None when the end was asked for first."""
        attempt = 1
        while not self._job.stop.asked:
            began = time.monotonic()
            try:
                answer = await self._job.client.fetch(number, attempt)
            except ThrottledError:
                self._outage.answered()  # and ask again: the pace makes everybody wait
            except AttemptError as error:
                await self._outage.failed(number, error, began)
                if not worth_another(error, attempt, self._job.options.max_attempts):
                    return self._rejected(number, error, attempt)
                await self._back_off(attempt)
                attempt += 1
            else:
                return self._fetched(number, answer, attempt)
        return None

    async def _a_good_number(self) -> str | None:
        """Return an order that the API has answered before, or else one that is far from the present ones."""
        loop = asyncio.get_running_loop()
        known = await loop.run_in_executor(self._thread, self._job.store.a_fetched_number)
        return known or self._job.good_number or self._pending.furthest

    def _fetched(self, number: str, answer: Answer, attempt: int) -> Outcome:
        self._outage.answered()
        self._hint_concurrency()
        return Outcome(
            number,
            FETCHED,
            self._now(),
            attempt,
            answer.http_status,
            order_status=answer.order_status,
            payload=answer.payload,
        )

    def _rejected(self, number: str, error: AttemptError, attempt: int) -> Outcome:
        return Outcome(number, error.reason, self._now(), attempt, error.http_status, detail=error.what)

    def _now(self) -> float:
        # Never before the try's start, or a clock that was set back would leave the order pending for ever.
        return max(time.time(), self._job.freshness.try_started_at)

    async def _back_off(self, attempt: int) -> None:
        self._job.tally.backing_off += 1
        try:
            async with asyncio.timeout(backoff_s(attempt, random.random())):  # noqa: S311 - jitter, no secret
                await self._job.stop.wait()
        except TimeoutError:
            pass
        finally:
            self._job.tally.backing_off -= 1

    async def _watch_stop(self) -> None:
        """Let what is in flight arrive, then end the workers."""
        await self._job.stop.wait()
        log.warning(
            "Stopping: no new requests; waiting up to %.0f s for those in flight (Ctrl-C again: at once).",
            _GRACE_S,
        )
        self._pending.closed = True
        await self._job.client.drain(_GRACE_S)
        for worker in self._workers:
            worker.cancel()

    def _hint_concurrency(self) -> None:
        statistics = self._job.statistics
        if self._hinted or sum(statistics.latency_counts) < _HINT_AFTER:
            return
        self._hinted = True
        latency_s = statistics.mean_latency_s or 0.0
        permitted = self._job.pace.snapshot().per_s
        wanted = concurrency_hint(permitted, self._job.options.concurrency, latency_s)
        if wanted is not None:
            log.warning(
                "--concurrency %d is what limits: answers take %.2f s, so at most %.0f of the permitted %g"
                " requests a second are used. Set --concurrency %d.",
                self._job.options.concurrency,
                latency_s,
                self._job.options.concurrency / latency_s,
                permitted,
                wanted,
            )
