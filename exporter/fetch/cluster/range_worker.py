"""What the coordinator has Dask's workers do, by name: ranges refreshed and published, as a run on one machine is.

A range talks with the coordinator over Dask's own topics: reports go out, shares and orders to stop come in. Nobody
here ever connects to the coordinator or listens for it: a worker speaks with its scheduler alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import msgspec
from distributed import get_client, get_worker

from exporter.api.credentials import token_of
from exporter.api.pace import SharePace
from exporter.fetch.cluster import messages
from exporter.fetch.cluster.ranges import finish
from exporter.fetch.fetch_job import publish_job
from exporter.fetch.refresh import Refresh, Tally, refresh
from exporter.fetch.work_directory import WorkDirectory, locked
from exporter.model.errors import ExporterError, InterruptedRunError, LockedError, UsageError, told
from exporter.model.manifest import pii_of
from exporter.model.options import SECRETS, Options, secrets_in
from exporter.model.version import __version__
from exporter.store.order_store import Store
from exporter.system.child_process import be_deaf, be_lean
from exporter.system.crash_place import crash_text
from exporter.system.log import log
from exporter.system.stopping import Stop, waited

PATIENCE_S = 30.0  # a lost coordinator is waited for so long; then nobody needs what is fetched here
_REPORT_EVERY_S = 0.2
_MOST_LOGS = 1000
_all: set[_Link] = set()  # every range that is being done in this process; changed from their own threads


def dask_setup(_worker: object) -> None:
    """Make a worker that is a child of the coordinator lean, and deaf to signals; Dask calls this when it starts."""
    be_lean()
    be_deaf()


def look_at_worker(text: bytes) -> str | None:
    """Say why this worker cannot take part, None where it can, from the JSON of a `Check`."""
    return unfit(msgspec.json.decode(text, type=messages.Check))


def run_range(text: bytes) -> bytes:
    """Do one range, from the JSON of an `Assignment` to that of an `Ended`."""
    assignment = msgspec.json.decode(text, type=messages.Assignment)
    client: Any = get_client()
    client.subscribe_topic(messages.WORDS, _hear)
    return msgspec.json.encode(asyncio.run(_do_range(assignment, get_worker())))


async def _do_range(assignment: messages.Assignment, worker: Any) -> messages.Ended:
    """Do one range; what goes wrong is told in the result, and quotes nothing that was worked on."""
    if (reason := unfit(assignment.check)) is not None:
        return messages.Ended(again=reason)
    try:
        async with _linked(assignment, worker) as link:
            with locked(Path(assignment.folder, "lock"), f"The range {assignment.folder}"):
                return messages.Ended(done=await _done(assignment, link))
    except (LockedError, InterruptedRunError) as error:
        return messages.Ended(again=str(error))
    except ExporterError as error:
        return messages.Ended(error=told(error), worker=worker.address)
    except Exception as error:
        bug = f"A bug of the exporter stopped the worker {worker.address}: {crash_text(error)}."
        return messages.Ended(error=told(ExporterError(bug)), worker=worker.address)


async def _done(assignment: messages.Assignment, link: _Link) -> messages.Done:
    """Ask for what is pending, write the tables, and record the result."""
    from exporter.dataset.publishing.staging import publish_tables  # pyarrow, once the process is lean

    folder, freshness = WorkDirectory(Path(assignment.folder)), assignment.freshness
    options = options_of({**assignment.check.options, "concurrency": assignment.concurrency})
    with closing(Store(folder.store, options.api_url)) as store:
        store.check()
        store.attach_plan(folder.plan)
        refreshing = Refresh(
            options=options,
            store=store,
            freshness=freshness,
            # It began when the whole run began: an older one is another run's, and starts over.
            record=store.begin_run(options.out, freshness.run_started_at, 0.0),
            stop=link.stop,
            good_number=assignment.good_number,
            answered=assignment.answered,
        )
        link.tally = tally = Tally(link.pace, store.states(freshness).get(None, 0))
        link.pace.changed.set()  # it can have a share
        if tally.pending:
            await refresh(refreshing, tally)
            link.pace.changed.set()  # the next range can have its share
        good_number = store.a_fetched_number()
    staged = folder.fresh_staged()
    job = publish_job(options, freshness, folder.store, folder.plan, staged)
    done = messages.Done(
        key=assignment.check.key,
        result=await asyncio.to_thread(publish_tables, job, link.refresh_is_over, lambda _: None),
        staged=staged.name,
        traffic=refreshing.record.traffic + tally.traffic(),
        good_number=good_number,
    )
    finish(folder, done)
    return done


def options_of(public: dict[str, Any]) -> Options:
    """Return options from their public part and the secrets of this process's environment, or raise a `UsageError`."""
    secrets = secrets_in(os.environ, public["token_file"], SECRETS)
    return msgspec.convert({**public, **secrets}, Options)


def unfit(check: messages.Check) -> str | None:
    """Say why this worker cannot take part, None where it can; asked of each worker before the first range."""
    if check.version != __version__:
        return f"it has omnitron-exporter {__version__}, and this is {check.version}"
    try:
        seen = Path(check.folder, messages.BEACON).read_text() == check.try_id
    except OSError:
        seen = False
    if not seen:
        return f"it does not see the folder {check.folder}; --out must be on a file system that all share"
    try:
        given = options_of(check.options)
        token_of(given)
    except UsageError as error:
        return f"in its own environment: {error}"
    if pii_of(given.pii, given.pii_key) != check.pii:
        return "its EXPORTER_PII_KEY is another one; one customer would have two hashes"
    return None


class _Link(logging.Handler):
    """One range's link from Dask's `worker`; made by `_linked`. Also where the range's log goes.

    `tally` is None until the range knows which order numbers it has to ask for.
    """

    def __init__(self, assignment: messages.Assignment, worker: Any) -> None:
        super().__init__(logging.INFO)
        self.pace, self.stop = SharePace(), Stop()
        self.tally: Tally | None = None
        self._assignment, self._worker = assignment, worker
        self.loop = asyncio.get_running_loop()
        self._seat = uuid.uuid4().hex
        self._heard_at = time.monotonic()
        self._logs: deque[tuple[int, str, str]] = deque(maxlen=_MOST_LOGS)

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.append((record.levelno, str(record.msg), record.getMessage()))

    def refresh_is_over(self, _wait_s: float) -> bool:
        """See `publish_tables`."""
        if self.stop.asked:
            raise self.stop.error("Stopped while publishing a range.", "")
        return True

    async def keep_reporting(self) -> None:
        # Until cancelled; nobody can want the range any more where nobody speaks to it.
        while True:
            self.report()
            if time.monotonic() - self._heard_at > PATIENCE_S or self._worker.status.name != "running":
                self.stop.ask(signal.SIGTERM)
            await waited(self.pace.changed, _REPORT_EVERY_S)
            self.pace.changed.clear()

    def report(self, *, over: bool = False) -> None:
        """Send what has come together since the last report."""
        pace, tally = self.pace, self.tally
        report = messages.Report(
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
        self._worker.log_event(messages.REPORTS, msgspec.msgpack.encode(report))

    def _use_per_s(self) -> float | None:
        tally, latency_s = self.tally, self.pace.latency_s
        if tally is None or not (left := tally.standing().left):
            return 0.0
        if latency_s is None:
            return None
        most = max(1, self._assignment.concurrency - tally.backing_off) / max(latency_s, 1e-6)
        return min(most, left) if self.pace.started >= tally.pending else most

    def hear(self, word: messages.Word) -> None:
        """Take in what a coordinator says."""
        check = self._assignment.check
        if word.try_id == check.try_id:
            self._heard_at = time.monotonic()
            self.pace.share(word.shares.get(self._seat, 0.0))
            if word.stop is not None:
                self.stop.ask(word.stop)
        elif word.folder == check.folder:
            self.stop.ask(signal.SIGTERM)


def _hear(event: tuple[float, bytes]) -> None:
    word = msgspec.msgpack.decode(event[1], type=messages.Word)
    for link in list(_all):
        with suppress(RuntimeError):  # this range has just ended
            link.loop.call_soon_threadsafe(link.hear, word)


@asynccontextmanager
async def _linked(assignment: messages.Assignment, worker: Any) -> AsyncIterator[_Link]:
    """Report for the length of the block; the range's log goes through it."""
    link = _Link(assignment, worker)
    log.addHandler(link)
    log.setLevel(logging.INFO)
    _all.add(link)
    keeping = asyncio.create_task(link.keep_reporting())
    try:
        yield link
    finally:
        _all.discard(link)
        log.removeHandler(link)
        keeping.cancel()
        link.report(over=True)
