"""A Dask scheduler and its workers, in processes of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import TOKEN, clean_environment, wait_until


@dataclass
class DaskCluster:
    """A scheduler and workers in processes of their own."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    address: str = ""

    def start(self, module: str, *words: str, **env: str) -> subprocess.Popen[bytes]:
        environment = clean_environment({"EXPORTER_API_TOKEN": TOKEN, **self.env}) | env
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *words],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def add_worker(self, *more: str, **env: str) -> None:
        words = [
            self.address,
            "--no-nanny",
            "--nthreads",
            "1",
            "--no-dashboard",
            "--memory-limit",
            "0",
            *more,
        ]
        self.workers.append(self.start("dask_worker", *words, "--local-directory", str(self.folder), **env))

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()


@contextmanager
def running_cluster(folder: Path, workers: int, protocol: str = "tcp", **env: str) -> Iterator[DaskCluster]:
    """Run a cluster for the length of the block; keywords are more environment for all of it."""
    cluster = DaskCluster(folder, env)
    scheduler = cluster.start(
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--protocol", protocol, "--no-dashboard"
    )
    try:
        pattern = re.compile(r"Scheduler at: +(t\w+://\S+)")
        wait_until(lambda: pattern.search(cluster.log()) is not None)
        found = pattern.search(cluster.log())
        assert found is not None
        cluster.address = found[1]
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        for process in (*cluster.workers, scheduler):
            process.kill()
            process.wait()
