"""Pending order numbers through workers into the store.

A fixed set of workers takes numbers, asks for each until it is settled, and hands the outcome to the
recorder, which commits them in batches. The store has a thread of its own. No task outlives `refresh`.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from exporter.api.client import Client, open_client
from exporter.api.outage import FIRST_OF_LIST, OutageWatch
from exporter.api.pace import Gate
from exporter.fetch.buffers import Pending, Recorder, Try
from exporter.fetch.reject_limit import raise_stopped_early
from exporter.model.errors import AttemptError, InterruptedRunError, ThrottledError, TransientError
from exporter.model.options import Options
from exporter.model.proof_law import IN_A_ROW, Throttles
from exporter.model.rate import backoff_s, concurrency_hint
from exporter.model.records import FETCHED, Answer, Outcome, RunRecord, Traffic
from exporter.model.run_statistics import Statistics
from exporter.store.order_store import Freshness, Store
from exporter.system.log import log
from exporter.system.stopping import Stop, task_group

_CHUNK = 1000
_GRACE_S = 8.0
_HINT_AFTER = 50
_HINT = (
    "--concurrency %d limits the run: answers take %.2f s, so at most %.0f of the permitted %g requests a second are"
    " used. Set --concurrency %d."
)
_AT_ONCE = "Ctrl-C again: at once"
#: A last attempt is made so long after the one before it, at the least.
_LATER_S = 2.0
_MOST_LATER = 10_000

#: Has something done on the store's own thread.
OnStore = Callable[..., asyncio.Future[Any]]


class Standing(NamedTuple):
    """How far a refresh and its publishing are, in the words of `Progress`."""

    pending_at_start: int = 0
    fetched: int = 0
    rejected: int = 0
    retried: int = 0
    throttled: int = 0
    waiting: int = 0
    published: int = 0

    @property
    def left(self) -> int:
        """Order numbers that are still to be settled."""
        return self.pending_at_start - self.fetched - self.rejected


class Tally:
    """What one refresh has settled and sent so far, at which pace, of so many `pending` order numbers."""

    def __init__(self, pace: Gate, pending: int = 0) -> None:
        self.pace, self.pending = pace, pending
        self.statistics = Statistics(time.monotonic, lambda: pace.snapshot().permitted_per_s)
        self.fetched = self.rejected = self.backing_off = 0
        self.traffic: Callable[[], Traffic] = Traffic
        self.down_since: Callable[[], float | None] = lambda: None

    def standing(self, published: int = 0) -> Standing:
        """Return how far it is."""
        sent, settled = self.traffic(), (self.fetched, self.rejected)
        return Standing(self.pending, *settled, sent.retried, sent.throttled, self.backing_off, published)


class Refusal(NamedTuple):
    """A reject, if it is proven; else the order is requested again."""

    outcome: Outcome
    again: Try


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """All that one try of a run refreshes with; the store has the plan attached.

    `good_number` is an order that the API has answered for somebody else; whether it has `answered` anybody in this
    run.
    """

    options: Options
    store: Store
    freshness: Freshness
    record: RunRecord
    stop: Stop
    good_number: str | None = None
    answered: bool = False


async def refresh(job: Refresh, tally: Tally, most_rejects: int | None = None) -> None:
    """Ask for every pending order number of the plan and commit how each ended; `tally` is kept up to date.

    With more than `most_rejects` new rejects nothing can be published, and no more is asked for.

    Raises:
        ApiUnavailableError: The API serves no orders; what was fetched is kept.
        TokenRefusedError: The API refuses the token; what was fetched is kept.
        TooManyRejectsError: More orders are rejects than may be; what was fetched is kept.
        InterruptedRunError: The end was asked for; what was fetched is kept.
        StorageError: The store cannot be written.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="store") as thread:
        async with open_client(job.options, tally.pace, tally.statistics, answered=job.answered) as client:
            tally.traffic = lambda: client.traffic
            on_store = partial(asyncio.get_running_loop().run_in_executor, thread)
            await _Crew(job, tally, most_rejects, client, on_store).work()
    if job.stop.asked:
        raise stopped(job.stop, tally.fetched + tally.rejected)


def stopped(stop: Stop, settled: int) -> InterruptedRunError:
    """Return the error that ends a refresh when the end is asked for."""
    what = f"Stopped by a signal after {settled} orders of this try; they are kept."
    return stop.error(what, "Run the same command again to resume.")


class _Crew:
    def __init__(
        self, job: Refresh, tally: Tally, most_rejects: int | None, client: Client, on_store: OnStore
    ) -> None:
        self._job, self._tally, self._client, self._on_store = job, tally, client, on_store
        self._most_rejects = math.inf if most_rejects is None else most_rejects
        self._is_over_limit = tally.rejected > self._most_rejects
        self._pending = Pending(
            lambda line: on_store(job.store.pending, job.freshness, line, _CHUNK), job.stop
        )
        self._recorder = Recorder(partial(on_store, job.store.settle, job.record.run_id), tally.traffic)
        self._outage: OutageWatch[Refusal] = OutageWatch(
            client,
            self._known_numbers,
            lambda refusal: self._record(refusal.outcome),
            lambda refusal: self._pending.put_back(refusal.again),
            job.options,
            job.stop,
        )
        tally.down_since = lambda: self._outage.down_since
        self._workers: list[asyncio.Task[None]] = []
        self._last_good: str | None = None
        self._good = self._throttled = 0
        #: At the end of the line: what failed by what passes, up to its last attempt.
        self._later: list[Try] = []
        self._later_since = 0.0

    async def work(self) -> None:
        try:
            async with task_group() as group:
                recorder = group.create_task(self._recorder.run())
                watcher = group.create_task(self._watch_stop())
                await self._ask_all(group)
                while await self._is_more():
                    await self._ask_all(group)
                watcher.cancel()
                self._recorder.close()
                await recorder
        finally:
            await self._recorder.flush(last=True)
        if self._is_over_limit:
            job = self._job
            await self._on_store(raise_stopped_early, job.store, job.freshness, job.options.max_rejects)

    async def _ask_all(self, group: asyncio.TaskGroup) -> None:
        """Ask until nothing is pending but what is held, or waits at the end of the line."""
        workers = range(self._job.options.concurrency)
        self._workers = [group.create_task(self._worker()) for _ in workers]
        await asyncio.wait(self._workers)

    async def _is_more(self) -> bool:
        """Prove what is held, and call up who waits at the end of the line."""
        if self._is_ending:
            return False
        # While the API answers nobody, a last attempt would be wasted.
        await self._outage.settle()
        if self._later and not self._pending.is_left:
            await self._job.stop.wait(self._later_since + _LATER_S - time.monotonic())
            for last in self._later:
                self._pending.put_back(last)
            self._later.clear()
        return self._pending.is_left and not self._is_ending

    @property
    def _is_ending(self) -> bool:
        return self._job.stop.asked or self._is_over_limit

    async def _worker(self) -> None:
        while not self._is_ending and (next_try := await self._pending.next()) is not None:
            # In a frame of its own: a local name here would keep each worker's last payload alive.
            await self._record(await self._settle(next_try))

    async def _record(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        if outcome.state != FETCHED:
            self._tally.rejected += 1
            self._is_over_limit = self._tally.rejected > self._most_rejects
        else:
            self._tally.fetched += 1
            if self._tally.fetched == _HINT_AFTER:
                self._hint_concurrency()
        await self._recorder.add(outcome)

    async def _settle(self, this: Try) -> Outcome | None:
        """Ask until the order is fetched; None where it is held, waits at the end of the line, or the end came."""
        number, throttles = this.number, None
        next_attempt: int | None = this.attempt
        while next_attempt is not None and not self._is_ending:
            attempt, began = next_attempt, time.monotonic()
            try:
                answer = await self._client.fetch(number, attempt)
            except ThrottledError as error:  # the pace makes everybody wait
                self._throttled += 1
                throttles = throttles or Throttles(self._good, self._throttled)
                if await self._is_alone(throttles):
                    return self._rejected(number, error, attempt)
                if error.is_guess and throttles.is_own_fault:
                    attempt += throttles.attempts(but=1)
                    failure = TransientError(error.what, error.http_status)
                    next_attempt = await self._failed(this._replace(attempt=attempt), failure, began)
                    del failure
                elif error.is_stray:
                    await self._back_off(1)
            except AttemptError as error:
                attempt += throttles.attempts(but=0) if throttles else 0
                next_attempt = await self._failed(this._replace(attempt=attempt), error, began)
            else:
                return await self._fetched(this, attempt, answer, began)
        return None

    async def _failed(self, this: Try, error: AttemptError, began: float) -> int | None:
        """Take in a failed attempt; return the next one after its backoff, or None where none is made now."""
        number, attempt, is_last, _ = this
        is_transient = isinstance(error, TransientError)
        again = this._replace(attempt=attempt + (not is_transient), is_last=is_transient)
        if is_last or not is_transient or attempt >= self._job.options.max_attempts:
            refusal = Refusal(self._rejected(number, error, attempt), again)
            await self._outage.failed(number, error, began, refusal)
            return None
        await self._outage.failed(number, error, began)
        if attempt + 1 >= self._job.options.max_attempts and len(self._later) < _MOST_LATER:
            # What ails it may have passed by the end.
            self._later.append(this._replace(attempt=attempt + 1, is_last=True))
            self._later_since = time.monotonic()
            return None
        await self._back_off(attempt)
        return attempt + 1

    async def _is_alone(self, throttles: Throttles) -> bool:
        """Tell whether an order is throttled while others are answered; where none is left, ask for one."""
        if self._pending.is_read_out and throttles.nobody_answered(self._good) and self._last_good:
            with suppress(AttemptError):
                await self._client.fetch(self._last_good, attempt=2)
                self._good += IN_A_ROW // 4
        return throttles.again(self._good, self._throttled)

    async def _known_numbers(self) -> list[str]:
        """Return orders to ask for, the surest first: one of this try; else one of the store, of the list, far on."""
        if self._last_good is not None:
            return [self._last_good]
        kept = await self._on_store(self._job.store.a_fetched_number)
        numbers = [kept or self._job.good_number, FIRST_OF_LIST, self._pending.furthest]
        return [number for number in numbers if number is not None]

    async def _fetched(self, this: Try, attempt: int, answer: Answer, began: float) -> Outcome:
        self._last_good = this.number
        self._good += 1
        for refusal in self._outage.law.good(began):
            await self._record(refusal.outcome)
        payload, order_status, http_status = answer
        return Outcome(
            *(this.number, FETCHED, self._now(), attempt, http_status, order_status),
            payload=payload,
            list_digest=this.entry,
        )

    def _rejected(self, number: str, error: AttemptError, attempt: int) -> Outcome:
        return Outcome(number, error.reason, self._now(), attempt, error.http_status, detail=error.detail)

    def _now(self) -> float:
        # Never before the try's start, or a clock that was set back would leave the order pending for ever.
        return max(time.time(), self._job.freshness.try_started_at)

    async def _back_off(self, attempt: int) -> None:
        self._tally.backing_off += 1
        try:
            await self._job.stop.wait(backoff_s(attempt, random.random()))  # noqa: S311 - jitter, no secret
        finally:
            self._tally.backing_off -= 1

    async def _watch_stop(self) -> None:
        """Let what is in flight arrive, then end the workers."""
        await self._job.stop.wait()
        log.warning(
            "Stopping: no new requests; waiting up to %.0f s for those in flight (%s).", _GRACE_S, _AT_ONCE
        )
        await self._client.drain(_GRACE_S)
        for worker in self._workers:
            worker.cancel()

    def _hint_concurrency(self) -> None:
        latency_s = self._tally.statistics.mean_latency_s or 0.0
        permitted, given = self._tally.pace.snapshot().per_s, self._job.options.concurrency
        if (wanted := concurrency_hint(permitted, given, latency_s)) is not None:
            log.warning(_HINT, given, latency_s, given / latency_s, permitted, wanted)
