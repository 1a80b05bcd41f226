"""A run on a Dask cluster: the plan cut into ranges, each done by a worker, and gathered into one dataset.

A range's folder holds all that is fetched of it, and its result once it is finished: so a killed worker,
scheduler or coordinator costs what was in flight. The coordinator alone knows the pace, and divides it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import asdict, replace
from typing import Any

import msgspec
from distributed import KilledWorker
from distributed.client import ClosedClientError

from exporter.dataset.publishing.publisher_process import DriftLog
from exporter.fetch.cluster import local_workers
from exporter.fetch.cluster.conversation import Conversation
from exporter.fetch.cluster.dask_cluster import PATIENCE_S, Cluster, open_cluster
from exporter.fetch.cluster.gather import gather
from exporter.fetch.cluster.messages import BEACON, SECRETS, Assignment, Check, RangeResult, Report
from exporter.fetch.cluster.ranges import Range, cut
from exporter.fetch.cluster.worker_tasks import look_at_worker, run_range
from exporter.fetch.fetch_job import Fetched, FetchJob, Standing, tell_plan, tick
from exporter.model.errors import ApiUnavailableError, ExporterError, UsageError, error_of
from exporter.model.manifest import Pii, pii_of
from exporter.model.options import TableOptions, part_of
from exporter.model.progress import Phase, Progress, ProgressCallback
from exporter.model.records import Traffic
from exporter.model.version import __version__
from exporter.system import durable
from exporter.system.stopping import beside_the_loop
from exporter.system.task_groups import task_group

log = logging.getLogger("exporter")

_LOOK_S = 1.0
#: What is left of the ten seconds in which a signal ends a run, for closing the cluster.
_GRACE_S = 8.6
_AGAIN_S = 0.5
_REAL_TRY_S = 5.0
#: A worker that had an answer so lately shows that the API is there.
_LATELY_S = 5.0


async def spread(job: FetchJob, on_progress: ProgressCallback) -> Fetched:
    """Fetch and publish a plan on a Dask cluster; see `exporter.fetch.local_engine.fetch`.

    Raises:
        UsageError: The cluster cannot be used; nothing was asked for.
        ClusterUnavailableError: It is gone in mid-run; what was fetched is kept.
    """
    _refuse(job)
    pii = pii_of(job.options.pii, job.options.pii_key)
    check = Check(
        version=__version__,
        folder=str(job.work.ranges.absolute()),
        try_id=uuid.uuid4().hex,
        options={name: value for name, value in asdict(job.options).items() if name not in SECRETS}
        | {"orders": str(job.options.orders)},  # which may be a kind of text
        pii=pii,
        key=_key_of(job, pii),
    )
    ranges = await beside_the_loop(
        lambda: _ranges(job, check.key), job.stop, doing="cutting the plan", interrupt=lambda: None
    )
    return await _Spread(job, check, ranges).go(on_progress)


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


def _key_of(job: FetchJob, pii: Pii) -> str:
    """Return what a range's result must agree with to be used again: the input, the run, and the form."""
    options, freshness = job.options, job.freshness
    facts = [
        __version__,
        job.input.sha256,
        options.column,
        [freshness.run_started_at, freshness.max_age_s, freshness.max_age_s_by_status],
        # It goes through the scheduler: of the key, what is keyed by itself.
        part_of(options, TableOptions) | {"pii_key": pii.key},
    ]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _ranges(job: FetchJob, key: str) -> list[Range]:
    workers = local_workers(str(job.options.dask))
    ranges = cut(job.work.ranges, job.work.plan, job.counts.requested, workers)
    for each in ranges:
        each.look(key, job.freshness)
    return ranges


class _Spread:
    """One try of a run on a cluster."""

    def __init__(self, job: FetchJob, check: Check, ranges: list[Range]) -> None:
        self._job = job
        self._check = check
        self._ranges = ranges
        self._freshness = job.freshness
        self._pending_at_start = self._left()
        self._pace = job.pace(self._left)
        self._talk = Conversation(check, self._pace, self._heard)
        self._drift = DriftLog()
        #: Workers that found the API away.
        self._blamed: set[str] = set()

    def _left(self) -> int:
        return sum(each.left for each in self._ranges)

    def _heard(self, report: Report) -> None:
        if report.standing is not None:
            self._ranges[report.index].standing = report.standing

    async def go(self, on_progress: ProgressCallback) -> Fetched:
        """Do what is left, and gather everything."""
        job, ranges = self._job, self._ranges
        tell_plan(job, self._pending_at_start)
        staged = job.work.fresh_staged()
        if any(each.done is None for each in ranges):
            await self._on_cluster(on_progress)
        on_progress(self._progress("publishing"))
        ordered = [(each.folder.path, each.done) for each in ranges if each.done]
        result = await asyncio.to_thread(gather, staged, ordered, job.options.formats)
        self._drift.warn(result.unmapped_paths, result.uncoerced)
        on_progress(self._progress("done"))
        traffic = sum((done.traffic for _, done in ordered), Traffic())
        return Fetched(result=result, traffic=traffic, statistics=self._talk.statistics.as_dict())

    def _progress(self, phase: Phase = "fetching") -> Progress:
        whole = Standing(*map(sum, zip(*(each.standing for each in self._ranges), strict=True)))
        # A range that is done again elsewhere begins with less.
        settled = self._pending_at_start - self._left()
        whole = whole._replace(
            pending=self._pending_at_start,
            fetched=settled - whole.rejected,
            published=sum(each.orders if each.done else each.standing.published for each in self._ranges),
        )
        return self._job.progress(phase, whole, self._pace.snapshot())

    async def _on_cluster(self, on_progress: ProgressCallback) -> None:
        job = self._job
        with durable.storage_errors("preparing the ranges", job.work.ranges):
            durable.write_bytes(job.work.ranges / BEACON, self._check.try_id.encode())
        async with open_cluster(job.options, job.work.path / "dask") as cluster:
            await self._look_at_workers(cluster)
            async with task_group() as group:
                beside = [self._talk.go_on(cluster), tick(on_progress, self._progress)]
                tasks = [group.create_task(each) for each in beside]
                await self._drive(cluster)
                for task in tasks:
                    task.cancel()

    async def _look_at_workers(self, cluster: Cluster) -> None:
        """Raise a `UsageError` for a cluster that cannot do the work, before anything is asked for."""
        dask = self._job.options.dask
        try:
            await cluster.client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError:
            raise UsageError(
                "the scheduler has no workers.", "Start some: dask worker.", option="dask", value=dask
            ) from None
        self._talk.workers = await cluster.workers() or set()
        workers = sorted(self._talk.workers)
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
        check = msgspec.json.encode(self._check)
        try:
            async with asyncio.timeout(PATIENCE_S):
                said = await cluster.client.run(look_at_worker, check, workers=[worker], on_error="return")
                return said.get(worker, "it is gone")
        except TimeoutError:
            return f"it has not answered for {PATIENCE_S:.0f} s"

    # --- the ranges ---

    async def _drive(self, cluster: Cluster) -> None:
        """Keep every worker busy with a range until none is left, or the run ends early."""
        waiting = deque(each for each in self._ranges if each.done is None)
        running: dict[asyncio.Future[Any], Range] = {}
        stopped = asyncio.ensure_future(self._job.stop.wait())
        try:
            while waiting or running:
                while waiting and len(running) < self._places:
                    each = waiting.popleft()
                    running[asyncio.create_task(self._given_out(cluster, each))] = each
                done, _ = await asyncio.wait(
                    {*running, stopped}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                self._raise_if_stopped()
                for task in done:
                    each = running.pop(task)
                    self._take(cluster, each, task.result())
                    if each.done is None:
                        waiting.appendleft(each)
        finally:
            stopped.cancel()
            await self._end(cluster, set(running))

    @property
    def _places(self) -> int:
        return min(max(1, len(self._talk.workers)), self._job.options.concurrency)

    def _raise_if_stopped(self) -> None:
        if self._job.stop.asked:
            log.warning("Stopping: no new requests; waiting for those in flight.")
            raise self._job.stop.error(
                f"Stopped by a signal after {self._pending_at_start - self._left()} orders of this try; they are kept.",
                "The same command goes on from there.",
            )

    async def _end(self, cluster: Cluster, running: set[asyncio.Future[Any]]) -> None:
        """Let the workers stop asking and keep what they have."""
        until, left = time.monotonic() + _GRACE_S, running
        while left and (wait_s := until - time.monotonic()) > 0:
            await self._talk.say(cluster, stop=self._job.stop.signal_number or 15)
            _, left = await asyncio.wait(left, timeout=min(_LOOK_S, wait_s))
        for task in left:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _given_out(self, cluster: Cluster, each: Range) -> RangeResult:
        """Give a range to the cluster, and return how it ended there."""
        each.given_at = time.monotonic()
        name = f"exporter-range-{each.index:05}-{uuid.uuid4().hex[:8]}"
        able = sorted(self._talk.workers - self._blamed) if self._blamed else None
        text = msgspec.json.encode(self._assignment(each))
        try:
            future = cluster.client.submit(run_range, text, key=name, pure=False, workers=able)
            result = msgspec.json.decode(await future, type=RangeResult)
        except KilledWorker as error:
            raise cluster.gone(
                f"the workers that did range {each.index} died, one after the other"
            ) from error
        except (CancelledError, OSError, ClosedClientError) as error:
            result = RangeResult(again=repr(error))
        if result.again is not None:
            log.debug("Range %d is given out again: %s", each.index, result.again)
            await asyncio.sleep(_AGAIN_S)
        return result

    def _assignment(self, each: Range) -> Assignment:
        good = (other.done.good_number for other in self._ranges if other.done and other.done.good_number)
        return Assignment(
            check=self._check,
            index=each.index,
            folder=str(each.folder.path),
            freshness=self._freshness,
            concurrency=max(1, self._job.options.concurrency // self._places),
            good_number=next(good, None),
            answered=bool(self._talk.answered_at),
        )

    def _take(self, cluster: Cluster, each: Range, result: RangeResult) -> None:
        """Take in how a range ended, and raise what ends the run; without a result it is to be given out again."""
        if result.result is not None:
            each.done = result
            self._drift.warn(result.result.unmapped_paths, result.result.uncoerced)
            return
        if result.error is not None:
            error = error_of(*result.error)
            if cluster.is_local or not self._goes_elsewhere(error, result.worker):
                raise error
            # What was unavailable to that worker is asked for again.
            self._freshness = replace(self._freshness, try_started_at=time.time())
        now = time.monotonic()
        if each.failing_since is None or now - each.given_at > _REAL_TRY_S:
            each.failing_since = now
        elif now - each.failing_since > PATIENCE_S:
            raise cluster.gone(result.again or "nothing came back")

    def _goes_elsewhere(self, error: ExporterError, worker: str) -> bool:
        """Tell whether the API may be away for that worker alone; two say the truth, where nobody has answers."""
        if not isinstance(error, ApiUnavailableError):
            return False
        self._blamed.add(worker)
        since = time.monotonic() - _LATELY_S
        answered_at = self._talk.answered_at.items()
        answered = any(at > since and other not in self._blamed for other, at in answered_at)
        if not self._talk.workers - self._blamed or not (answered or len(self._blamed) < 2):
            return False
        log.warning("The worker %s cannot reach the API; others do its work. %s", worker, error.what)
        return True
