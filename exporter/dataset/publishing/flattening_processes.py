"""The processes that flatten beside the publishing one, a share of the plan's blocks each: their tables in its order."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import cycle

import msgspec
import pyarrow as pa

from exporter.dataset.dataset_writer import schemas_of
from exporter.dataset.publishing.block_flattening import Flattened, Share, Told
from exporter.dataset.publishing.publish_job import PublishJob
from exporter.model.errors import StorageError, error_of
from exporter.system.child_process import MEMORY, PUBLISHING_MEMORY

_PIPE_BYTES = 1024 * 1024
#: So many pieces and ends of blocks wait at most, from all processes together: those go on while a row group is written.
#: With a quarter of it, a publish takes 5 % longer (measured 2026-11-30).
_AHEAD = 32


class Flatteners(AbstractContextManager["Flatteners"]):
    """So many processes that flatten what follows a line of a job's plan; they end with the block of code, or with us."""

    def __init__(self, job: PublishJob, after: int, count: int) -> None:
        self._schemas = schemas_of(job)
        self._processes = [_started(job, Share(after, first, count)) for first in range(count)]
        self._threads = [ThreadPoolExecutor(1) for _ in range(count)]

    def __iter__(self) -> Iterator[Flattened]:
        """Yield the pieces of all blocks in their order; a `StorageError` where a process broke."""
        answers = [self._read_ahead(*each) for each in zip(self._threads, self._processes, strict=True)]
        for pieces in cycle(answers):
            first = next(pieces)
            if first is None:
                return  # no block is left
            yield first
            yield from iter(partial(next, pieces), None)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        for process in self._processes:
            with process:
                pass

    def _read_ahead(
        self, thread: ThreadPoolExecutor, process: subprocess.Popen[bytes]
    ) -> Iterator[Flattened | None]:
        waiting = deque[Future[Flattened | None]]()
        while True:
            while len(waiting) <= _AHEAD // len(self._processes):
                waiting.append(thread.submit(self._answer, process))
            yield waiting.popleft().result()

    def _answer(self, process: subprocess.Popen[bytes]) -> Flattened | None:
        """Return the next piece from a process, None at the end of a block."""
        assert process.stdout is not None
        try:
            told = msgspec.json.decode(process.stdout.readline(), type=Told)
            if told.error is not None:
                raise error_of(*told.error)
            if told.piece is None:
                return None
            tables = {}
            for name, schema in self._schemas.items():
                parts = [process.stdout.read(length) for length in told.lengths[name]]
                batches = [pa.ipc.read_record_batch(pa.py_buffer(part), schema) for part in parts]
                tables[name] = pa.Table.from_batches(batches, schema)
            return Flattened(told.piece, tables)
        except (EOFError, OSError, pa.ArrowInvalid, msgspec.DecodeError):  # cut short, wherever that was
            raise StorageError(
                f"A flattening process ended early (exit status {process.wait()}).",
                "See what it printed above; if it was killed, memory may be short. Run the same command again to resume.",
            ) from None


def _started(job: PublishJob, share: Share) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        (sys.executable, "-P", "-m", "exporter.dataset.publishing.flattening_main"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pipesize=_PIPE_BYTES,
        env={name: value for name, value in os.environ.items() if name not in PUBLISHING_MEMORY} | MEMORY,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # of one that is gone, its answers tell
        process.stdin.write(msgspec.json.encode((job, share)) + b"\n")
    return process
