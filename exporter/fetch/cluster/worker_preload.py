"""Loaded by each local worker when it starts: it is lean, deaf to signals, and has imported what it will need.

Ctrl-C and systemd signal the whole group: the coordinator decides when its workers end.
"""

from __future__ import annotations

import importlib
import signal

from exporter.system.lean_process import be_lean


def dask_setup(_worker: object) -> None:
    """Ignore SIGINT and SIGTERM, and be ready for the first range; Dask calls this in the main thread."""
    be_lean()
    importlib.import_module("exporter.fetch.cluster.range_worker")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
