"""The process that local workers are forked from: what they need is imported once, while the plan is made.

Started anew, each worker takes half a second of CPU to import Dask and pyarrow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker

from exporter.lean import MEMORY, without_numpy
from exporter.publishing import signals_held


def start() -> None:
    """Start it. A process has one at most, and ours is deaf to signals: whoever forks from it must want that."""
    if sys.platform != "linux":
        return  # elsewhere libraries are not made to be forked once they are loaded
    without_numpy()  # Dask would import it, and pandas, to have them forked
    # Dask's own way to be told; what the user has said there stands.
    os.environ.setdefault("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", "forkserver")
    get_context("forkserver").set_forkserver_preload(["exporter.engines.seed"])
    resource_tracker.ensure_running()  # it lets the signals go, whoever holds them
    with signals_held(), _environment(MEMORY):
        forkserver.ensure_running()


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """Have variables in the environment for the length of the block, unless the user has set them."""
    added = more.keys() - os.environ.keys()
    os.environ.update({name: more[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
