"""What a Dask worker does: one range refreshed and published, by the same code as a run on one machine."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from exporter.api.credentials import token_of
from exporter.dataset.publishing.publish_job import PublishProgress, PublishResult
from exporter.dataset.publishing.staging import publish_tables
from exporter.fetch.cluster.messages import BEACON, SECRETS, Assignment, Check, RangeResult
from exporter.fetch.cluster.ranges import finish
from exporter.fetch.cluster.worker_link import Link, linked
from exporter.fetch.fetch_job import publish_job
from exporter.fetch.refresh import Refresh, refresh
from exporter.fetch.work_directory import WorkDirectory, locked
from exporter.model.errors import ExporterError, InterruptedRunError, LockedError, UsageError, told
from exporter.model.manifest import pii_of
from exporter.model.options import Options
from exporter.model.version import __version__
from exporter.store.order_store import Store
from exporter.system.crash_place import crash_text


async def do_range(assignment: Assignment, worker: Any) -> RangeResult:
    """Do one range on Dask's `worker`; what goes wrong is told in the result, and quotes nothing that was worked on."""
    if (reason := unfit(assignment.check)) is not None:
        return RangeResult(again=reason)
    try:
        async with linked(assignment, worker) as link:
            with locked(Path(assignment.folder, "lock"), f"The range {assignment.folder}"):
                return await _Work(assignment, link).do()
    except (LockedError, InterruptedRunError) as error:
        return RangeResult(again=str(error))
    except ExporterError as error:
        return RangeResult(error=told(error), worker=worker.address)
    except Exception as error:
        bug = f"A bug of the exporter stopped the worker {worker.address}: {crash_text(error)}."
        return RangeResult(error=told(ExporterError(bug)), worker=worker.address)


def options_of(public: dict[str, Any]) -> Options:
    """Return options from their public part and the secrets of this process's environment.

    Raises:
        UsageError: A credential is missing here, or an option cannot work.
    """
    secrets = {name: os.environ.get(variable) or None for name, variable in SECRETS.items()}
    return msgspec.convert({**public, **secrets}, Options)


def unfit(check: Check) -> str | None:
    """Say why this worker cannot take part, None where it can; asked of each worker before the first range."""
    if check.version != __version__:
        return f"it has omnitron-exporter {__version__}, and this is {check.version}"
    try:
        seen = Path(check.folder, BEACON).read_text() == check.try_id
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


class _Work:
    """The refresh and the publishing of one range, one after the other."""

    def __init__(self, assignment: Assignment, link: Link) -> None:
        self._assignment = assignment
        self._link = link
        self._folder = WorkDirectory(Path(assignment.folder))
        self._options = options_of({**assignment.check.options, "concurrency": assignment.concurrency})

    async def do(self) -> RangeResult:
        """Ask for what is pending, write the tables, and record the result."""
        folder, freshness = self._folder, self._assignment.freshness
        with closing(Store(folder.store, self._options.api_url)) as store:
            store.attach_plan(folder.plan)
            self._link.pending = store.states(freshness).get(None, 0)
            self._link.pace.changed.set()  # it can have a share
            if self._link.pending:
                await self._refresh(store)
            # Begun when the whole run began: an older one is another run's, and begun anew.
            traffic = store.begin_run(self._options.out, freshness.run_started_at, 0.0).traffic
            good_number = store.a_fetched_number()
        staged = folder.fresh_staged()
        done = RangeResult(
            key=self._assignment.check.key,
            result=await asyncio.to_thread(self._publish, staged),
            staged=staged.name,
            traffic=traffic,
            good_number=good_number,
        )
        finish(folder, done)
        return done

    async def _refresh(self, store: Store) -> None:
        link, assignment = self._link, self._assignment
        freshness = assignment.freshness
        await refresh(
            Refresh(
                options=self._options,
                store=store,
                freshness=freshness,
                run=store.begin_run(self._options.out, freshness.run_started_at, 0.0),
                pace=link.pace,
                statistics=link.statistics,
                tally=link.tally,
                stop=link.stop,
                good_number=assignment.good_number,
                answered=assignment.answered,
            )
        )
        link.pace.changed.set()  # the next range can have its share

    def _publish(self, staged: Path) -> PublishResult:
        folder = self._folder
        job = publish_job(
            self._options, self._assignment.freshness, store=folder.store, plan=folder.plan, staged=staged
        )
        return publish_tables(job, self._refresh_is_over, self._tell)

    def _refresh_is_over(self, _wait_s: float) -> bool:
        stop = self._link.stop
        if stop.asked:
            raise stop.error("Stopped while publishing a range.", "")
        return True

    def _tell(self, progress: PublishProgress) -> None:
        self._link.published = progress.lines
