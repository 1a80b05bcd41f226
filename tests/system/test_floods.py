"""Answers made to fill the memory: refused as soon as they are too large, and the process stays small."""

from __future__ import annotations

import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import serving
from tests.support.processes import Ended, exporter_for
from tests.support.servers import moves
from tests.support.servers.moves import MIB, Behaviour, Step

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it"),
    pytest.mark.usefixtures("transport"),
]

CAP = 32 * MIB
MOST_MEMORY = 200 * MIB
# What may be on its way when the exporter stops reading: both sockets' buffers and a piece of ours.
ON_ITS_WAY = 14 * MIB

# Runs a command and writes down the peak memory of the largest process in it, in KiB.
_MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


class Flood:
    """A body of any size that knows how much of it was taken."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken: Counter[str] = Counter()

    def __call__(self, number: str, _nth: int) -> Iterator[Step]:
        yield moves.head(length=self._size)
        piece = b'{"number": "%b", "notes": "' % number.encode()
        while self.taken[number] < self._size:
            self.taken[number] += len(piece)
            yield piece
            piece = b" " * MIB


@cache
def bomb() -> bytes:
    """1 GiB of an order in 1 MiB of gzip; its checksum is wrong, for whoever reads that far."""
    packer = zlib.compressobj(wbits=31)
    start = packer.compress(b'{"number": "x", "notes": "') + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * (16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * 64 + packer.compress(b'"}') + packer.flush()


def bombs(_number: str, _nth: int) -> Iterable[Step]:
    return moves.head(headers={"Content-Encoding": "gzip"}, length=len(bomb())), bomb()


@dataclass(frozen=True)
class Outcome:
    ended: Ended
    rejects: list[dict[str, Any]]
    peak: int
    asked: Counter[str]


def export(folder: Path, plan: dict[str, Behaviour], *words: object) -> Outcome:
    """Export these orders, one reject for each of them, and measure."""
    with serving(plan) as server:
        exporter = exporter_for(server.url, folder, list(plan))
        measured = [sys.executable, "-c", _MEASURED, str(folder / "peak")]
        exporter = type(exporter)(cwd=exporter.cwd, env=exporter.env, prefix=measured)
        ended = exporter.run("--max-rejects", "100%", "--max-attempts", 2, *words)
        asked = Counter(arrival.number for arrival in server.arrivals)
    assert ended.code == 3, ended.err
    rejects = [json.loads(line) for line in (folder / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [reject["order_number"] for reject in rejects] == list(plan)
    return Outcome(ended, rejects, 1024 * int((folder / "peak").read_text()), asked)


def test_many_floods_at_once_leave_the_process_small(tmp_path: Path) -> None:
    """32 at a time of each kind: each order is a `bad_response`, and nothing grows over 200 MiB."""
    flood = Flood(600 * MIB)
    kinds: dict[str, Behaviour] = {
        "bomb": bombs,
        "flood": flood,
        "chunked-flood": moves.flood(600 * MIB),
        "header-flood": moves.header_flood(),
        "nested": moves.nested(100_000),
        "giant-length": moves.giant_length(),
    }
    plan = {f"{kind}-{index}": behaviour for index in range(10) for kind, behaviour in kinds.items()}
    outcome = export(tmp_path, plan, "--concurrency", 32, "--timeout", 30)
    assert {reject["reason"] for reject in outcome.rejects} == {"bad_response"}
    assert outcome.peak < MOST_MEMORY
    for number, asked in outcome.asked.items():
        if number in plan and number != next(iter(plan)):
            assert asked == (2 if number.startswith("header-flood") else 1)


def test_the_cap_stops_the_reading(tmp_path: Path) -> None:
    """Of 600 MiB that say so, next to nothing is taken; of those that do not, little more than 32 MiB."""
    told, untold = Flood(600 * MIB), Flood(600 * MIB)

    def chunked(number: str, nth: int) -> Iterator[Step]:
        pieces = untold(number, nth)
        next(pieces)
        yield moves.head()
        yield from (moves.chunk(piece) for piece in pieces if isinstance(piece, bytes))

    export(tmp_path, {"told": told, "untold": chunked})
    assert told.taken["told"] < MIB + ON_ITS_WAY
    assert CAP < untold.taken["untold"] < CAP + ON_ITS_WAY


def test_the_cap_counts_decoded_bytes(tmp_path: Path) -> None:
    """One byte under the cap is an order like any other, compressed or not; one byte over is none."""

    def sized(size: int) -> Behaviour:
        def steps(number: str, nth: int) -> Iterable[Step]:
            order = b'{"number": "%b", "notes": "' % number.encode()
            body = order + b" " * (size - len(order) - 2) + b'"}'
            packed = zlib.compress(body, wbits=31)
            return moves.answer(packed, headers={"Content-Encoding": "gzip"})(number, nth)

        return steps

    with serving({"under": sized(CAP), "over": sized(CAP + 1)}) as server:
        exporter = exporter_for(server.url, tmp_path, ["under", "over"])
        ended = exporter.run("--max-rejects", "100%")
        assert ended.code == 3, ended.err
    [reject] = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert (reject["order_number"], reject["reason"], reject["attempts"]) == ("over", "bad_response", 1)
