"""A Dask cluster to run on: one of this machine, made for the run, or one that is there already."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask.config
import distributed as _untyped
from distributed import utils as _untyped_utils

from exporter.fetch.cluster import local_workers
from exporter.fetch.cluster.dask_connections import connected, scheme_and_host
from exporter.model.errors import ExporterError, UsageError
from exporter.system.child_process import signals_held
from exporter.system.lean_process import MEMORY

_dask: Any = _untyped
_utils: Any = _untyped_utils
_CONNECT_S = 3.0
#: A scheduler that restarts, or workers that do, are waited for so long.
PATIENCE_S = 60.0
_CLOSE_S = 0.5
# A local worker need not look 100 times a second at what its one thread is doing.
_CALM = {
    "distributed.comm.require-encryption": False,  # over loopback; set for clusters, perhaps
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "1s",
    "distributed.admin.tick.limit": "60s",
    "distributed.admin.system-monitor.interval": "60s",
    # For workers that are started anew: those that are forked have the environment of the fork server.
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in MEMORY.items()},
    # Dask's own setting makes malloc give back and take anew what each read of an answer needs.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


class ClusterUnavailableError(ExporterError):
    """Raised when the cluster is gone in mid-run; what was fetched is kept."""

    exit_code = 6


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster with a client.

    Attributes:
        client: In this event loop.
        is_local: Whether its workers are children of this process.
    """

    client: Any
    is_local: bool

    @property
    def listen_host(self) -> str:
        """Scheme and host at which workers can reach this process."""
        if self.is_local:
            return "tcp://127.0.0.1"
        scheme, host = scheme_and_host(self.client.scheduler.address)
        return f"{scheme}://{_utils.get_ip(host)}"

    @property
    def listen_args(self) -> dict[str, Any]:
        """What the listener needs, for TLS."""
        args: dict[str, Any] = self.client.security.get_listen_args("client")
        return args

    async def workers(self) -> set[str] | None:
        """Return the addresses of the workers that are there now; None while the scheduler is away."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                return set((await self.client.scheduler.identity())["workers"])
        except (OSError, AttributeError):  # the client has no scheduler while it connects anew
            return None


@asynccontextmanager
async def open_cluster(address: str) -> AsyncIterator[Cluster]:
    """Hold a cluster for the length of the block.

    Args:
        address: `local`, `local:N` for N workers, or a scheduler's address.

    Raises:
        UsageError: It is no such address, or no scheduler answers there.
    """
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters we tell ourselves
    workers = local_workers(address)
    if workers is not None:
        async with _local(workers) as cluster:
            yield cluster
        return
    await _check_answers(address)
    async with _dask.Client(address, asynchronous=True, timeout=PATIENCE_S) as client:
        yield Cluster(client=client, is_local=False)


async def _check_answers(address: str) -> None:
    hint = "Give local, local:N, or the address of a Dask scheduler, as tcp://scheduler:8786."
    if "://" not in address:
        raise UsageError(f"expected a scheduler's address, got {address!r}.", hint, option="dask")
    security = _dask.Security()
    try:
        wire = await connected(address, _CONNECT_S, security.get_connection_args("client"))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Dask scheduler answers there ({error}).", hint, option="dask", value=address
        ) from None
    await wire.close()


@asynccontextmanager
async def _local(workers: int) -> AsyncIterator[Cluster]:
    with signals_held(), dask.config.set(_CALM):
        cluster = await _dask.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            asynchronous=True,
            # Its HTTP server cannot be left out; at a free port of loopback it disturbs nobody.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
            memory_limit=0,
            preload=["exporter.fetch.cluster.worker_preload"],
        )
    try:
        async with _dask.Client(cluster, asynchronous=True) as client:
            yield Cluster(client=client, is_local=True)
    finally:
        with suppress(TimeoutError):
            await cluster.close(timeout=_CLOSE_S)
