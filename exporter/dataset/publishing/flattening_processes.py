"""The processes that flatten beside the publishing one: blocks of the plan go in, their tables come back in its order."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from queue import SimpleQueue

import msgspec
import pyarrow as pa

from exporter.dataset.dataset_writer import schemas_of
from exporter.dataset.publishing.batch_flattening import Block, Flattened, Told
from exporter.dataset.publishing.publish_job import PublishJob
from exporter.model.errors import StorageError, error_of
from exporter.system.child_process import MEMORY, PUBLISHING_MEMORY

_PIPE_BYTES = 1024 * 1024
_BLOCKS_AHEAD = 8  # of each process; with 2, a publish takes 5 % longer (measured 2026-11-30)


class Flatteners(AbstractContextManager["Flatteners"]):
    """So many processes that flatten blocks of a job; they end with the block of code, or with us."""

    def __init__(self, job: PublishJob, count: int) -> None:
        self._schemas = schemas_of(job)
        self._processes = [_started(job) for _ in range(count)]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(count)

    def flatten(self, blocks: Iterable[Block]) -> Iterator[Flattened]:
        """Yield the pieces of the blocks in their order; a `StorageError` where a process broke."""
        waiting: deque[Future[list[Flattened]]] = deque()
        for block in blocks:
            waiting.append(self._threads.submit(self._ask, block))
            # While a row group is written, the processes go on.
            if len(waiting) > _BLOCKS_AHEAD * len(self._processes):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            with suppress(BrokenPipeError), process:  # it closes what leads to a process that is gone
                pass

    def _ask(self, block: Block) -> list[Flattened]:
        process = self._idle.get()
        try:
            return list(self._answers(process, block))
        except (OSError, msgspec.DecodeError):
            raise StorageError(
                f"A flattening process ended early (exit status {process.wait()}).",
                "See what it printed above; if it was killed, memory may be short. Run the same command again to resume.",
            ) from None
        finally:
            self._idle.put(process)

    def _answers(self, process: subprocess.Popen[bytes], block: Block) -> Iterator[Flattened]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(block) + b"\n")
        process.stdin.flush()
        while (told := msgspec.json.decode(process.stdout.readline(), type=Told)).piece is not None:
            tables = {}
            for name, schema in self._schemas.items():
                parts = [process.stdout.read(length) for length in told.lengths[name]]
                batches = [pa.ipc.read_record_batch(pa.py_buffer(part), schema) for part in parts]
                tables[name] = pa.Table.from_batches(batches, schema)
            yield Flattened(told.piece, tables)
        if told.error is not None:
            raise error_of(*told.error)


def _started(job: PublishJob) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        (sys.executable, "-P", "-m", "exporter.dataset.publishing.flattening_main"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pipesize=_PIPE_BYTES,
        env={name: value for name, value in os.environ.items() if name not in PUBLISHING_MEMORY} | MEMORY,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    return process
