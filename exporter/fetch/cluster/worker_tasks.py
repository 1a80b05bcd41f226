"""What the coordinator has workers do, by name: these import what the work needs where it is done."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from distributed import get_worker

from exporter.fetch.cluster.messages import Assignment


def run_range(text: str) -> str:
    """Do one range, from JSON of an `Assignment` to JSON of a `RangeResult`."""
    from exporter.fetch.cluster.range_worker import do_range

    assignment = msgspec.json.decode(text, type=Assignment)
    worker: Any = get_worker()
    connect_args = worker.security.get_connection_args("worker")
    result = asyncio.run(do_range(assignment, connect_args))
    return msgspec.json.encode(result).decode()
