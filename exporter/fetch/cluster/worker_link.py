"""A range's talk with the coordinator, over Dask's own topics: reports go out, shares and orders to stop come in.

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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from exporter.api.pace import CATCH_UP_S, PaceState
from exporter.fetch.cluster.messages import REPORTS, Assignment, Report, Word
from exporter.fetch.refresh import Tally
from exporter.system.stopping import Stop

#: A lost coordinator is waited for so long; then nobody needs what is fetched here.
PATIENCE_S = 30.0
_REPORT_EVERY_S = 0.2
_MOST_LOGS = 1000
_NEW_ANSWER_WEIGHS = 0.1
#: Every range that is being done in this process; changed from their own threads.
_all: set[Link] = set()


class SharePace:
    """Gives each request its slot, evenly spaced in the range's share of the run's rate; see `exporter.api.pace.Gate`.

    Nothing starts before the coordinator has spoken; without it the share stays as it was. `changed` is set when the
    coordinator should know more; the rest is what a `Report` says.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.share_per_s = 0.0
        self.started = self.answers = 0
        self.latency_s: float | None = None
        self.refusals: list[tuple[float | None, float | None, str]] = []
        self._turn = asyncio.Lock()
        self._shared_anew = asyncio.Event()
        self._last = -math.inf

    async def slot(self) -> None:
        """Return when one request may start."""
        if not math.isinf(self.share_per_s):
            async with self._turn:  # first come, first served
                while (wait_s := self._next() - time.monotonic()) > 0:
                    self._shared_anew.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_s if math.isfinite(wait_s) else None):
                            await self._shared_anew.wait()
                # What a late timer loses, up to this, is made up for at once.
                self._last = max(self._next(), time.monotonic() - CATCH_UP_S)
        self.started += 1

    def _next(self) -> float:
        return self._last + 1 / self.share_per_s if self.share_per_s else math.inf

    def share(self, per_s: float) -> None:
        """Take a new share of the rate; zero makes everybody wait."""
        if per_s == self.share_per_s:
            return
        if not self.share_per_s:
            self._last = time.monotonic()  # whoever had it before has just used it
        self.share_per_s = per_s
        self._shared_anew.set()
        self.changed.set()  # what was given up is another's once the coordinator knows

    def throttled(
        self, retry_after_s: float | None, latency_s: float | None = None, cause: str = "429"
    ) -> float | None:
        """Take in a 429: nothing more starts here until the coordinator has spoken."""
        self.refusals.append((retry_after_s, latency_s, cause))
        self.share(0.0)
        self.changed.set()
        return None

    def answered(self, latency_s: float) -> None:
        """Take in an answer that is no 429."""
        self.answers += 1
        before = latency_s if self.latency_s is None else self.latency_s
        self.latency_s = before + _NEW_ANSWER_WEIGHS * (latency_s - before)

    def snapshot(self) -> PaceState:
        """Return that nothing bounds the pace here: the coordinator's is the one to look at."""
        return PaceState(per_s=math.inf, paused_s=None, why="as the coordinator says")


class Link(logging.Handler):
    """One range's link from Dask's `worker`; made by `linked`. Also where the range's log goes.

    `tally` is None until the range knows which order numbers it has to ask for.
    """

    def __init__(self, assignment: Assignment, worker: Any) -> None:
        super().__init__(logging.INFO)
        self.pace, self.stop = SharePace(), Stop()
        self.tally: Tally | None = None
        self._assignment, self._worker = assignment, worker
        self.loop = asyncio.get_running_loop()
        self._seat = uuid.uuid4().hex
        self._heard_at = time.monotonic()
        self._logs: deque[tuple[int, str, str]] = deque(maxlen=_MOST_LOGS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of the log for the next report."""
        self._logs.append((record.levelno, str(record.msg), record.getMessage()))

    def refresh_is_over(self, _wait_s: float) -> bool:
        """See `publish_tables`."""
        if self.stop.asked:
            raise self.stop.error("Stopped while publishing a range.", "")
        return True

    async def keep_reporting(self) -> None:
        """Report until cancelled; ask for the range's end when nobody can want it any more."""
        while True:
            self.report()
            if time.monotonic() - self._heard_at > PATIENCE_S or self._worker.status.name != "running":
                self.stop.ask(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_EVERY_S):
                    await self.pace.changed.wait()
            self.pace.changed.clear()

    def report(self, *, over: bool = False) -> None:
        """Send what has come together since the last report."""
        pace, tally = self.pace, self.tally
        report = Report(
            try_id=self._assignment.check.try_id,
            seat=self._seat,
            index=self._assignment.index,
            worker=self._worker.address,
            share_per_s=pace.share_per_s,
            use_per_s=self._use_per_s(),
            answers=pace.answers,
            latency_s=pace.latency_s,
            refusals=pace.refusals,
            figures=tally.statistics.take() if tally else None,
            standing=tally.standing() if tally else None,
            logs=[self._logs.popleft() for _ in range(len(self._logs))],
            down_since=tally.down_since() if tally else None,
            over=over,
        )
        pace.answers, pace.refusals = 0, []
        self._worker.log_event(REPORTS, msgspec.msgpack.encode(report))

    def _use_per_s(self) -> float | None:
        tally, latency_s = self.tally, self.pace.latency_s
        if tally is None or not (left := tally.standing().left):
            return 0.0
        if latency_s is None:
            return None
        most = max(1, self._assignment.concurrency - tally.backing_off) / max(latency_s, 1e-6)
        return min(most, left) if self.pace.started >= tally.pending else most

    def hear(self, word: Word) -> None:
        """Take in what a coordinator says."""
        check = self._assignment.check
        if word.try_id == check.try_id:
            self._heard_at = time.monotonic()
            self.pace.share(word.shares.get(self._seat, 0.0))
            if word.stop is not None:
                self.stop.ask(word.stop)
        elif word.folder == check.folder:
            self.stop.ask(signal.SIGTERM)


def hear(event: tuple[float, bytes]) -> None:
    """Tell this process's ranges what a coordinator says on `WORDS`."""
    word = msgspec.msgpack.decode(event[1], type=Word)
    for link in list(_all):
        with suppress(RuntimeError):  # this range has just ended
            link.loop.call_soon_threadsafe(link.hear, word)


@asynccontextmanager
async def linked(assignment: Assignment, worker: Any) -> AsyncIterator[Link]:
    """Report for the length of the block; the range's log goes through it."""
    link = Link(assignment, worker)
    logger = logging.getLogger("exporter")
    logger.addHandler(link)
    logger.setLevel(logging.INFO)
    _all.add(link)
    keeping = asyncio.create_task(link.keep_reporting())
    try:
        yield link
    finally:
        _all.discard(link)
        logger.removeHandler(link)
        keeping.cancel()
        link.report(over=True)
