"""The input file opened once: its order numbers into the plan, its digest on the way."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from exporter.errors import InputError
from exporter.manifest import Input, input_of
from exporter.order_numbers import read
from exporter.plan import make_plan
from exporter.records import PlanCounts

STANDARD_INPUT = "-"


@contextmanager
def open_input(name: str) -> Iterator[BinaryIO]:
    """Open the file of order numbers; `-` is standard input.

    Raises:
        InputError: It is not there, is a directory, or cannot be read.
    """
    if name == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - closed below; an error inside the block is not ours
    except OSError as error:
        raise InputError(
            f"{name}: cannot be read: {error.strerror}.", "Give a file of order numbers."
        ) from None
    with stream:
        yield stream


def plan_input(stream: BinaryIO, name: str, column: str | None, plan: Path) -> tuple[PlanCounts, Input]:
    """Make the plan of an open input.

    Args:
        stream: The input, from its beginning.
        name: As the user gave it; its ending chooses the format.
        column: The column of order numbers, or None to find it.
        plan: Where the plan is written.

    Returns:
        What the input held, and its record for the manifest.

    Raises:
        InputError: The input cannot be read, or holds no order number.
        StorageError: The disk refuses the plan.
    """
    digest = _DigestReader(stream)
    # `seek` is for formats that read from their end; those are digested by a second reading.
    source = io.BufferedReader(digest, 1 << 20) if not _reads_from_its_end(name) else stream
    counts = make_plan(plan, read(source, name=name, column=column))
    if source is stream:
        stream.seek(0)
        sha256 = hashlib.file_digest(cast("io.BufferedReader", stream), "sha256").hexdigest()
    else:
        while digest.read(1 << 20):
            pass  # what follows the last line, as the rest of a gzip file does
        sha256 = digest.hexdigest()
    return counts, input_of(name, sha256, counts)


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
