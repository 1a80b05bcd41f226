"""The coordinator's side of the links: one pace for the whole cluster, and everybody's reports.

It lives in the coordinator's own process, because an actor dies with the worker that hosts it: this one
is gone only when the run is. Slots are taken from the pace one by one as it gives them, and go in small
batches to those who wait, each with its age; `leases` uses them a fixed lag later.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from exporter.api.pace import Pace
from exporter.fetch.cluster.dask_connections import CommClosedError, Wire, listener
from exporter.fetch.cluster.messages import Figures, Hello, Report, Standing, Word
from exporter.model.errors import ExporterError
from exporter.model.run_statistics import Statistics
from exporter.system.task_groups import task_group

log = logging.getLogger("exporter")

#: Slots wait so long to travel together.
_BATCH_S = 0.010
#: A worker that hears nothing for some of these takes the coordinator for lost.
BEAT_S = 1.0
_SAID_AGAIN_S = 60.0


class _Member:
    """One link: what its range wants, and what it is to be told next."""

    def __init__(self, wire: Wire, index: int) -> None:
        self.wire = wire
        self.index = index
        self.asked = 0
        self.given = 0
        self.slots: list[float] = []
        self.voided = False
        self.news = asyncio.Event()

    @property
    def wants(self) -> bool:
        return self.asked > self.given

    def give(self, at: float) -> None:
        self.given += 1
        self.slots.append(at)
        self.news.set()

    def void(self) -> None:
        self.given -= len(self.slots)
        self.slots.clear()
        self.voided = True
        self.news.set()


class Broker:
    """Gives out the slots of one pace, and takes in what workers report; made by `open_broker`.

    Args:
        pace: The whole cluster's.
        statistics: The run's.
        try_id: What a worker must know to be heard.
        secrets: Options for local workers, in their first word; None for workers elsewhere.
    """

    def __init__(
        self, pace: Pace, statistics: Statistics, try_id: str, secrets: dict[str, str | None] | None
    ) -> None:
        self.address = ""
        self.workers = 1
        self.standings: dict[int, Standing] = {}
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pace = pace
        self._statistics = statistics
        self._try_id = try_id
        self._secrets = secrets
        self._members: list[_Member] = []
        self._wanted = asyncio.Event()
        self._stop: int | None = None
        self._said: dict[str, float] = {}

    def stop(self, signal_number: int) -> None:
        """Make every worker stop, those to come as well."""
        self._stop = signal_number
        for member in self._members:
            member.news.set()

    def fail(self, error: ExporterError) -> None:
        """End the run with this error, unless another has ended it."""
        if not self.failure.done():
            self.failure.set_exception(error)

    def hang_up(self) -> None:
        """Close every link."""
        for member in self._members:
            member.wire.abort()

    async def grant(self) -> None:
        """Take slots from the pace for whoever wants them, until cancelled."""
        while True:
            if not any(member.wants for member in self._members):
                self._wanted.clear()
                await self._wanted.wait()
            await self._pace.slot()
            self._give(time.monotonic())
            if self._free:
                await asyncio.sleep(_BATCH_S)  # slots come without end, and nobody needs them

    def _give(self, at: float) -> None:
        """Give a slot to the first range that wants one.

        Given out in turn, ranges of one size would all end at one time, and nobody would ask meanwhile.
        """
        wanting = [member for member in self._members if member.wants]
        if wanting:
            min(wanting, key=lambda member: member.index).give(at)

    @property
    def _free(self) -> bool:
        state = self._pace.snapshot()
        return math.isinf(state.per_s) and state.paused_until is None

    async def serve(self, wire: Wire) -> None:
        """Talk with one worker until either ends it."""
        try:
            hello = msgspec.msgpack.decode(await wire.read(), type=Hello)
            if hello.try_id == self._try_id:
                await self._talk(_Member(wire, hello.index))
        except (CommClosedError, msgspec.MsgspecError):
            pass  # it will come again, or its range will be given to another
        except ExporterError as error:
            self.fail(error)
        finally:
            wire.abort()

    async def _talk(self, member: _Member) -> None:
        self._members.append(member)
        try:
            await self._say(member, self._secrets)
            async with task_group() as group:
                speaking = group.create_task(self._speak(member))
                try:
                    await self._listen(member)
                finally:
                    speaking.cancel()
        finally:
            self._members.remove(member)

    async def _listen(self, member: _Member) -> None:
        last = False
        while not last:
            report = msgspec.msgpack.decode(await member.wire.read(), type=Report)
            self._take(member, report)
            last = report.last

    async def _speak(self, member: _Member) -> None:
        while True:
            try:
                async with asyncio.timeout(BEAT_S):
                    await member.news.wait()
                if not member.voided and self._stop is None:
                    await asyncio.sleep(_BATCH_S)
            except TimeoutError:
                pass
            await self._say(member)

    async def _say(self, member: _Member, secrets: dict[str, str | None] | None = None) -> None:
        member.news.clear()
        now, state = time.monotonic(), self._pace.snapshot()
        bounded = math.isfinite(state.per_s)
        word = Word(
            slots=[now - at for at in member.slots],
            voided=member.voided,
            free=self._free,
            share_per_s=state.per_s / self.workers if bounded else None,
            paused_s=0.0 if state.paused_until is None else state.paused_until - now,
            stop=self._stop,
            secrets=secrets,
        )
        member.slots, member.voided = [], False
        await member.wire.write(msgspec.msgpack.encode(word))

    def _take(self, member: _Member, report: Report) -> None:
        was_free = self._free
        # A refusal is reported within hundredths of a second: most other answers of its report came before it.
        for answer_s in report.latencies:
            self._pace.answered(answer_s)
        for retry_after_s, latency_s in report.refusals:
            self._throttled(retry_after_s, latency_s)
        member.asked = report.asked
        if member.wants:
            self._wanted.set()
        if self._free != was_free:
            self._tell_all()
        if report.standing is not None:
            self.standings[member.index] = report.standing
        if report.figures is not None:
            self._statistics.add(_statistics_of(report.figures))
        for level, template, text in report.logs:
            self._relay(level, template, text)

    def _throttled(self, retry_after_s: float | None, latency_s: float | None) -> None:
        before = self._pace.snapshot().paused_until
        self._pace.throttled(retry_after_s, latency_s)
        until = self._pace.snapshot().paused_until
        if until is not None and until != before:
            self._statistics.paused(until - time.monotonic(), "429")
        for member in self._members:
            member.void()

    def _tell_all(self) -> None:
        for member in self._members:
            member.news.set()

    def _relay(self, level: int, template: str, text: str) -> None:
        """Log what a worker logs; what several of them say at once is said once."""
        now = time.monotonic()
        if now - self._said.get(template, -math.inf) >= _SAID_AGAIN_S:
            self._said[template] = now
            log.log(level, "%s", text)


def _statistics_of(figures: Figures) -> Statistics:
    statistics = Statistics(lambda: 0.0)
    statistics.latency_counts = figures.latency_counts
    statistics.latency_sum_s = figures.latency_sum_s
    statistics.statuses.update(figures.statuses)
    statistics.failures.update(figures.failures)
    return statistics


@asynccontextmanager
async def open_broker(
    make: Callable[[], Broker], host: str, listen_args: dict[str, Any]
) -> AsyncIterator[Broker]:
    """Listen for workers for the length of the block.

    Args:
        make: Makes the broker.
        host: Scheme and host to listen at, as `tcp://10.0.0.5`.
        listen_args: For the listener, as TLS needs them.
    """
    broker = make()
    async with listener(f"{host}:0", broker.serve, listen_args) as listening:
        broker.address = listening.contact_address
        granting = asyncio.create_task(broker.grant())
        try:
            yield broker
        finally:
            granting.cancel()
            broker.hang_up()
            if not broker.failure.cancel() and not broker.failure.cancelled():
                broker.failure.exception()  # whoever needed to know has been told
