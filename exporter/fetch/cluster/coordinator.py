"""A run on a Dask cluster: the plan cut into ranges, each done by a worker, and gathered into one dataset.

A range's folder holds all that is fetched of it, and its result once it is finished: so a killed worker,
scheduler or coordinator costs what was in flight. The coordinator alone knows the pace, and divides it.
"""

import asyncio
import hashlib
import time
import uuid
from collections import deque
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import msgspec
from distributed import KilledWorker
from distributed.client import ClosedClientError

from exporter.dataset.publishing.publisher_process import DriftLog
from exporter.fetch.cluster import local_workers
from exporter.fetch.cluster.conversation import Conversation
from exporter.fetch.cluster.dask_cluster import PATIENCE_S, gone, open_cluster, refused
from exporter.fetch.cluster.messages import BEACON, Assignment, Check, Ended, public
from exporter.fetch.cluster.range_worker import look_at_worker, run_range
from exporter.fetch.cluster.ranges import Range, cut, gather
from exporter.fetch.fetch_job import Fetched, FetchJob, pace_of, tell_plan, tick
from exporter.fetch.refresh import Standing, stopped
from exporter.fetch.reject_limit import examples, most_new_rejects, stopped_early
from exporter.model.errors import ApiUnavailableError, ExporterError, UsageError, error_of
from exporter.model.manifest import Pii, pii_of
from exporter.model.options import TableOptions, part_of
from exporter.model.progress import Phase, Progress, ProgressCallback
from exporter.model.records import Traffic
from exporter.model.version import __version__
from exporter.system import durable
from exporter.system.log import log
from exporter.system.stopping import beside_the_loop, task_group

_LOOK_S = 0.25
_GRACE_S = 8.6  # what is left of the ten seconds in which a signal ends a run, for closing the cluster
_AGAIN_S = 0.5
_WORKER_NEEDS = (
    f"Give every worker omnitron-exporter {__version__}, the credentials, the shared folder, and an address that the"
    " scheduler reaches."
)
_LATELY_S = 5.0  # a worker that had an answer so lately shows that the API is there


async def spread(job: FetchJob, on_progress: ProgressCallback) -> Fetched:
    """Fetch and publish a plan on a Dask cluster; see `exporter.fetch.fetch_job.fetch`.

    A `UsageError` where it cannot be used, an `ApiUnavailableError` where it is gone during the run; orders are kept.
    """
    if job.options.store is not None:
        what = "cannot be used with --dask: a cluster run keeps no store."
        raise UsageError(what, "Leave out --store or --dask.", option="store")
    if job.record.resumed and not job.work.ranges.exists() and job.record.traffic.sent:
        what = f"{job.work.path}: this unfinished run was started without --dask."
        raise UsageError(what, "Resume it without --dask, or remove the folder to start over.")
    pii = pii_of(job.options.pii, job.options.pii_key)
    check = Check(
        version=__version__,
        folder=str(job.work.ranges.absolute()),
        try_id=uuid.uuid4().hex,
        options=public(job.options),
        pii=pii,
        key=_key_of(job, pii),
    )

    def cut_and_look() -> list[Range]:
        workers = local_workers(str(job.options.dask))
        ranges = cut(job.work.ranges, job.work.plan, job.input.requested, workers)
        for each in ranges:
            each.look(check.key, job.freshness)
        return ranges

    ranges = await beside_the_loop(cut_and_look, job.stop, "cutting the plan")
    return await _Spread(job, check, ranges).go(on_progress)


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


async def _look_at_workers(talk: Conversation, check: Check) -> None:
    """Raise a `UsageError` for a cluster that cannot do the work, before anything is asked for."""
    dask, text = check.options["dask"], msgspec.json.encode(check)
    try:
        await talk.client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError:
        raise refused(dask, "the scheduler has no workers.", "Start some: dask worker.") from None
    await talk.look()

    async def look_at(worker: str) -> None:
        answer: Any = f"it has not answered for {PATIENCE_S:.0f} s"
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                said = await talk.client.run(look_at_worker, text, workers=[worker], on_error="return")
                answer = said.get(worker, "it is gone")
        if answer is not None:  # in its own words or in Dask's
            raise refused(dask, f"the worker {worker} cannot take part: {answer}.", _WORKER_NEEDS)

    async with task_group() as group:
        for worker in sorted(talk.workers):
            group.create_task(look_at(worker))


class _Spread:
    def __init__(self, job: FetchJob, check: Check, ranges: list[Range]) -> None:
        self._job, self._check, self._ranges = job, check, ranges
        self._freshness = job.freshness
        self._pending_at_start = self._left()
        self._talk = Conversation(pace_of(job.options, self._left), check, ranges)
        self._drift = DriftLog()
        self._blamed: set[str] = set()  # workers that found the API away

    def _left(self) -> int:
        return sum(each.left for each in self._ranges)

    async def go(self, on_progress: ProgressCallback) -> Fetched:
        job, ranges = self._job, self._ranges
        tell_plan(job, self._pending_at_start)
        staged = job.work.fresh_staged()
        if any(each.done is None for each in ranges):
            await self._on_cluster(on_progress)
        on_progress(self._progress("publishing"))
        result = await asyncio.to_thread(gather, staged, ranges, job.options.formats)
        self._drift.warn(result.drift)
        on_progress(self._progress("done"))
        traffic = sum((each.done.traffic for each in ranges if each.done), Traffic())
        return Fetched(result=result, traffic=traffic, statistics=self._talk.statistics.as_dict())

    def _progress(self, phase: Phase = "fetching") -> Progress:
        whole = Standing(*map(sum, zip(*(each.standing for each in self._ranges), strict=True)))
        # A range that is done again elsewhere begins with less.
        whole = whole._replace(
            pending_at_start=self._pending_at_start,
            fetched=self._pending_at_start - self._left() - whole.rejected,
            published=sum(each.orders for each in self._ranges if each.done),
        )
        return self._job.progress(phase, whole, self._talk.pace.snapshot(), self._talk.down_since)

    async def _on_cluster(self, on_progress: ProgressCallback) -> None:
        work, talk = self._job.work, self._talk
        with durable.storage_errors("preparing the ranges", work.ranges):
            durable.write_bytes(work.ranges / BEACON, self._check.try_id.encode())
        async with open_cluster(self._job.options, work.path / "dask") as talk.client:
            await _look_at_workers(talk, self._check)
            async with task_group() as group:
                beside = (talk.go_on(), tick(on_progress, self._progress), self._watch_stop())
                tasks = [group.create_task(each) for each in beside]
                await self._drive()
                for task in tasks:
                    task.cancel()

    async def _drive(self) -> None:
        """Keep every worker busy with a range until none is left."""
        waiting = deque(each for each in self._ranges if each.done is None)
        running: dict[asyncio.Task[Ended], Range] = {}
        try:
            while waiting or running:
                places = min(max(1, len(self._talk.workers)), self._job.options.concurrency)
                while waiting and len(running) < places:
                    each = waiting.popleft()
                    running[asyncio.create_task(self._given_out(each, places))] = each
                # Not for long: more workers may come, and more rejects than there may be.
                done, _ = await asyncio.wait(running, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    each = running.pop(task)
                    self._take(each, task.result())
                    if each.done is None:
                        waiting.appendleft(each)
                if self._is_hopeless():
                    break
        finally:
            await self._end(set(running))
        if self._is_hopeless():
            options, counts = self._job.options, self._job.input
            rejects = f"{sum(each.rejected for each in self._ranges) + counts.invalid:,} rejects"
            told = examples(chain.from_iterable(each.rejects(self._freshness) for each in self._ranges))
            settled = counts.requested - self._left()
            raise stopped_early(rejects, options.max_rejects, settled, counts.requested, told)

    async def _watch_stop(self) -> None:
        await self._job.stop.wait()
        log.warning("Stopping: no new requests; waiting for those in flight.")
        raise stopped(self._job.stop, self._pending_at_start - self._left())

    def _is_hopeless(self) -> bool:
        """Whether more rejects are certain than the run may have, unless the publish is there to tell more."""
        most = most_new_rejects(self._job.options, self._job.input, {})
        return bool(self._left()) and most is not None and sum(each.rejected for each in self._ranges) > most

    async def _end(self, running: set[asyncio.Task[Ended]]) -> None:
        """Let the workers stop asking and keep what they have."""
        until, left = time.monotonic() + _GRACE_S, running
        while left and (wait_s := until - time.monotonic()) > 0:
            await self._talk.say({}, stop=self._job.stop.signal_number or 15)
            _, left = await asyncio.wait(left, timeout=min(_LOOK_S, wait_s))
        for task in left:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _given_out(self, each: Range, places: int) -> Ended:
        """Give a range to one of the workers, and return how it ended there."""
        if each.given_back:
            await asyncio.sleep(_AGAIN_S)
        good = (other.done.good_number for other in self._ranges if other.done and other.done.good_number)
        assignment = Assignment(
            check=self._check,
            index=each.index,
            folder=str(each.folder.path),
            freshness=self._freshness,
            concurrency=max(1, self._job.options.concurrency // places),
            good_number=next(good, None),
            answered=bool(self._talk.answered_at),
        )
        name = f"exporter-range-{each.index:05}-{uuid.uuid4().hex[:8]}"
        able = sorted(self._talk.workers - self._blamed) if self._blamed else None
        text = msgspec.json.encode(assignment)
        try:
            future = self._talk.client.submit(run_range, text, key=name, pure=False, workers=able)
            return msgspec.json.decode(await future, type=Ended)
        except KilledWorker as error:
            why = f"the workers that did range {each.index} died, one after the other"
            raise gone(self._job.options.dask, why) from error
        except (CancelledError, OSError, ClosedClientError) as error:
            return Ended(again=repr(error))

    def _take(self, each: Range, ended: Ended) -> None:
        """Take in how a range ended, and raise what ends the run; where it is not done it is to be given out again."""
        if ended.done is not None:
            each.done = ended.done
            self._drift.warn(ended.done.result.drift)
            return
        if ended.error is not None:
            error = error_of(*ended.error)
            if not self._goes_elsewhere(error, ended.worker):
                raise error
            # What was unavailable to that worker is asked for again.
            self._freshness = replace(self._freshness, try_started_at=time.time())
            each.standing = Standing(each.left)
        each.given_back += 1
        if each.given_back * _AGAIN_S > PATIENCE_S:
            raise gone(self._job.options.dask, ended.again or "nothing came back")

    def _goes_elsewhere(self, error: ExporterError, worker: str) -> bool:
        """Tell whether the API may be away for that worker alone; two say the truth, where nobody has answers."""
        is_local = local_workers(str(self._job.options.dask)) is not None
        if is_local or not isinstance(error, ApiUnavailableError):
            return False
        talk = self._talk
        self._blamed.add(worker)
        since = time.monotonic() - _LATELY_S
        answered = any(at > since and other not in self._blamed for other, at in talk.answered_at.items())
        if not talk.workers - self._blamed or not (answered or len(self._blamed) < 2):
            return False
        log.warning("The worker %s cannot reach the API; others do its work. %s", worker, error.what)
        return True
