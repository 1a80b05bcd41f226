"""The input file opened once: its order numbers into the plan, its digest on the way."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from exporter.lists import Batch, Reading, read
from exporter.lists.how_read import Passing
from exporter.model.argument_kinds import GivenList
from exporter.model.errors import InputError
from exporter.model.manifest import Input
from exporter.model.options import AskOptions
from exporter.store.plan import make_plan

STANDARD_INPUT = "-"


@contextmanager
def open_input(name: str) -> Iterator[list[BinaryIO]]:
    """Open a file of order numbers, the parts of a folder, or standard input (`-`); an `InputError` where it fails."""
    with ExitStack() as stack:
        if isinstance(name, GivenList):
            yield [io.BytesIO("\n".join(map(json.dumps, name.numbers)).encode())]
            return
        try:
            if name == STANDARD_INPUT:
                # Not `sys.stdin`: at the exit Python waits for its lock, which a thread that still reads holds.
                yield [cast("BinaryIO", io.FileIO(sys.stdin.fileno(), closefd=False))]
                return
            # Without a buffer: another process may read from the same open file.
            streams = [stack.enter_context(part.open("rb", buffering=0)) for part in _parts(Path(name))]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            hint = "Give a file of order numbers."
            if "://" in str(name):
                hint = "URLs are not supported: download it, or pipe it into -."
            raise InputError(f"{name}: cannot be read: {reason}.", hint) from None
        yield cast("list[BinaryIO]", streams)


def _parts(path: Path) -> list[Path]:
    """Return the files of a folder as Spark and Hive write them, in the order of their names."""
    if not path.is_dir():
        return [path]
    inside = (part for part in sorted(path.rglob("*")) if part.is_file())
    parts = [part for part in inside if not re.search(r"(^|/)[._]", part.relative_to(path).as_posix())]
    if not parts:
        what = f"{path}: expected a file, or a folder of part files, got an empty folder."
        raise InputError(what, "Give a file.")
    endings = sorted({part.suffix.lower() for part in parts})
    if len(endings) > 1:
        what = f"{path}: expected part files of one format, got {', '.join(endings)}."
        raise InputError(what, f"Give one: {parts[0]}")
    return parts


class InputPlan:
    """The making of a plan, for a store, from an open input, whose name's ending counts where its content leaves a choice."""

    def __init__(
        self, streams: list[BinaryIO], name: str, choice: AskOptions, plan: Path, store: Path | None = None
    ) -> None:
        self._streams = streams
        self._name = name
        self._choice = AskOptions(input_format="json") if isinstance(name, GivenList) else choice
        self._plan, self._store = plan, store
        self._interrupted = False

    def interrupt(self) -> None:
        """Make `make`, in another thread, end with an error at its next batch."""
        self._interrupted = True

    def make(self) -> Input:
        """Write the plan; return what the input holds. An `InputError` where it cannot be read or holds nothing."""
        digest, reading = hashlib.sha256(), Reading()
        found = make_plan(self._plan, self._batches(digest, reading), self._store)
        facts = {"path": str(self._name), "sha256": digest.hexdigest(), "read": reading.as_dict()}
        return msgspec.structs.replace(found, **facts)

    def _batches(self, digest: hashlib._Hash, reading: Reading) -> Iterator[Batch]:
        above = 0  # lines of the parts before
        for stream in self._streams:
            start = stream.tell() if stream.seekable() else None
            source = stream if start is not None else _digesting(stream, digest)
            last = 0
            for batch in read(source, name=self._name, choice=self._choice, reading=reading):
                if self._interrupted:
                    raise InterruptedError("the plan is not wanted any more")
                yield _below(batch, above) if above else batch
                last = max([last, *batch.lines[-1:], *(bad.line for bad in batch.invalid[-1:])])
            above += last
            # What follows the last line too, as the rest of a gzip file does.
            if start is not None:
                stream.seek(start)
            while data := source.read(1 << 20):
                if start is not None:
                    digest.update(data)


def _below(batch: Batch, above: int) -> Batch:
    """Return a batch of a later part, its lines counted on."""
    invalid = [replace(bad, line=bad.line + above) for bad in batch.invalid]
    return replace(batch, lines=[line + above for line in batch.lines], invalid=invalid)


def _digesting(stream: BinaryIO, digest: hashlib._Hash) -> BinaryIO:
    """Return what passes on a stream that cannot seek, and digests what passes."""

    def read(size: int) -> bytes:
        data = stream.read(size)
        digest.update(data)
        return data

    return cast("BinaryIO", Passing(read))
