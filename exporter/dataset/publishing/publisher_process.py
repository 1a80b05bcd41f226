"""The publishing process as its parent sees it: started, followed, told that the refresh is over."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from exporter.dataset.publishing.publish_job import OVER, Message, PublishJob, PublishResult
from exporter.model import errors
from exporter.model.outside_text import visible
from exporter.system.child_process import python_path, signals_held
from exporter.system.lean_process import PUBLISHING_MEMORY

log = logging.getLogger("exporter")

#: What is left of the ten seconds in which a signal ends a run, after the answers in flight had eight.
_PATIENCE_S = 1.0
_LONGEST_MESSAGE = 64 * 1024 * 1024


class DriftLog:
    """Warns once of each path that fits no column."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def warn(self, unmapped_paths: Mapping[str, int], uncoerced: Mapping[str, int]) -> None:
        """Warn of those that are new; both are counts by path."""
        what = dict.fromkeys(unmapped_paths, "the API sends a field that no column is for")
        what |= dict.fromkeys(uncoerced, "a value does not fit its column's type")
        for path in [path for path in what if path not in self._warned]:
            self._warned.add(path)
            log.warning("%s: %s; it is kept in _unmapped.", visible(path), what[path])


class Publishing:
    """A running publishing process; made by `start_publishing`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines = 0
        self._drift = DriftLog()

    async def result(self) -> PublishResult:
        """Follow the process to its result, warning once of each path that fits no column.

        Raises:
            StorageError: The disk refuses, the store is damaged, or the process was killed.
        """
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = msgspec.json.decode(line, type=Message)
            if message.error is not None:
                raise errors.error_of(*message.error)
            if message.result is not None:
                self._drift.warn(message.result.unmapped_paths, message.result.uncoerced)
                return message.result
            if message.progress is not None:
                self.lines = message.progress.lines
                self._drift.warn(message.progress.unmapped_paths, message.progress.uncoerced)
        code = await self._process.wait()
        raise errors.StorageError(
            f"The publishing process ended early (exit status {code}).",
            "See what it printed above; if it was killed, memory may be short. The same command goes on.",
        )

    def refresh_is_over(self) -> None:
        """Tell the process that nothing more will be settled."""
        assert self._process.stdin is not None
        self._process.stdin.write(OVER)


@asynccontextmanager
async def start_publishing(job: PublishJob) -> AsyncIterator[Publishing]:
    """Start a process that publishes `job`; it does not outlive the block."""
    with signals_held():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "exporter.dataset.publishing.publisher_main",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
            limit=_LONGEST_MESSAGE,
        )
    assert process.stdin is not None
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        yield Publishing(process)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """Return our environment without the credentials, and with the way to this very package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTER_API_")}
    return kept | PUBLISHING_MEMORY | {"PYTHONPATH": python_path()}
