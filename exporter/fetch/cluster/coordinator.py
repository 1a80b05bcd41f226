"""A run on a Dask cluster: the plan cut into ranges, each done by a worker, and gathered into one dataset.

A range's folder holds all that is fetched of it, and its result once it is finished: so a killed worker,
scheduler or coordinator costs what was in flight. The coordinator alone knows the pace, and divides it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import sqlite3
import time
import uuid
from collections import deque
from concurrent.futures import CancelledError
from contextlib import closing, suppress
from dataclasses import asdict, replace
from typing import Any

import msgspec
from distributed import KilledWorker
from distributed.client import ClosedClientError

from exporter.api.pace import Pace
from exporter.dataset.publishing.publisher_process import DriftLog
from exporter.fetch.cluster import local_workers
from exporter.fetch.cluster.dask_cluster import PATIENCE_S, Cluster, ClusterUnavailableError, open_cluster
from exporter.fetch.cluster.gather import gather
from exporter.fetch.cluster.messages import Assignment, Check, Figures, RangeResult, Report, Standing, Word
from exporter.fetch.cluster.ranges import Range, cut
from exporter.fetch.cluster.rate_division import RateDivision
from exporter.fetch.cluster.worker_fitness import BEACON, SECRETS, pii_mark
from exporter.fetch.cluster.worker_tasks import look_at_worker, run_range
from exporter.fetch.fetch_job import Fetched, FetchJob, tell_plan, tick
from exporter.model.errors import ApiUnavailableError, ExporterError, UsageError, error_of
from exporter.model.options import TableOptions, part_of
from exporter.model.progress import Progress, ProgressCallback
from exporter.model.rate import Rate
from exporter.model.records import Traffic
from exporter.model.run_statistics import Statistics
from exporter.model.version import __version__
from exporter.store.order_store import Freshness, Store
from exporter.system import durable
from exporter.system.stopping import beside_the_loop

log = logging.getLogger("exporter")

_LOOK_S = 1.0
#: So often the rate is divided anew, beside whenever somebody reports; `auto` moves it all the time.
_DIVIDE_S = 0.25
#: So often all is said again: a worker that hears nothing for long takes the coordinator for lost.
_SAY_AGAIN_S = 1.0
#: What is left of the ten seconds in which a signal ends a run, for closing the cluster.
_GRACE_S = 8.6
_AGAIN_S = 0.5
_REAL_TRY_S = 5.0
#: The same line of several workers is logged once within that time.
_SAME_LINE_S = 60.0
#: A worker that had an answer so lately shows that the API is there.
_LATELY_S = 5.0


async def spread(job: FetchJob, on_progress: ProgressCallback | None) -> Fetched:
    """Fetch and publish a plan on a Dask cluster; see `exporter.fetch.local_engine.fetch`.

    Raises:
        UsageError: The cluster cannot be used; nothing was asked for.
        ClusterUnavailableError: It is gone in mid-run; what was fetched is kept.
    """
    _refuse(job)
    address = str(job.options.dask)
    ranges = await beside_the_loop(
        lambda: cut(job.work.ranges, job.work.plan, job.counts.requested, local_workers(address)),
        job.stop,
        doing="cutting the plan",
        interrupt=lambda: None,
    )
    run = _Spread(job, ranges)
    await beside_the_loop(run.look, job.stop, doing="reading the ranges", interrupt=lambda: None)
    return await run.go(on_progress)


def _refuse(job: FetchJob) -> None:
    if job.options.store is not None:
        raise UsageError(
            "a run on a cluster keeps its orders in ranges, and leaves none behind.",
            "Leave out --store or --dask.",
            option="store",
        )
    if job.record.resumed and not job.work.ranges.exists() and job.record.traffic.sent:
        raise UsageError(
            f"{job.work.path}: this unfinished run was begun without --dask.",
            "Go on without --dask, or remove the folder to begin anew.",
        )


class _Spread:
    """One try of a run on a cluster."""

    def __init__(self, job: FetchJob, ranges: list[Range]) -> None:
        self._job = job
        self._ranges = ranges
        mark = pii_mark(job.options, job.record.run_id)
        self._check = Check(
            version=__version__,
            folder=str(job.work.ranges.absolute()),
            try_id=uuid.uuid4().hex,
            run_id=job.record.run_id,
            options={name: value for name, value in asdict(job.options).items() if name not in SECRETS},
            pii_mark=mark,
        )
        self._key = _key_of(job, mark)
        self._results: dict[int, RangeResult] = {}
        self._pending_before: dict[int, int] = {}
        self._standings: dict[int, Standing] = {}
        self._workers: set[str] = set()
        #: Workers that found the API away, and when each worker had an answer last.
        self._blamed: set[str] = set()
        self._answered_at: dict[str, float] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()
        self._stop: int | None = None
        self._logged_at: dict[str, float] = {}
        self._phase: Any = "fetching"
        self._drift = DriftLog()
        self._division = RateDivision()
        self._pace = Pace(
            Rate.parse(job.options.rate),
            max_rate=Rate.parse(job.options.max_rate),
            waiting=lambda: self._pending,
        )
        self._statistics = Statistics(time.monotonic, self._permitted)

    def look(self) -> None:
        """Find out what earlier tries have brought; in a thread."""
        for each in self._ranges:
            done = each.finished(self._key)
            # `unavailable` before this try is asked for again, as on one machine.
            if done is not None and done.result and "unavailable" not in done.result.rejects_by_reason:
                self._results[each.index] = done
            self._pending_before[each.index] = 0 if each.index in self._results else self._pending_of(each)

    def _pending_of(self, each: Range) -> int:
        try:
            with closing(Store(each.store, readonly=True)) as store:
                store.attach_plan(each.plan)
                return store.states(self._job.freshness).get(None, 0)
        except (ExporterError, sqlite3.Error):
            return each.orders  # not there yet, or damaged: its worker will tell

    async def go(self, on_progress: ProgressCallback | None) -> Fetched:
        """Do what is left, and gather everything."""
        job = self._job
        tell_plan(job, self._pending)
        self._pending_at_start = self._pending
        staged = job.work.fresh_staged()
        if len(self._results) < len(self._ranges):
            await self._on_cluster(on_progress)
        self._tell(on_progress, "publishing")
        ordered = [(each.folder, self._results[each.index]) for each in self._ranges]
        result = await asyncio.to_thread(gather, staged, ordered, job.options.formats)
        self._drift.warn(result.unmapped_paths, result.uncoerced)
        self._tell(on_progress, "done")
        traffic = sum((done.traffic for _, done in ordered), Traffic())
        return Fetched(result=result, traffic=traffic, statistics=self._statistics.as_dict())

    async def _on_cluster(self, on_progress: ProgressCallback | None) -> None:
        job = self._job
        with durable.storage_errors("preparing the ranges", job.work.ranges):
            durable.write_bytes(job.work.ranges / BEACON, self._check.try_id.encode())
        async with open_cluster(job.options, job.work.path / "dask") as cluster:
            await self._look_at_workers(cluster)
            cluster.listen(self._heard)
            watchers = [self._watch_workers(cluster), self._divide_the_rate(cluster)]
            if on_progress is not None:
                watchers.append(tick(on_progress, self._progress, self._settled))
            watching = [asyncio.create_task(watcher) for watcher in watchers]
            try:
                await self._drive(cluster)
            finally:
                for task in watching:
                    task.cancel()
                if not self._failure.cancel():
                    self._failure.exception()  # whoever needed to know has been told

    async def _look_at_workers(self, cluster: Cluster) -> None:
        """Refuse a cluster that cannot do the work, before anything is asked for.

        Raises:
            UsageError: It has no workers, or one of them is not fit.
        """
        dask = self._job.options.dask
        try:
            await cluster.client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError:
            raise UsageError(
                "the scheduler has no workers.", "Start some: dask worker.", option="dask", value=dask
            ) from None
        self._workers = await cluster.workers() or set()
        workers = sorted(self._workers)
        answers = await asyncio.gather(*(self._fitness(cluster, worker) for worker in workers))
        for worker, answer in zip(workers, answers, strict=True):
            if answer is not None:
                raise UsageError(
                    f"the worker {worker} cannot take part: {answer}.",
                    f"Give every worker omnitron-exporter {__version__}, the credentials, the shared folder, and an"
                    " address that the scheduler reaches.",
                    option="dask",
                    value=dask,
                )

    async def _fitness(self, cluster: Cluster, worker: str) -> Any:
        """Return why a worker cannot take part, in its own words or in Dask's; None where it can."""
        check = msgspec.json.encode(self._check).decode()
        try:
            async with asyncio.timeout(PATIENCE_S):
                said = await cluster.client.run(look_at_worker, check, workers=[worker], on_error="return")
                return said.get(worker, "it is gone")
        except TimeoutError:
            return f"it has not answered for {PATIENCE_S:.0f} s"

    # --- the rate ---

    def _heard(self, report: Report) -> None:
        """Take in what a range of this try reports."""
        if report.try_id != self._check.try_id:
            return
        now = time.monotonic()
        for _ in range(report.answers):
            self._pace.answered(report.answers_s / report.answers)
        if report.answers:
            self._answered_at[report.worker] = now
        for refusal in report.refusals:
            self._throttled(*refusal)
        if report.standing is not None:
            self._standings[report.index] = report.standing
        if report.figures is not None:
            self._statistics.add(_statistics_of(report.figures))
        for line in report.logs:
            self._relay(*line)
        self._division.heard(report, now)
        self._news.set()

    def _throttled(self, retry_after_s: float | None, latency_s: float | None, cause: str) -> None:
        before = self._pace.snapshot().paused_until
        try:
            self._pace.throttled(retry_after_s, latency_s, cause)
        except ExporterError as error:
            self._fail(error)
        until = self._pace.snapshot().paused_until
        if until is not None and until != before:
            self._statistics.paused(until - time.monotonic(), "429")

    def _relay(self, level: int, template: str, text: str) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(template, -math.inf) >= _SAME_LINE_S:
            self._logged_at[template] = now
            log.log(level, "%s", text)

    def _fail(self, error: ExporterError) -> None:
        """End the run with this error, unless another has ended it."""
        if not self._failure.done():
            self._failure.set_exception(error)

    async def _divide_the_rate(self, cluster: Cluster) -> None:
        """Tell every range its share, whenever that changes, and once a second, until cancelled."""
        said_at, stopping = -math.inf, self._stop
        while True:
            self._news.clear()
            now, state = time.monotonic(), self._pace.snapshot()
            changed = self._division.divide(0.0 if state.paused_until else state.per_s)
            if changed or self._stop != stopping or now - said_at >= _SAY_AGAIN_S:
                said_at, stopping = now, self._stop
                shares = self._division.told()
                await cluster.say(Word(try_id=self._check.try_id, shares=shares, stop=self._stop))
            pause_s = (state.paused_until or math.inf) - now
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_DIVIDE_S, max(0.0, pause_s))):
                    await self._news.wait()

    # --- the ranges ---

    async def _watch_workers(self, cluster: Cluster) -> None:
        seen_at = time.monotonic()
        while time.monotonic() - seen_at < PATIENCE_S:
            await asyncio.sleep(_LOOK_S)
            cluster.listen(self._heard)
            workers = await cluster.workers()
            if workers:
                self._workers, seen_at = workers, time.monotonic()
                self._division.forget(lambda worker: worker not in self._workers, seen_at)
        self._fail(self._gone("its scheduler or its workers are gone"))

    def _gone(self, why: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"--dask {self._job.options.dask}: the cluster does not do its work ({why}).",
            "Look after it, then run the same command again",
            resumes=True,
        )

    async def _drive(self, cluster: Cluster) -> None:
        """Keep every worker busy with a range until none is left, or the run ends early."""
        waiting = deque(each for each in self._ranges if each.index not in self._results)
        running: set[asyncio.Task[None]] = set()
        stopped = asyncio.ensure_future(self._job.stop.wait())
        try:
            while waiting or running:
                while waiting and len(running) < self._places:
                    running.add(asyncio.create_task(self._do(cluster, waiting.popleft())))
                done, _ = await asyncio.wait(
                    {*running, stopped, self._failure}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                self._raise_if_over()
                ended = {task for task in running if task in done}
                for task in ended:
                    task.result()
                running -= ended
        finally:
            stopped.cancel()
            await self._end(running)

    @property
    def _places(self) -> int:
        return min(max(1, len(self._workers)), self._job.options.concurrency)

    def _raise_if_over(self) -> None:
        stop = self._job.stop
        if stop.asked:
            log.warning("Stopping: no new requests; waiting for those in flight.")
            raise stop.error(
                f"Stopped by a signal after {self._settled()} orders of this try; they are kept.",
                "The same command goes on from there.",
            )
        if self._failure.done():
            self._failure.result()

    async def _end(self, running: set[asyncio.Task[None]]) -> None:
        """Let the workers stop asking and keep what they have."""
        if not running:
            return
        self._stop = self._job.stop.signal_number or 15
        self._news.set()
        _, late = await asyncio.wait(running, timeout=_GRACE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _do(self, cluster: Cluster, each: Range) -> None:
        """Give a range to the cluster until it is finished."""
        failing_since: float | None = None
        freshness = self._job.freshness
        while self._stop is None:
            began = time.monotonic()
            result = await self._submitted(cluster, each, freshness)
            if result.error is not None:
                error = error_of(*result.error)
                if cluster.is_local or not self._goes_elsewhere(error, result.worker):
                    raise error
                # What was unavailable to that worker is asked for again.
                freshness = replace(freshness, try_started_at=time.time())
            if result.result is not None:
                self._take(each, result)
                return
            if failing_since is None or time.monotonic() - began > _REAL_TRY_S:
                failing_since = time.monotonic()
            elif time.monotonic() - failing_since > PATIENCE_S:
                raise self._gone(result.again or "nothing came back")
            log.debug("Range %d is given out again: %s", each.index, result.again)
            await asyncio.sleep(_AGAIN_S)

    def _goes_elsewhere(self, error: ExporterError, worker: str) -> bool:
        """Tell whether the API may be away for that worker alone; two say the truth, where nobody has answers."""
        if not isinstance(error, ApiUnavailableError):
            return False
        self._blamed.add(worker)
        since = time.monotonic() - _LATELY_S
        answered = any(at > since and other not in self._blamed for other, at in self._answered_at.items())
        if not self._workers - self._blamed or not (answered or len(self._blamed) < 2):
            return False
        log.warning("The worker %s cannot reach the API; others do its work. %s", worker, error.what)
        return True

    async def _submitted(self, cluster: Cluster, each: Range, freshness: Freshness) -> RangeResult:
        text = msgspec.json.encode(self._assignment(each, freshness)).decode()
        name = f"exporter-range-{each.index:05}-{uuid.uuid4().hex[:8]}"
        able = sorted(self._workers - self._blamed) if self._blamed else None
        try:
            future = cluster.client.submit(run_range, text, key=name, pure=False, workers=able)
            return msgspec.json.decode(await future, type=RangeResult)
        except KilledWorker as error:
            raise self._gone(f"the workers that did range {each.index} died, one after the other") from error
        except (CancelledError, OSError, ClosedClientError) as error:
            return RangeResult(key=self._key, try_id=self._check.try_id, again=repr(error))

    def _assignment(self, each: Range, freshness: Freshness) -> Assignment:
        job = self._job
        good = (done.good_number for done in self._results.values() if done.good_number)
        return Assignment(
            check=self._check,
            index=each.index,
            folder=str(each.folder.absolute()),
            out=job.options.out,
            freshness=freshness,
            concurrency=max(1, job.options.concurrency // self._places),
            good_number=next(good, None),
            answered=bool(self._answered_at),
            unlimited=self._permitted() is None,
            key=self._key,
        )

    def _take(self, each: Range, result: RangeResult) -> None:
        assert result.result is not None
        self._results[each.index] = result
        self._drift.warn(result.result.unmapped_paths, result.result.uncoerced)

    # --- how far it is ---

    @property
    def _pending(self) -> int:
        return sum(self._pending_in(each) for each in self._ranges)

    def _pending_in(self, each: Range) -> int:
        if each.index in self._results:
            return 0
        standing = self._standings.get(each.index)
        if standing is None:
            return self._pending_before[each.index]
        return standing.left

    def _settled(self) -> int:
        return self._pending_at_start - self._pending

    def _permitted(self) -> float | None:
        per_s = self._pace.snapshot().per_s
        return None if math.isinf(per_s) else per_s

    def _tell(self, on_progress: ProgressCallback | None, phase: str) -> None:
        self._phase = phase
        if on_progress is not None:
            on_progress(self._progress(0.0))

    def _progress(self, rate: float) -> Progress:
        standings = list(self._standings.values())
        total, settled = self._job.counts.requested, self._settled()
        rejected = sum(standing.rejected for standing in standings)
        pace = self._pace.snapshot()
        return Progress(
            phase=self._phase,
            total=total,
            done=total - self._pending,
            pending_at_start=self._pending_at_start,
            fetched=settled - rejected,
            rejected=rejected,
            retried=sum(standing.retried for standing in standings),
            throttled=sum(standing.throttled for standing in standings),
            published=self._published(),
            elapsed_s=self._job.elapsed_s,
            rate_per_s=rate,
            permitted_per_s=self._permitted(),
            waiting=sum(standing.waiting for standing in standings),
            paused_s=None if pace.paused_until is None else max(0.0, pace.paused_until - time.monotonic()),
            why=pace.why,
        )

    def _published(self) -> int:
        if self._phase == "done":
            return self._job.counts.requested
        finished = sum(each.orders for each in self._ranges if each.index in self._results)
        standings = self._standings
        return finished + sum(s.published for index, s in standings.items() if index not in self._results)


def _statistics_of(figures: Figures) -> Statistics:
    statistics = Statistics(lambda: 0.0)
    statistics.latency_counts = figures.latency_counts
    statistics.latency_sum_s = figures.latency_sum_s
    statistics.statuses.update(figures.statuses)
    statistics.failures.update(figures.failures)
    return statistics


def _key_of(job: FetchJob, mark: str | None) -> str:
    """Return what a range's result must agree with to be used again: the input, the run, and the form."""
    options, freshness = job.options, job.freshness
    facts = [
        __version__,
        job.input.sha256,
        options.column,
        [freshness.run_started_at, freshness.max_age_s, freshness.max_age_s_by_status],
        # It goes through the scheduler: of the key, what is keyed by itself.
        part_of(options, TableOptions) | {"pii_key": mark},
    ]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
