"""The process that local workers are forked from: what they need is imported once, while the plan is made.

Started from scratch, each worker takes more than a second of CPU to import Dask and pyarrow.
"""

import os
import sys
from importlib.util import find_spec
from multiprocessing import forkserver, get_context, resource_tracker

from exporter.fetch.cluster import local_workers
from exporter.system.child_process import MEMORY, python_path, signals_held, without_numpy

# Dask's own way to be told how workers begin.
_METHOD = "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"


def start_for(address: str, main_module: str) -> None:
    """Start it where `--dask` asks for local workers and the environment tells Dask no other way.

    For a process that is all ours: it has one at most, deaf to signals: whoever forks from it must want that. Each
    worker runs `main_module`, which this process began with, once more.
    """
    if local_workers(address) is None or find_spec("distributed") is None:
        return
    if sys.platform != "linux":
        return  # elsewhere libraries are not made to be forked once they are loaded
    if sys.version_info < (3, 11, 1):
        return  # there any user of the machine can run code in it (CVE-2022-42919)
    if os.environ.setdefault(_METHOD, "forkserver") != "forkserver":
        return
    without_numpy()  # Dask would import it, and pandas, to have them forked
    imported = ["exporter.fetch.cluster.fork_server_imports", main_module]
    get_context("forkserver").set_forkserver_preload(imported)
    os.environ.update(MEMORY | dict(os.environ), PYTHONSAFEPATH="1", PYTHONPATH=python_path())
    resource_tracker.ensure_running()  # it lets the signals go, whoever holds them
    with signals_held():
        forkserver.ensure_running()
