"""What the coordinator has workers do, by name: these import what the work needs where it is done."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import msgspec
from distributed import get_worker

from exporter.fetch.cluster.messages import Assignment, Check
from exporter.system.lean_process import be_lean


def dask_setup(_worker: object) -> None:
    """Make a worker that is a child of the coordinator lean, and deaf to signals; Dask calls this when it starts.

    Ctrl-C and systemd signal the whole group: the coordinator decides when its workers end.
    """
    be_lean()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def look_at_worker(text: str) -> str | None:
    """Say why this worker cannot take part, None where it can, from JSON of a `Check`; older tries end here."""
    from exporter.fetch.cluster import range_worker  # with all that a range needs

    return range_worker.look(msgspec.json.decode(text, type=Check))


def run_range(text: str) -> str:
    """Do one range, from JSON of an `Assignment` to JSON of a `RangeResult`."""
    from exporter.fetch.cluster.range_worker import do_range
    from exporter.fetch.cluster.worker_reports import listen

    assignment = msgspec.json.decode(text, type=Assignment)
    worker: Any = get_worker()
    listen()
    return msgspec.json.encode(asyncio.run(do_range(assignment, worker))).decode()
