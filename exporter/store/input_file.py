"""The input file opened once: its order numbers into the plan, its digest on the way."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from exporter.lists import Batch, read
from exporter.model.errors import InputError
from exporter.model.manifest import Input, input_of
from exporter.model.records import PlanCounts
from exporter.store.plan import make_plan

STANDARD_INPUT = "-"


@contextmanager
def open_input(name: str) -> Iterator[BinaryIO]:
    """Open the file of order numbers; `-` is standard input.

    Raises:
        InputError: It is not there, is a directory, or cannot be read.
    """
    if name == STANDARD_INPUT:
        # Not `sys.stdin`: at the exit Python waits for its lock, which a thread that still reads holds.
        yield cast("BinaryIO", io.FileIO(sys.stdin.fileno(), closefd=False))
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - closed below; an error inside the block is not ours
    except OSError as error:
        raise InputError(
            f"{name}: cannot be read: {error.strerror}.", "Give a file of order numbers."
        ) from None
    with stream:
        yield stream


class InputPlan:
    """The making of a plan from an open input.

    Args:
        stream: The input, from its beginning.
        name: As the user gave it; its ending chooses the format.
        column: The column of order numbers, or None to find it.
        plan: Where the plan is written.
    """

    def __init__(self, stream: BinaryIO, name: str, column: str | None, plan: Path) -> None:
        self._stream = stream
        self._name = name
        self._column = column
        self._plan = plan
        self._interrupted = False

    def interrupt(self) -> None:
        """Make `make`, in another thread, end with an error at its next batch."""
        self._interrupted = True

    def make(self) -> tuple[PlanCounts, Input]:
        """Write the plan; return what the input held, and its record for the manifest.

        Raises:
            InputError: The input cannot be read, or holds no order number.
            StorageError: The disk refuses the plan.
        """
        digest = _DigestReader(self._stream)
        # `seek` is for formats that read from their end; those are digested by a second reading.
        at_end = _reads_from_its_end(self._name)
        source = self._stream if at_end else io.BufferedReader(digest, 1 << 20)
        counts = make_plan(self._plan, self._batches(source))
        if at_end:
            self._stream.seek(0)
            sha256 = hashlib.file_digest(cast("io.BufferedReader", self._stream), "sha256").hexdigest()
        else:
            while digest.read(1 << 20):
                pass  # what follows the last line, as the rest of a gzip file does
            sha256 = digest.hexdigest()
        return counts, input_of(self._name, sha256, counts)

    def _batches(self, source: BinaryIO) -> Iterator[Batch]:
        for batch in read(source, name=self._name, column=self._column):
            if self._interrupted:
                raise InterruptedError("the plan is not wanted any more")
            yield batch


def _reads_from_its_end(name: str) -> bool:
    return name.lower().endswith((".parquet", ".xlsx"))


class _DigestReader(io.RawIOBase):
    """Passes a stream on and digests what passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what RawIOBase really hands over
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._digest.update(data)
        return len(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
