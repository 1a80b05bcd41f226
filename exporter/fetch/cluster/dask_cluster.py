"""A Dask cluster to run on: one of this machine, made for the run, or one that is there already.

Whoever can speak with a scheduler or a worker can run code there. So local ones speak TLS alone, with a
certificate that is made for each run and kept in memory, and another cluster must do so as well.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import dask.config
import distributed as _untyped
import distributed.comm as _untyped_comm

from exporter.fetch.cluster import local_workers
from exporter.model.errors import ApiUnavailableError, UsageError
from exporter.model.options import SECRETS, Options, is_loopback
from exporter.system.child_process import MEMORY, signals_held

_dask: Any = _untyped
_comm: Any = _untyped_comm
CONNECT_S = 3.0
PATIENCE_S = 60.0  # a scheduler that restarts, or workers that do, are waited for so long
_CLOSE_S = 0.5
_CLEAR_TEXT = (
    "expected tls://, got a cluster that neither encrypts nor checks who connects: anyone who reaches it could read your"
    " orders, run code on its workers and take the token."
)
_LOCAL: dict[str, Any] = {
    # Dask's HTTP servers cannot be left out, but have no pages.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # A local worker need not look 100 times a second at what its one thread is doing.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "1s",
    "distributed.admin.tick.limit": "60s",
    "distributed.admin.system-monitor.interval": "60s",
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in MEMORY.items()},
    # Dask's own setting makes malloc give back and take again what each read of an answer needs.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


def gone(address: str | None, why: str) -> ApiUnavailableError:
    """Return the error that ends a run whose cluster does not do its work."""
    what = f"--dask {address}: the cluster does not work ({why})."
    return ApiUnavailableError(what, "Check it, then run the same command again", resumes=True)


def refused(address: str | None, problem: str, advice: str) -> UsageError:
    """Return the error that says why a run cannot have this cluster."""
    return UsageError(problem, advice, option="dask", value=address)


@asynccontextmanager
async def open_cluster(options: Options, folder: Path) -> AsyncIterator[Any]:
    """Hold a client of the cluster that `--dask` names; a local one's workers are children that write into `folder`.

    A `UsageError` where it is no such address, no scheduler answers there, or anybody could read what it is told.
    """
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters we tell ourselves
    address = str(options.dask)
    workers = local_workers(address)
    if workers is None:
        await _check(address, insecure=options.dask_insecure)
    place = nullcontext(address) if workers is None else _local(workers, options, folder)
    async with place as cluster, _dask.Client(cluster, asynchronous=True, timeout=PATIENCE_S) as client:
        yield client


async def _check(address: str, *, insecure: bool) -> None:
    """Refuse what is no address, what anybody could read or use, and where no scheduler answers."""
    example = "as tls://scheduler:8786."
    if "://" not in address:
        hint = f"Give local, local:N, or the address of a Dask scheduler, {example}"
        raise UsageError(f"expected a scheduler's address, got {address!r}.", hint, option="dask")
    scheme, place = _comm.parse_address(address)
    if not (scheme == "tls" or insecure or is_loopback(place.rpartition(":")[0].strip("[]"))):
        hint = "Set up TLS for the cluster, or give --dask-insecure if this network is yours alone."
        raise refused(address, _CLEAR_TEXT, hint)
    try:
        arguments = _dask.Security().get_connection_args("client")
        wire = await _comm.connect(address, timeout=CONNECT_S, **arguments)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        problem = f"no Dask scheduler answers there ({error})."
        raise refused(address, problem, f"Start one, or give its address, {example}") from None
    await wire.close()


@asynccontextmanager
async def _local(workers: int, options: Options, folder: Path) -> AsyncIterator[Any]:
    with signals_held(), dask.config.set(_LOCAL):
        cluster = await _dask.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            asynchronous=True,
            security=_dask.Security.temporary(),
            host="127.0.0.1",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            # What is not given is empty there.
            env={variable: getattr(options, name) or "" for name, variable in SECRETS.items()},
            preload=["exporter.fetch.cluster.range_worker"],
            local_directory=str(folder),
            silence_logs=logging.CRITICAL,
            memory_limit=0,
        )
    try:
        yield cluster
    finally:
        with suppress(TimeoutError):
            await cluster.close(timeout=_CLOSE_S)
