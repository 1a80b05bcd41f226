"""A range's talk with the coordinator, over Dask's own topics: reports go out, shares and orders come in.

Nobody here ever connects to the coordinator or listens for it: a worker speaks with its scheduler alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from distributed import get_client

from exporter.fetch.cluster.messages import REPORTS, WORDS, Assignment, Figures, Report, Standing, Word
from exporter.fetch.cluster.worker_pace import SharePace
from exporter.model.run_statistics import Statistics
from exporter.system.stopping import Stop

#: A lost coordinator is waited for so long; then nobody needs what is fetched here.
PATIENCE_S = 30.0
_REPORT_EVERY_S = 0.2
_MOST_LOGS = 1000
#: Every range that is being done in this process; changed from their own threads.
_all: set[Reporter] = set()


class Reporter(logging.Handler):
    """One range's reports from Dask's `worker`; made by `reporting`. Also where the range's log goes."""

    def __init__(self, assignment: Assignment, worker: Any) -> None:
        super().__init__(logging.INFO)
        self.pace = SharePace()
        self.statistics = Statistics(time.monotonic)
        self.stop = Stop()
        self.standing: Callable[[], Standing | None] = lambda: None
        self.check = assignment.check
        self._assignment = assignment
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._seat = uuid.uuid4().hex
        self._serial = 0
        self._refused_in = 0
        self._heard_at = time.monotonic()
        self._logs: deque[tuple[int, str, str]] = deque(maxlen=_MOST_LOGS)
        if assignment.unlimited:
            self.pace.share(math.inf)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of the log for the next report."""
        self._logs.append((record.levelno, str(record.msg), record.getMessage()))

    async def keep_reporting(self) -> None:
        """Report until cancelled; ask for the range's end when nobody can want it any more."""
        while True:
            self.report()
            if time.monotonic() - self._heard_at > PATIENCE_S or self._worker.status.name != "running":
                self.end(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_EVERY_S):
                    await self.pace.changed.wait()
            self.pace.changed.clear()

    def report(self, *, over: bool = False) -> None:
        """Send what has come together since the last report."""
        pace = self.pace
        self._serial += 1
        if pace.refusals:
            self._refused_in = self._serial
        report = Report(
            try_id=self.check.try_id,
            seat=self._seat,
            index=self._assignment.index,
            worker=self._worker.address,
            serial=self._serial,
            concurrency=self._assignment.concurrency,
            share_per_s=pace.share_per_s,
            started=pace.started,
            answers=pace.answers,
            answers_s=pace.answers_s,
            latency_s=pace.latency_s,
            refusals=pace.refusals,
            figures=self._figures(),
            standing=self.standing(),
            logs=[self._logs.popleft() for _ in range(len(self._logs))],
            over=over,
        )
        pace.answers, pace.answers_s, pace.refusals = 0, 0.0, []
        self._worker.log_event(REPORTS, msgspec.json.encode(report).decode())

    def hear(self, word: Word) -> None:
        """Take in what the coordinator says; from any thread."""
        with suppress(RuntimeError):  # this range has just ended
            self._loop.call_soon_threadsafe(self._heed, word)

    def _heed(self, word: Word) -> None:
        if word.try_id != self.check.try_id:
            return
        self._heard_at = time.monotonic()
        share, known = word.shares.get(self._seat, (0.0, -1))
        if known >= self._refused_in and not self.pace.refusals:  # else it does not know of them yet
            self.pace.share(math.inf if share is None else share)
        if word.stop is not None:
            self.end(word.stop)

    def end(self, signal_number: int) -> None:
        """Ask for the end of the range, unless that was done."""
        if not self.stop.asked:
            self.stop.ask(signal_number)

    def end_from_elsewhere(self) -> None:
        """Ask for the end of the range from another thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.end, signal.SIGTERM)

    def _figures(self) -> Figures | None:
        counted = self.statistics
        if not any(counted.latency_counts):
            return None
        figures = Figures(
            latency_counts=counted.latency_counts,
            latency_sum_s=counted.latency_sum_s,
            statuses=dict(counted.statuses),
            failures=dict(counted.failures),
        )
        counted.latency_counts = [0] * len(counted.latency_counts)
        counted.latency_sum_s = 0.0
        counted.statuses.clear()
        counted.failures.clear()
        return figures


def listen() -> None:
    """Have this process's ranges hear what coordinators say; call it in the thread of a task."""
    client: Any = get_client()
    client.subscribe_topic(WORDS, _hear)


def _hear(event: tuple[float, str]) -> None:
    word = msgspec.json.decode(event[1], type=Word)
    for reporter in list(_all):
        reporter.hear(word)


def stop_older_tries(folder: str, try_id: str) -> None:
    """Have this process's ranges of other tries in the same folder end: nobody waits for them."""
    for reporter in list(_all):
        if reporter.check.folder == folder and reporter.check.try_id != try_id:
            reporter.end_from_elsewhere()


@asynccontextmanager
async def reporting(assignment: Assignment, worker: Any) -> AsyncIterator[Reporter]:
    """Report for the length of the block; the range's log goes through it."""
    reporter = Reporter(assignment, worker)
    logger = logging.getLogger("exporter")
    logger.addHandler(reporter)
    logger.setLevel(logging.INFO)
    _all.add(reporter)
    keeping = asyncio.create_task(reporter.keep_reporting())
    try:
        yield reporter
    finally:
        _all.discard(reporter)
        logger.removeHandler(reporter)
        keeping.cancel()
        reporter.report(over=True)
