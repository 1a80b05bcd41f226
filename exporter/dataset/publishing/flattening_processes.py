"""The processes that flatten beside the publishing one: batches go in, their tables come back in input order."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from queue import SimpleQueue

import msgspec
import pyarrow as pa

from exporter.dataset.dataset_writer import schemas_of
from exporter.dataset.publishing.batch_flattening import LENGTH_BYTES, Batch, Flattened, Flattening, Told
from exporter.dataset.publishing.publish_job import PublishJob
from exporter.model.errors import StorageError, error_of
from exporter.store.order_store import Store

_PIPE_BYTES = 1024 * 1024


class Flatteners(AbstractContextManager["Flatteners"]):
    """Flattens the batches of a job: here, or once it was `spread` in processes, which end with the block or with us."""

    def __init__(self, job: PublishJob, store: Store) -> None:
        self._job, self._here, self._schemas = job, Flattening(job, store), schemas_of(job)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None
        #: How many batches may wait to be had: those of processes in work, and one more for each.
        self.ahead = 0

    def spread(self, count: int) -> None:
        """Flatten what comes in so many processes."""
        self._processes = [_started(self._job) for _ in range(count)]
        for process in self._processes:
            self._idle.put(process)
        self._threads, self.ahead = ThreadPoolExecutor(count), 2 * count

    def submit(self, batch: Batch) -> Callable[[], Iterable[Flattened]]:
        """Return what flattens a batch, or waits until it is; a `StorageError` there where a process broke."""
        return self._threads.submit(self._ask, batch).result if self._threads else partial(self._here, batch)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            with suppress(BrokenPipeError), process:  # it closes what leads to a process that is gone
                pass

    def _ask(self, batch: Batch) -> list[Flattened]:
        process = self._idle.get()
        try:
            return list(self._answers(process, batch))
        except (OSError, msgspec.DecodeError):
            raise StorageError(
                f"A flattening process ended early (exit status {process.wait()}).",
                "See what it printed above; if it was killed, memory may be short. Run the same command again to resume.",
            ) from None
        finally:
            self._idle.put(process)

    def _answers(self, process: subprocess.Popen[bytes], batch: Batch) -> Iterator[Flattened]:
        assert process.stdin is not None
        assert process.stdout is not None
        text = msgspec.msgpack.encode(batch)
        process.stdin.write(len(text).to_bytes(LENGTH_BYTES, "big"))
        process.stdin.write(text)
        process.stdin.flush()
        while (told := msgspec.json.decode(process.stdout.readline(), type=Told)).lengths:
            tables = {}
            for name, schema in self._schemas.items():
                parts = [process.stdout.read(length) for length in told.lengths[name]]
                batches = [pa.ipc.read_record_batch(pa.py_buffer(part), schema) for part in parts]
                tables[name] = pa.Table.from_batches(batches, schema)
            yield Flattened(told.orders, told.items, told.drift, tables)
        if told.error is not None:
            raise error_of(*told.error)


def _started(job: PublishJob) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        (sys.executable, "-P", "-m", "exporter.dataset.publishing.flattening_main"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pipesize=_PIPE_BYTES,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    return process
