"""What a Dask worker does: one range refreshed and published, by the same code as a run on one machine."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import structs

from exporter.api.client import Client, open_client
from exporter.dataset.publishing.publish_job import PublishProgress, PublishResult
from exporter.dataset.publishing.staging import publish_tables
from exporter.fetch.cluster.messages import Assignment, Check, RangeResult, Standing
from exporter.fetch.cluster.ranges import Range
from exporter.fetch.cluster.worker_fitness import options_of, unfit
from exporter.fetch.cluster.worker_reports import Reporter, reporting, stop_older_tries
from exporter.fetch.fetch_job import publish_job
from exporter.fetch.refresh import Refresh, Tally, refresh
from exporter.fetch.work_directory import locked
from exporter.model.errors import ExporterError, InterruptedRunError, LockedError, told
from exporter.model.records import FETCHED, RunRecord
from exporter.store.order_store import Store
from exporter.system import durable
from exporter.system.crash_place import crash_text


def look(check: Check) -> str | None:
    """Say why this worker cannot take part, None where it can; older tries of the same run end here."""
    stop_older_tries(check.folder, check.try_id)
    return unfit(check)


async def do_range(assignment: Assignment, worker: Any) -> RangeResult:
    """Do one range on Dask's `worker`; what goes wrong is told in the result, and quotes nothing that was worked on."""

    def ended(**how: Any) -> RangeResult:
        check = assignment.check
        return RangeResult(key=assignment.key, try_id=check.try_id, worker=worker.address, **how)

    reason = unfit(assignment.check)
    if reason is not None:
        return ended(again=reason)
    try:
        async with reporting(assignment, worker) as reporter:
            with locked(Path(assignment.folder, "lock"), f"The range {assignment.folder}"):
                return await _Work(assignment, reporter).do(ended())
    except (LockedError, InterruptedRunError) as error:
        return ended(again=str(error))
    except ExporterError as error:
        return ended(error=told(error))
    except Exception as error:
        bug = ExporterError(
            f"A bug of the exporter stopped the worker {worker.address}: {crash_text(error)}."
        )
        return ended(error=told(bug))


class _Work:
    """The refresh and the publishing of one range, one after the other."""

    def __init__(self, assignment: Assignment, reporter: Reporter) -> None:
        self._assignment = assignment
        self._reporter = reporter
        self._range = Range(index=assignment.index, folder=Path(assignment.folder), orders=0)
        self._options = options_of({**assignment.check.options, "concurrency": assignment.concurrency})
        self._tally = Tally()
        self._client: Client | None = None
        self._pending = 0
        self._published = 0

    async def do(self, result: RangeResult) -> RangeResult:
        """Ask for what is pending, write the tables, and record the result."""
        assignment = self._assignment
        with closing(Store(self._range.store, self._options.api_url)) as store:
            store.attach_plan(self._range.plan)
            self._pending = store.states(assignment.freshness).get(None, 0)
            self._reporter.standing = self._standing
            self._reporter.pace.changed.set()  # it can have a share
            if self._pending:
                await self._refresh(store)
            traffic, good_number = self._run(store).traffic, store.a_fetched_number()
        staged = self._fresh_staged()
        published = await asyncio.to_thread(self._publish, staged)
        done = structs.replace(
            result, result=published, staged=staged.name, traffic=traffic, good_number=good_number
        )
        self._range.finish(done)
        return done

    def _run(self, store: Store) -> RunRecord:
        # Begun when the whole run began: an older one is another run's, and begun anew.
        return store.begin_run(self._assignment.out, self._assignment.freshness.run_started_at, 0.0)

    async def _refresh(self, store: Store) -> None:
        reporter = self._reporter
        answered = self._assignment.answered
        async with open_client(
            self._options, reporter.pace, reporter.statistics, answered=answered
        ) as client:
            self._client = client
            await refresh(
                Refresh(
                    options=self._options,
                    store=store,
                    freshness=self._assignment.freshness,
                    run=self._run(store),
                    client=client,
                    pace=reporter.pace,
                    statistics=reporter.statistics,
                    tally=self._tally,
                    stop=reporter.stop,
                    good_number=self._assignment.good_number,
                )
            )
        reporter.pace.changed.set()  # the next range can have its share

    def _fresh_staged(self) -> Path:
        with durable.storage_errors("preparing a range", self._range.folder):
            for old in self._range.folder.glob("dataset-*"):
                durable.remove_tree(old)
            staged = self._range.folder / f"dataset-{os.urandom(4).hex()}"
            staged.mkdir()
        return staged

    def _publish(self, staged: Path) -> PublishResult:
        job = publish_job(
            self._options,
            self._assignment.freshness,
            store=self._range.store,
            plan=self._range.plan,
            staged=staged,
        )
        return publish_tables(job, self._refresh_is_over, self._tell)

    def _refresh_is_over(self, _wait_s: float) -> bool:
        stop = self._reporter.stop
        if stop.asked:
            raise stop.error("Stopped while publishing a range.", "")
        return True

    def _tell(self, progress: PublishProgress) -> None:
        self._published = progress.lines

    def _standing(self) -> Standing:
        fetched = self._tally.settled[FETCHED]
        traffic = None if self._client is None else self._client.traffic
        return Standing(
            pending=self._pending,
            fetched=fetched,
            rejected=self._tally.total - fetched,
            retried=traffic.retried if traffic else 0,
            throttled=traffic.throttled if traffic else 0,
            waiting=self._tally.backing_off,
            published=self._published,
        )
