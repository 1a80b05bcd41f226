"""What the coordinator has Dask's workers do, by name: ranges refreshed and published, as a run on one machine is."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from distributed import get_client, get_worker

from exporter.api.credentials import token_of
from exporter.fetch.cluster.messages import BEACON, SECRETS, WORDS, Assignment, Check, Done, Ended
from exporter.fetch.cluster.ranges import finish
from exporter.fetch.cluster.worker_link import Link, hear, linked
from exporter.fetch.fetch_job import publish_job
from exporter.fetch.refresh import Refresh, Tally, refresh
from exporter.fetch.work_directory import WorkDirectory, locked
from exporter.model.errors import ExporterError, InterruptedRunError, LockedError, UsageError, told
from exporter.model.manifest import pii_of
from exporter.model.options import Options
from exporter.model.version import __version__
from exporter.store.order_store import Store
from exporter.system.child_process import be_lean
from exporter.system.crash_place import crash_text


def dask_setup(_worker: object) -> None:
    """Make a worker that is a child of the coordinator lean, and deaf to signals; Dask calls this when it starts.

    Ctrl-C and systemd signal the whole group: the coordinator decides when its workers end.
    """
    be_lean()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def look_at_worker(text: bytes) -> str | None:
    """Say why this worker cannot take part, None where it can, from the JSON of a `Check`."""
    return unfit(msgspec.json.decode(text, type=Check))


def run_range(text: bytes) -> bytes:
    """Do one range, from the JSON of an `Assignment` to that of an `Ended`."""
    assignment = msgspec.json.decode(text, type=Assignment)
    client: Any = get_client()
    client.subscribe_topic(WORDS, hear)
    return msgspec.json.encode(asyncio.run(_do_range(assignment, get_worker())))


async def _do_range(assignment: Assignment, worker: Any) -> Ended:
    """Do one range; what goes wrong is told in the result, and quotes nothing that was worked on."""
    if (reason := unfit(assignment.check)) is not None:
        return Ended(again=reason)
    try:
        async with linked(assignment, worker) as link:
            with locked(Path(assignment.folder, "lock"), f"The range {assignment.folder}"):
                return Ended(done=await _done(assignment, link))
    except (LockedError, InterruptedRunError) as error:
        return Ended(again=str(error))
    except ExporterError as error:
        return Ended(error=told(error), worker=worker.address)
    except Exception as error:
        bug = f"A bug of the exporter stopped the worker {worker.address}: {crash_text(error)}."
        return Ended(error=told(ExporterError(bug)), worker=worker.address)


async def _done(assignment: Assignment, link: Link) -> Done:
    """Ask for what is pending, write the tables, and record the result."""
    from exporter.dataset.publishing.staging import publish_tables  # pyarrow, once the process is lean

    folder, freshness = WorkDirectory(Path(assignment.folder)), assignment.freshness
    options = options_of({**assignment.check.options, "concurrency": assignment.concurrency})
    with closing(Store(folder.store, options.api_url)) as store:
        store.attach_plan(folder.plan)
        refreshing = Refresh(
            options=options,
            store=store,
            freshness=freshness,
            # Begun when the whole run began: an older one is another run's, and begun anew.
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
    done = Done(
        key=assignment.check.key,
        result=await asyncio.to_thread(publish_tables, job, link.refresh_is_over, lambda _: None),
        staged=staged.name,
        traffic=refreshing.record.traffic + tally.traffic(),
        good_number=good_number,
    )
    finish(folder, done)
    return done


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
