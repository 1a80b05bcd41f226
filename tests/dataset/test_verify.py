"""`exporter verify` finds whatever differs from the manifest, and nothing where nothing does."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from exporter.dataset.flatten import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA
from exporter.dataset.table_files import table_writer
from exporter.dataset.verification import verify
from exporter.model.options import TableOptions
from tests.support.processes import ROOT, Exporter

Edit = Callable[[Path], object]


def dataset(out: Path, numbers: list[str], items: list[tuple[str, int]], **form: Any) -> Path:
    """Write a dataset with these order numbers and these (order number, item index) pairs."""
    out.mkdir()
    tables: dict[str, tuple[pa.Schema, dict[str, list[Any]]]] = {
        "orders": (ORDERS_SCHEMA, {"number": numbers}),
        "order_items": (
            ORDER_ITEMS_SCHEMA,
            {"order_number": [n for n, _ in items], "item_index": [i for _, i in items]},
        ),
    }
    manifest: dict[str, Any] = {}
    for name, (schema, columns) in tables.items():
        short = pa.schema([schema.field(column) for column in columns])
        files = []
        endings: tuple[Literal["parquet", "csv"], ...] = ("parquet", "csv")
        for ending in endings:
            writer = table_writer(out, name, ending, short, TableOptions(**form))
            writer.write({name: pa.table(columns, schema=short)})
            files += [
                {"path": f.path, "rows": f.rows, "bytes": f.bytes, "sha256": f.sha256}
                for f in writer.close()[name]
            ]
        manifest[name] = {"rows": len(next(iter(columns.values()))), "files": files}
    (out / "rejects.jsonl").write_text("")
    (out / "manifest.json").write_text(json.dumps(_manifest(manifest)))
    return out


def _manifest(tables: dict[str, Any]) -> dict[str, Any]:
    orders, items = tables["orders"]["rows"], tables["order_items"]["rows"]
    return {
        "manifest_version": 1,
        "exporter_version": "0",
        "run_id": "r",
        "started_at": "2026-11-23T00:00:00.000Z",
        "finished_at": "2026-11-23T00:00:01.000Z",
        "api_url": "https://api.invalid",
        "input": {"path": "n", "sha256": "", "lines": orders, "blank": 0, "invalid": 0, "duplicates": 0},
        "counts": {"requested": orders, "exported": orders, "rejected": 0, "order_items": items},
        "rejects_by_reason": {},
        "requests": {"sent": orders, "retried": 0, "throttled": 0},
        "tables": tables,
        "drift": {"unmapped_paths": {}, "uncoerced": {}},
    }


GOOD_ITEMS = [("a", 0), ("a", 1), ("c", 0)]


@pytest.mark.parametrize("form", [{}, {"rows_per_file": 2}, {"csv_dialect": "excel"}], ids=str)
def test_a_good_dataset_has_nothing_to_say(tmp_path: Path, form: dict[str, Any]) -> None:
    """Parquet and CSV of either dialect, part files or not: what the exporter writes verifies."""
    out = dataset(tmp_path / "out", ["a", "00123", "c", "1e5"], GOOD_ITEMS, **form)
    assert list(verify(out)) == []


def test_an_empty_dataset_is_one(tmp_path: Path) -> None:
    """No order at all verifies."""
    assert list(verify(dataset(tmp_path / "out", [], []))) == []


@pytest.mark.parametrize(
    ("numbers", "items", "words"),
    [
        (["a", "a", "c"], [("c", 0)], "order a is there 2 times"),
        (["a", "c"], [("a", 0), ("b", 0), ("c", 0)], "the items of order b have no order"),
        (["a", "c"], [("c", 0), ("a", 0)], "the items of order a have no order at their place"),
        (["a", "c"], [("a", 0), ("a", 2)], "order a: expected item_index 0 to 1, got 0, 2"),
        (["a"], [("a", 1), ("a", 0)], "order a: expected item_index 0 to 1, got 1, 0"),
        (["a"], [("a", 0), ("a", 0)], "order a: expected item_index 0 to 1, got 0, 0"),
        (["a", "c"], [("a", 0), ("c", 0), ("a", 1)], "order a: expected item_index 0 to 0, got 1"),
    ],
)
def test_rows_that_do_not_belong_together_are_found(
    tmp_path: Path, numbers: list[str], items: list[tuple[str, int]], words: str
) -> None:
    """Double orders, items without order, and item indexes with gaps are found, in both formats."""
    found = list(verify(dataset(tmp_path / "out", numbers, items)))
    for ending in ("parquet", "csv"):
        assert any(words in sentence and f".{ending}" in sentence for sentence in found), found


def _append(name: str, data: bytes) -> Edit:
    def edit(out: Path) -> None:
        with (out / name).open("ab") as file:
            file.write(data)

    return edit


def _flip(name: str) -> Edit:
    def edit(out: Path) -> None:
        data = bytearray((out / name).read_bytes())
        data[len(data) // 2] ^= 1
        (out / name).write_bytes(data)

    return edit


def _in_manifest(*keys: str, value: object) -> Edit:
    def edit(out: Path) -> None:
        manifest = json.loads((out / "manifest.json").read_text())
        inner = manifest
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (out / "manifest.json").write_text(json.dumps(manifest))

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_append("orders.parquet", b"x"), ["orders.parquet: expected", "bytes"]),
        (_flip("order_items.csv"), ["order_items.csv: its SHA-256"]),
        (lambda out: (out / "orders.csv").unlink(), ["orders.csv: missing"]),
        (lambda out: (out / "notes.txt").touch(), ["notes.txt: the manifest does not name it"]),
        (lambda out: (out / "old").mkdir(), ["old: the manifest does not name it"]),
        (lambda out: (out / "manifest.json").unlink(), ["manifest.json: missing"]),
        (lambda out: (out / "manifest.json").write_text("{"), ["manifest.json: expected a manifest"]),
        (lambda out: (out / "rejects.jsonl").unlink(), ["rejects.jsonl: missing"]),
        (_append("rejects.jsonl", b"nonsense\n"), ["rejects.jsonl:1"]),
        (
            _append("rejects.jsonl", b'{"order_number": "x", "line": 3, "reason": "not_found"}\n'),
            ["expected 0 × not_found, got 1"],
        ),
        (_in_manifest("input", "lines", value=9), ["lines = blank"]),
        (_in_manifest("counts", "exported", value=9), ["requested = exported", "rows of orders"]),
        (_in_manifest("counts", "order_items", value=9), ["rows of order_items"]),
        (_in_manifest("rejects_by_reason", value={"not_found": 1}), ["rejects_by_reason = rejected"]),
        (_in_manifest("tables", value={}), ["it names no table"]),
    ],
)
def test_what_was_changed_is_named(tmp_path: Path, edit: Edit, words: list[str]) -> None:
    """A file changed, cut, missing or strange, or a count that does not add up, is named."""
    out = dataset(tmp_path / "out", ["a", "b", "c"], GOOD_ITEMS)
    edit(out)
    found = "\n".join(verify(out))
    for word in words:
        assert word in found


def test_a_link_is_no_file_of_a_dataset(tmp_path: Path) -> None:
    """A table replaced by a link to elsewhere is named, though the bytes are the same."""
    out = dataset(tmp_path / "out", ["a"], [("a", 0)])
    (out / "orders.csv").rename(tmp_path / "elsewhere.csv")
    (out / "orders.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert list(verify(out)) == ["orders.csv: a link; expected none in a dataset."]


def test_rows_are_counted_not_believed(tmp_path: Path) -> None:
    """A file with fewer rows than the manifest says is found, though its bytes and digest are as said."""
    out = dataset(tmp_path / "out", ["a", "b"], [])
    pq.write_table(pq.read_table(out / "orders.parquet").slice(0, 1), out / "orders.parquet")
    data = (out / "orders.parquet").read_bytes()
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["tables"]["orders"]["files"][0] |= {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert list(verify(out)) == ["orders.parquet: expected 2 rows, got 1."]


def test_a_cell_larger_than_a_block_is_read(tmp_path: Path) -> None:
    """A CSV row of 20 MiB, line ends and quotation marks in it, does not stop the walk."""
    out = dataset(tmp_path / "out", ["a", "b", "c"], [])
    table = pa.table({"number": ["a", "b", "c"], "note": ["", 'x"\n' * (5 << 20), ""]})
    pa_csv.write_csv(table, out / "orders.csv")
    data = (out / "orders.csv").read_bytes()
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["tables"]["orders"]["files"][1] |= {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert list(verify(out)) == []


def test_the_command_says_0_or_1(exporter: Exporter) -> None:
    """A run's dataset verifies with exit 0; a byte more is exit 1 and a sentence on stdout."""
    assert exporter.run("--format", "csv", "--format", "parquet", "--rows-per-file", 25).code == 0
    good = exporter("verify", "out")
    assert (good.code, good.out) == (0, "out matches its manifest.\n")
    _append("orders.csv/part-00001.csv", b"\r\n")(exporter.cwd / "out")
    bad = exporter("verify", "out", "--json")
    assert bad.code == 1
    assert bad.summary["ok"] is False
    assert "orders.csv/part-00001.csv" in bad.summary["differences"][0]


def test_several_datasets_are_told_apart(exporter: Exporter) -> None:
    """`verify nightly/*` checks each, names the one that differs, and ends with 1; `--json` has a line for each."""
    for out in ("one", "two"):
        assert exporter.run(out=out).code == 0
    _append("orders.parquet", b"x")(exporter.cwd / "two")
    ended = exporter("verify", "one", "two")
    assert ended.code == 1
    good, bad = ended.out.splitlines()
    assert good == "one matches its manifest."
    assert bad.startswith("two: orders.parquet: expected ")
    answers = map(json.loads, exporter("verify", "one", "two", "--json").out.splitlines())
    assert [(answer["out"], answer["ok"]) for answer in answers] == [("one", True), ("two", False)]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """200,000 orders take at most 10 % more memory than 30,000."""
    peaks = []
    for count in (30_000, 200_000):
        numbers = [f"{i * 7919 % 1_000_003:07}x" for i in range(count)]
        out = dataset(tmp_path / str(count), numbers, [(number, 0) for number in numbers])
        code = (
            "import resource, sys; from pathlib import Path; from exporter.dataset.verification import verify;"
            "assert list(verify(Path(sys.argv[1]))) == [];"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(out)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] <= peaks[0] * 1.10
