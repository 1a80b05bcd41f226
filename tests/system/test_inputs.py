"""Every kind of list of order numbers through whole runs: the same numbers give the same dataset."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openpyxl  # type: ignore[import-untyped] # it ships no types
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.clients import serving
from tests.support.processes import exporter_for
from tests.support.servers import moves
from tests.support.standing import contents

#: What an input must not change: zeros before, digits beyond any integer, letters, percent-encoding.
LISTED = ["007", "12345678901234567890123", "İ/ö?", "1e5", "2026-01-02", "TRUE", "=1+1"]
INPUTS = ["orders.txt", "orders.txt.gz", "orders.csv", "orders.jsonl", "orders.parquet", "orders.xlsx"]


def _write_inputs(folder: Path) -> None:
    """Write the listed numbers in every format, with what real files have around them."""
    column = "Order_Number"
    text = "\ufeff\r\n" + "\r\n".join(f"  {number} " for number in LISTED)
    rows = "".join(f'1;"{number}"\n' for number in LISTED)
    (folder / "orders.txt").write_bytes(text.encode())
    (folder / "orders.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "orders.csv").write_text(f"id;{column}\n{rows}", "utf-8")
    (folder / "orders.jsonl").write_text("".join(f"{json.dumps(number)}\n" for number in LISTED))
    pq.write_table(pa.table({"id": [1] * len(LISTED), column: LISTED}), folder / "orders.parquet")
    book = openpyxl.Workbook()
    for place, value in enumerate([column, *LISTED], start=1):
        cell = book.active.cell(place, 1)
        cell.value, cell.data_type = value, "s"
    book.save(folder / "orders.xlsx")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A folder of inputs, with the dataset that the rejects of an earlier run gave."""

    url: str
    folder: Path
    dataset: dict[str, str]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    """All listed numbers were rejected by a first run, whose `rejects.jsonl` a second one takes."""
    folder = tmp_path_factory.mktemp("inputs")
    with serving(dict.fromkeys(LISTED, moves.in_turn(moves.status(404), moves.good))) as server:
        exporter = exporter_for(server.url, folder, LISTED)
        assert exporter.run("--max-rejects", "100%", out="first").code == 3
        _write_inputs(folder)
        ended = exporter("run", "first/rejects.jsonl", "--out", "again", "--rate", "unlimited")
        assert ended.code == 0, ended.err
        yield Inputs(url=server.url, folder=folder, dataset=contents(folder / "again"))


def test_the_rejects_of_a_run_are_the_input_of_the_next(inputs: Inputs) -> None:
    """All that was rejected is asked for again, nothing else, under its very number."""
    rows = pq.read_table(inputs.folder / "again" / "orders.parquet", columns=["number"]).to_pylist()
    assert [row["number"] for row in rows] == LISTED


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_gives_the_same_dataset(inputs: Inputs, name: str) -> None:
    """The format of the list changes no byte of tables and rejects."""
    exporter = exporter_for(inputs.url, inputs.folder, [])
    ended = exporter("run", name, "--out", f"of-{name}-all", "--rate", "unlimited")
    assert ended.code == 0, ended.err
    assert contents(inputs.folder / f"of-{name}-all") == inputs.dataset


def test_standard_input_gives_the_same_dataset(inputs: Inputs) -> None:
    """`-` takes numbers from a pipe."""
    exporter = exporter_for(inputs.url, inputs.folder, [])
    command = [sys.executable, "-m", "exporter", "run", "-", "--out", "of-pipe", "--rate", "unlimited"]
    text = (inputs.folder / "orders.txt").read_bytes()
    ended = subprocess.run(command, input=text, cwd=exporter.cwd, env=exporter.env, capture_output=True)  # noqa: PLW1510
    assert ended.returncode == 0, ended.stderr
    assert contents(inputs.folder / "of-pipe") == inputs.dataset
