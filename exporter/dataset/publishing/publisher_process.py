"""The publishing process as its parent sees it: started, followed, told that the refresh is over."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from exporter.dataset.publishing.publish_job import OVER, Message, PublishJob, PublishResult
from exporter.model import errors
from exporter.model.manifest import Drift
from exporter.model.outside_text import visible
from exporter.system.child_process import PUBLISHING_MEMORY, python_path, signals_held
from exporter.system.log import log

#: What is left of the ten seconds in which a signal ends a run, after the answers in flight had eight.
_PATIENCE_S = 1.0
_LONGEST_MESSAGE = 64 * 1024 * 1024


class DriftLog:
    """Warns once of each path that fits no column."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def warn(self, drift: Drift) -> None:
        """Warn of those that are new."""
        what = dict.fromkeys(drift.unmapped_paths, "the API sends a field that has no column")
        what |= dict.fromkeys(drift.uncoerced, "a value does not fit its column's type")
        for path in (path for path in what if path not in self._warned):
            log.warning("%s: %s; it is kept in _unmapped.", visible(path), what[path])
        self._warned |= what.keys()


class Publishing:
    """A running publishing process; made by `start_publishing`."""

    def __init__(
        self, process: asyncio.subprocess.Process, told: asyncio.StreamReader, asked: asyncio.StreamWriter
    ) -> None:
        self._process, self._told, self._asked = process, told, asked
        self.lines = 0

    async def result(self) -> PublishResult:
        """Follow the process to its result, warning once of each path that fits no column."""
        drift = DriftLog()
        async for line in self._told:
            message = msgspec.json.decode(line, type=Message)
            if message.error is not None:
                raise errors.error_of(*message.error)
            if (news := message.progress or message.result) is not None:
                drift.warn(news.drift)
            if message.result is not None:
                return message.result
            if message.progress is not None:
                self.lines = message.progress.lines
        code = await self._process.wait()
        raise errors.StorageError(
            f"The publishing process ended early (exit status {code}).",
            "See what it printed above; if it was killed, memory may be short. Run the same command again to resume.",
        )

    def refresh_is_over(self) -> None:
        """Tell the process that nothing more will be settled."""
        self._asked.write(OVER)


@asynccontextmanager
async def start_publishing(job: PublishJob) -> AsyncIterator[Publishing]:
    """Start a process that publishes `job`; it does not outlive the block."""
    # Without the credentials, and with the way to this very package.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTER_API_")}
    with signals_held():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "exporter.dataset.publishing.publisher_main"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=kept | PUBLISHING_MEMORY | {"PYTHONPATH": python_path()},
            limit=_LONGEST_MESSAGE,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        yield Publishing(process, process.stdout, process.stdin)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
