"""What the coordinator has workers do, by name: what that needs is imported where it is done."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import msgspec

from exporter.fetch.cluster.messages import Assignment, Check
from exporter.system.lean_process import be_lean


def dask_setup(_worker: object) -> None:
    """Make a worker that is a child of the coordinator lean, and deaf to signals; Dask calls this when it starts.

    Ctrl-C and systemd signal the whole group: the coordinator decides when its workers end.
    """
    be_lean()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def run_range(text: bytes) -> bytes:
    """Do one range, from the JSON of an `Assignment` to that of an `Ended`."""
    from distributed import get_worker

    from exporter.fetch.cluster.range_worker import do_range
    from exporter.fetch.cluster.worker_link import listen

    assignment = msgspec.json.decode(text, type=Assignment)
    worker: Any = get_worker()
    listen()
    return msgspec.json.encode(asyncio.run(do_range(assignment, worker)))


def look_at_worker(text: bytes) -> str | None:
    """Say why this worker cannot take part, None where it can, from the JSON of a `Check`."""
    from exporter.fetch.cluster.range_worker import unfit  # with all that a range needs

    return unfit(msgspec.json.decode(text, type=Check))
