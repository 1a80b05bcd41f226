"""A worker's link to the coordinator: reports go out, slots and orders come in; and what to do without it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from exporter.fetch.cluster.broker import BEAT_S
from exporter.fetch.cluster.dask_connections import CommClosedError, Wire, connected
from exporter.fetch.cluster.leases import LeasedPace
from exporter.fetch.cluster.messages import Assignment, Figures, Hello, Report, Standing, Word
from exporter.model.run_statistics import Statistics
from exporter.system.stopping import Stop
from exporter.system.task_groups import task_group

#: A lost coordinator is waited for so long; then nobody needs what is fetched here.
PATIENCE_S = 30.0
_SILENCE_S = 3 * BEAT_S
_REPORT_EVERY_S = 0.25
_BATCH_S = 0.010
_AGAIN_S = 0.5
_CONNECT_S = 5.0
_RECONNECT_S = 1.0
_FAREWELL_S = 2.0
_MOST_LOGS = 1000


class LinkLostError(Exception):
    """Raised when the coordinator cannot be reached in the first place."""


class Link(logging.Handler):
    """One range's link; made by `open_link`. Also where the range's log goes.

    Args:
        assignment: The range.
        connect_args: For the connection, as TLS needs them.
        beacon: The file that names the coordinator's try.
    """

    def __init__(self, assignment: Assignment, connect_args: dict[str, Any], beacon: Path) -> None:
        super().__init__(logging.INFO)
        self.pace = LeasedPace()
        self.statistics = Statistics(time.monotonic)
        self.stop = Stop()
        self.standing: Callable[[], Standing | None] = lambda: None
        self.secrets: dict[str, str | None] | None = None
        self.abandoned = False
        self._over = False
        self._is_up = False
        self._assignment = assignment
        self._connect_args = connect_args
        self._beacon = beacon
        self._logs: deque[tuple[int, str, str]] = deque(maxlen=_MOST_LOGS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of the log for the next report."""
        self._logs.append((record.levelno, str(record.msg), record.getMessage()))

    async def connect(self, timeout_s: float = _CONNECT_S) -> Wire:
        """Connect, introduce ourselves and hear the first word.

        Args:
            timeout_s: Seconds to try.

        Raises:
            LinkLostError: The coordinator does not answer.
        """
        try:
            wire = await connected(self._assignment.coordinator, timeout_s, self._connect_args)
            hello = Hello(try_id=self._assignment.try_id, index=self._assignment.index)
            await wire.write(msgspec.msgpack.encode(hello))
            async with asyncio.timeout(_CONNECT_S):
                word = msgspec.msgpack.decode(await wire.read(), type=Word)
        except OSError as error:
            raise LinkLostError(f"{self._assignment.coordinator}: {error}") from None
        self.secrets = word.secrets or self.secrets
        self.pace.linked()
        self._heed(word)
        return wire

    async def keep(self, wire: Wire) -> None:
        """Keep the link up; when it is lost, go on alone, and stop when it does not come again."""
        current: Wire | None = wire
        while current is not None:
            try:
                self._is_up = True
                await self._talk(current)
            except (CommClosedError, TimeoutError):
                self._is_up = False
                self.pace.lost()
            finally:
                await current.close()
            if self._over:
                return
            current = await self._reconnected()
        self.abandoned = True
        self.stop.ask(signal.SIGTERM)

    async def finish(self, keeping: asyncio.Task[None]) -> None:
        """Send a last report, after which the coordinator closes the link, and end `keep`."""
        self._over = True
        self.pace.changed.set()
        if self._is_up:
            await asyncio.wait({keeping}, timeout=_FAREWELL_S)
        keeping.cancel()
        await asyncio.wait({keeping})

    async def report(self, wire: Wire, *, last: bool = False) -> None:
        """Send what has come together since the last report; after the `last` the coordinator hangs up."""
        pace, logs = self.pace, [self._logs.popleft() for _ in range(len(self._logs))]
        standing = self.standing()
        report = Report(
            asked=pace.asked(None if standing is None else standing.left),
            latencies=pace.latencies,
            refusals=pace.refusals,
            figures=self._figures(),
            standing=standing,
            logs=logs,
            last=last,
        )
        pace.latencies, pace.refusals = [], []
        await wire.write(msgspec.msgpack.encode(report))

    async def _talk(self, wire: Wire) -> None:
        async with task_group() as group:
            speaking = group.create_task(self._speak(wire))
            try:
                while True:
                    async with asyncio.timeout(_SILENCE_S):
                        data = await wire.read()
                    self._heed(msgspec.msgpack.decode(data, type=Word))
            finally:
                speaking.cancel()

    async def _speak(self, wire: Wire) -> None:
        last = False
        while not last:
            await self._until_changed()
            last = self._over
            await self.report(wire, last=last)

    async def _until_changed(self) -> None:
        changed = self.pace.changed
        try:
            async with asyncio.timeout(_REPORT_EVERY_S):
                await changed.wait()
                if not (self.pace.refusals or self._over):
                    await asyncio.sleep(_BATCH_S)
        except TimeoutError:
            pass
        changed.clear()

    async def _reconnected(self) -> Wire | None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._is_ours():
            try:
                return await self.connect(_RECONNECT_S)
            except LinkLostError:
                await asyncio.sleep(_AGAIN_S)
        return None

    def _is_ours(self) -> bool:
        """Tell whether no other try has begun meanwhile."""
        try:
            return self._beacon.read_text() == self._assignment.try_id
        except OSError:
            return False

    def _heed(self, word: Word) -> None:
        self.pace.heard(word)
        if word.stop is not None and not self.stop.asked:
            self.stop.ask(word.stop)

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


@asynccontextmanager
async def open_link(
    assignment: Assignment, connect_args: dict[str, Any], beacon: Path
) -> AsyncIterator[Link]:
    """Hold a link for the length of the block; the range's log goes through it.

    Raises:
        LinkLostError: The coordinator does not answer.
    """
    link = Link(assignment, connect_args, beacon)
    wire = await link.connect()
    logger = logging.getLogger("exporter")
    logger.addHandler(link)
    logger.setLevel(logging.INFO)
    keeping = asyncio.create_task(link.keep(wire))
    try:
        yield link
    finally:
        logger.removeHandler(link)
        await link.finish(keeping)
