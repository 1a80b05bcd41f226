"""One export, end to end, as a process against an API in another: what comes out, and every exit code."""

from __future__ import annotations

import copy
import csv
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd  # type: ignore[import-untyped] # pandas ships no types
import polars as pl
import pyarrow.parquet as pq
import pytest

from exporter.demo.orders import order_payload
from exporter.model.catalog import ORDER_ITEMS, ORDERS, Column, Kind
from tests.support.processes import Api, Ended, Exporter, demo_api, exporter_for, wait_until
from tests.support.servers.process import faulty_process, stats
from tests.support.standing import contents, manifest_of

BOTH = ("--format", "parquet", "--format", "csv")


@dataclass(frozen=True, kw_only=True)
class Export:
    """A finished export of the whole demo API.

    Args:
        api: What it was exported from; nobody else has asked it.
        out: The dataset.
        ended: The process.
    """

    api: Api
    out: Path
    ended: Ended

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return a table's rows as Python values."""
        rows: list[dict[str, Any]] = pq.read_table(self.out / f"{table}.parquet").to_pylist()
        return rows

    def csv_rows(self, table: str) -> list[dict[str, str]]:
        """Return a CSV table's rows as texts."""
        with (self.out / f"{table}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    """All 400 orders of a demo API, in an order of their own, as Parquet and CSV."""
    folder = tmp_path_factory.mktemp("export")
    with demo_api(orders=400) as api:
        shuffled = sorted(api.numbers, key=lambda number: number[::-1])
        ended = api.exporter(folder, shuffled).run(*BOTH, "--json")
        assert ended.code == 0, ended.err
        yield Export(api=api, out=folder / "out", ended=ended)


# --- what comes out


def _sent(payload: Any, column: Column) -> Any:
    """Return what the API sent for a column, as the value that belongs there."""
    value = payload
    for key in column.path:
        value = None if value is None else value.get(key)
    if value is None:
        return None
    convert: dict[Kind, Callable[[Any], Any]] = {
        Kind.TEXT: str,
        Kind.INTEGER: int,
        Kind.DECIMAL: lambda given: Decimal(str(given)),
        Kind.TIMESTAMP: lambda given: datetime.fromisoformat(given).astimezone(UTC),
        Kind.BOOLEAN: bool,
        Kind.JSON: lambda given: given,
    }
    return convert[column.kind](value)


def _cell(row: dict[str, Any], column: Column) -> Any:
    value = row[column.name]
    return json.loads(value) if column.kind is Kind.JSON and value is not None else value


def _leftovers(payload: Any, columns: tuple[Column, ...]) -> Any:
    """Return what is left of a payload without the columns' values; empty objects are nothing."""
    left = copy.deepcopy(payload)
    for column in columns:
        *above, last = column.path or ("",)
        holder: Any = left
        for key in above:
            holder = (holder or {}).get(key)
        (holder or {}).pop(last, None)
    return _without_empty(left)


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in kept.items() if inner not in ({}, None)}


def test_every_cell_equals_what_the_api_sent(export: Export) -> None:
    """400 orders: each cell of both tables is what the API sent, and nothing that it sent is in no cell."""
    by_number = {number: order_payload(number) for number in export.api.numbers}
    for row in export.rows("orders"):
        payload = by_number[row["number"]]
        for column in ORDERS[:-1]:
            assert _cell(row, column) == _sent(payload, column), (row["number"], column.name)
        assert row["_unmapped"] is None
        items = {"orderitem_set": payload["orderitem_set"]}
        assert _leftovers(payload, ORDERS[:-1]) == items
    for row in export.rows("order_items"):
        item = by_number[row["order_number"]]["orderitem_set"][row["item_index"]]
        for column in ORDER_ITEMS[2:-1]:
            assert _cell(row, column) == _sent(item, column), (row["order_number"], column.name)
        assert row["_unmapped"] is None
        assert _leftovers(item, ORDER_ITEMS[2:-1]) == {}


def test_rows_stand_in_input_order(export: Export) -> None:
    """Orders follow the input file, and items follow their order's own list, none missing, none twice."""
    asked_for = (export.out.parent / "numbers.txt").read_text().split()
    assert [row["number"] for row in export.rows("orders")] == asked_for
    places = [(row["order_number"], row["item_index"]) for row in export.rows("order_items")]
    assert places == [
        (number, index)
        for number in asked_for
        for index in range(len(order_payload(number)["orderitem_set"]))
    ]


def test_one_request_an_order(export: Export) -> None:
    """The API got 400 requests, one for each order, and the manifest and the summary say so too."""
    seen = export.api.stats()
    assert seen["requests"] == 400
    assert seen["by_order"] == dict.fromkeys(export.api.numbers, 1)
    assert manifest_of(export.out)["requests"] == {"sent": 400, "retried": 0, "throttled": 0}
    assert export.ended.summary["requests"]["sent"] == 400


def test_csv_and_parquet_hold_the_same(export: Export) -> None:
    """Each CSV cell is the text of the Parquet cell; an empty one is null or an empty text."""
    for table in ("orders", "order_items"):
        rows, texts = export.rows(table), export.csv_rows(table)
        assert len(rows) == len(texts)
        for row, text in zip(rows, texts, strict=True):
            assert {name: _as_text(value) for name, value in row.items()} == text


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}Z"
    return str(value)


def test_the_dataset_holds_what_its_manifest_names_and_nothing_else(export: Export) -> None:
    """Every file is named with its digest, the two sums add up, and the work directory is gone."""
    names = {"orders.parquet", "order_items.parquet", "orders.csv", "order_items.csv", "rejects.jsonl"}
    assert set(contents(export.out)) == names
    manifest = manifest_of(export.out)
    assert manifest["counts"]["exported"] == 400
    assert (export.out / "rejects.jsonl").read_bytes() == b""
    assert [path.name for path in export.out.parent.glob("out*")] == ["out"]


# --- who reads it


def test_pandas_reads_both_tables(export: Export) -> None:
    """pandas reads Parquet and CSV, and joins items to orders without loss."""
    for read, ending in ((pd.read_parquet, "parquet"), (_pandas_csv, "csv")):
        orders = read(export.out / f"orders.{ending}")
        items = read(export.out / f"order_items.{ending}")
        joined = items.merge(orders, left_on="order_number", right_on="number", suffixes=("", "_of_order"))
        assert (len(orders), len(joined)) == (400, len(items))
        assert set(joined["number"]) == set(orders["number"])


def _pandas_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_polars_reads_both_tables(export: Export) -> None:
    """Polars reads Parquet and CSV, and joins items to orders without loss."""
    for read, ending in ((pl.read_parquet, "parquet"), (_polars_csv, "csv")):
        orders = read(export.out / f"orders.{ending}")
        items = read(export.out / f"order_items.{ending}")
        joined = items.join(orders, left_on="order_number", right_on="number")
        assert (len(orders), len(joined)) == (400, len(items))
    amounts = pl.read_parquet(export.out / "orders.parquet")["amount"]
    assert amounts.sum() == sum(Decimal(order_payload(number)["amount"]) for number in export.api.numbers)


def _polars_csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def test_duckdb_reads_both_tables(export: Export) -> None:
    """DuckDB reads Parquet and CSV, finds the types by itself, and joins items to orders without loss."""
    first = min(row["date_placed"] for row in export.rows("orders"))
    with duckdb.connect() as database:
        for ending in ("parquet", "csv"):
            orders, items = export.out / f"orders.{ending}", export.out / f"order_items.{ending}"
            found = database.execute(
                f"SELECT count(*), count(DISTINCT o.number), (SELECT count(*) FROM '{items}'),"
                " epoch_us(min(o.date_placed))"
                f" FROM '{items}' AS i JOIN '{orders}' AS o ON o.number = i.order_number"
            ).fetchall()
            all_items = len(export.rows("order_items"))
            assert found == [(all_items, 400, all_items, round(first.timestamp() * 1_000_000))]


# --- bad input


def _no_token(exporter: Exporter) -> Exporter:
    return _without(exporter, "EXPORTER_API_TOKEN")


def _without(exporter: Exporter, name: str) -> Exporter:
    env = {key: value for key, value in exporter.env.items() if key != name}
    return Exporter(cwd=exporter.cwd, env=env)


BAD: dict[str, tuple[str, tuple[object, ...], tuple[str, ...]]] = {
    "empty input": ("", (), ("numbers.txt",)),
    "blank input": ("\n  \n", (), ("numbers.txt",)),
    "a bad rate": ("a1\n", ("--rate", "fast"), ("--rate",)),
    "a rate of nothing": ("a1\n", ("--rate", "0/s"), ("--rate",)),
    "no concurrency": ("a1\n", ("--concurrency", "0"), ("--concurrency",)),
    "a bad share of rejects": ("a1\n", ("--max-rejects", "many"), ("--max-rejects",)),
    "a bound of auto that is none": ("a1\n", ("--rate", "auto", "--max-rate", "auto"), ("--max-rate",)),
    "a bad age": ("a1\n", ("--max-age", "old"), ("--max-age",)),
    "a bad rule": ("a1\n", ("--refresh-status", "550"), ("--refresh-status",)),
    "an unknown column to select": ("a1\n", ("--select", "nothing_like_it"), ("nothing_like_it",)),
    "http to a far host": ("a1\n", ("--api-url", "http://shop.example"), ("--api-url",)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_one_sentence_and_creates_nothing(case: str, exporter: Exporter) -> None:
    """Exit 2, one sentence that names the culprit, and no file or folder that was not there before."""
    text, words, names = BAD[case]
    (exporter.cwd / "numbers.txt").write_text(text)
    exporter.run(*words, "--store", "nightly.db", out="deep/out").said(2, *names)
    assert _entries(exporter.cwd) == ["numbers.txt"]


@pytest.mark.parametrize(
    ("orders", "name", "column"),
    [
        ("missing.txt", None, ()),
        ("a-folder", None, ()),
        ("two.csv", "two.csv", ()),
        ("two.csv", "two.csv", ("--column", "c")),
        ("not.parquet", "not.parquet", ()),
        ("not.xlsx", "not.xlsx", ()),
        ("not.txt.gz", "not.txt.gz", ()),
    ],
)
def test_an_unreadable_input_ends_with_one_sentence(
    orders: str, name: str | None, column: tuple[str, ...], exporter: Exporter
) -> None:
    """A missing file, a folder, a missing column, a broken file: exit 2, nothing created."""
    (exporter.cwd / "a-folder").mkdir()
    if name:
        (exporter.cwd / name).write_text("a,b\n1,2\n")
    before = _entries(exporter.cwd)
    exporter("run", orders, "--out", "deep/out", *column, "--store", "nightly.db").said(2, orders)
    assert _entries(exporter.cwd) == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_that_is_no_utf_8_is_refused(exporter: Exporter) -> None:
    """The manifest and SQLite cannot hold such a name: exit 2 at once, not a bug after the last order."""
    name = os.fsdecode(b"na\xefve")
    (exporter.cwd / name).write_text("1\n")
    before = _entries(exporter.cwd)
    exporter("run", name, "--out", "out").said(2, "ORDERS")
    exporter.run(out=name).said(2, "--out")
    exporter.run("--store", name).said(2, "--store")
    assert _entries(exporter.cwd) == before


def test_without_a_token_nothing_starts(exporter: Exporter) -> None:
    """Exit 2, and the text names EXPORTER_API_TOKEN."""
    _no_token(exporter).run().said(2, "EXPORTER_API_TOKEN")
    assert _entries(exporter.cwd) == ["numbers.txt"]


def test_something_else_at_out_is_left_alone(exporter: Exporter) -> None:
    """A folder of other files, a file, and a link are refused with exit 2, with --overwrite too."""
    (exporter.cwd / "folder").mkdir()
    (exporter.cwd / "folder" / "mine.txt").write_text("mine")
    (exporter.cwd / "file").write_text("mine")
    (exporter.cwd / "link").symlink_to("folder")
    before = _entries(exporter.cwd)
    for out in ("folder", "file", "link"):
        exporter.run("--overwrite", out=out).said(2, out)
    assert _entries(exporter.cwd) == before
    assert (exporter.cwd / "folder" / "mine.txt").read_text() == "mine"


def test_a_place_without_a_name_is_refused(exporter: Exporter) -> None:
    """`/` and `..` are exit 2, with --overwrite too: no work directory can stand beside them."""
    for out in ("/", ".."):
        exporter.run("--overwrite", out=out).said(2, f"--out {out}:")
    assert _entries(exporter.cwd) == ["numbers.txt"]


def test_a_file_that_somebody_put_into_a_dataset_is_never_lost(exporter: Exporter) -> None:
    """--overwrite refuses a dataset that holds more than its manifest names, before it asks for anything."""
    assert exporter.run().code == 0
    before = contents(exporter.cwd / "out")
    for name in ("notes.txt", "orders.parquet.old/kept"):
        stranger = exporter.cwd / "out" / name
        stranger.parent.mkdir(exist_ok=True)
        stranger.write_text("mine")
        exporter.run("--overwrite").said(2, f"got {name.partition('/')[0]}, which")
        assert stranger.read_text() == "mine"
        stranger.unlink()
    (exporter.cwd / "out" / "orders.parquet.old").rmdir()
    assert contents(exporter.cwd / "out") == before
    assert exporter.run("--overwrite").code == 0


def test_a_folder_with_the_work_directorys_name_is_left_alone(exporter: Exporter) -> None:
    """What no run has made is refused: a run removes its work directory with all that is in it."""
    (exporter.cwd / "out.partial").mkdir()
    (exporter.cwd / "out.partial" / "mine.txt").write_text("mine")
    (exporter.cwd / "empty").mkdir()
    (exporter.cwd / "linked.partial").symlink_to("empty")
    before = _entries(exporter.cwd)
    exporter.run().said(2, "out.partial", "not ours")
    exporter.run(out="linked").said(7, "linked.partial", "a link")
    assert _entries(exporter.cwd) == before
    (exporter.cwd / "out.partial" / "mine.txt").unlink()
    assert exporter.run().code == 0


def test_a_link_to_a_dataset_is_not_replaced(exporter: Exporter) -> None:
    """--overwrite refuses a link: its target would stay as it was, with no name for readers to find."""
    assert exporter.run().code == 0
    before = contents(exporter.cwd / "out")
    (exporter.cwd / "link").symlink_to("out")
    exporter.run("--overwrite", out="link").said(2, "a link", str(exporter.cwd / "out"))
    assert (exporter.cwd / "link").is_symlink()
    assert contents(exporter.cwd / "link") == before


def test_a_store_that_would_go_with_the_dataset_is_refused(exporter: Exporter) -> None:
    """A --store at OUT, in it or in its work directory is exit 2 at once, not after everything was asked for."""
    for store in ("out", "out/store.db", "out.partial/store.db"):
        exporter.run("--store", store).said(2, f"--store {store}:")
    assert _entries(exporter.cwd) == ["numbers.txt"]


def test_a_finished_dataset_is_replaced_only_when_told(exporter: Exporter) -> None:
    """A second run into the same place is refused, asks for nothing, and leaves the dataset as it is."""
    assert exporter.run().code == 0
    first = contents(exporter.cwd / "out")
    exporter.run().said(2, "--overwrite")
    assert contents(exporter.cwd / "out") == first
    (exporter.cwd / "numbers.txt").write_text("\n".join(reversed(_lines(exporter))))
    assert exporter.run("--overwrite").code == 0
    assert contents(exporter.cwd / "out") != first
    assert _entries(exporter.cwd) == ["numbers.txt", "out"]


def _lines(exporter: Exporter) -> list[str]:
    return (exporter.cwd / "numbers.txt").read_text().split()


def _entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- bad days


def test_invalid_numbers_and_missing_orders_are_rejects(api: Api, tmp_path: Path) -> None:
    """Exit 3: what is invalid or not there is listed with its line, in line order, and the rest is exported."""
    good = api.numbers[:40]
    lines = [*good[:20], "a b", "..", "x" * 129, "missing/1", *good[20:], good[0], "", "a\x01b"]
    exporter = api.exporter(tmp_path, lines)
    ended = exporter.run("--max-rejects", "20%")
    assert ended.code == 3, ended.err
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [(reject["line"], reject["reason"]) for reject in rejects] == [
        (21, "invalid_order_number"),
        (22, "invalid_order_number"),
        (23, "invalid_order_number"),
        (24, "not_found"),
        (47, "invalid_order_number"),
    ]
    assert (rejects[3]["order_number"], rejects[3]["http_status"], rejects[3]["attempts"]) == (
        "missing/1",
        404,
        1,
    )
    manifest = manifest_of(tmp_path / "out")
    assert manifest["input"].pop("read")["first"] == api.numbers[0]
    assert manifest["input"] | {"sha256": "", "path": ""} == {
        "path": "", "sha256": "", "lines": 47, "blank": 1, "invalid": 4, "duplicates": 1,
    }  # fmt: skip
    assert manifest["counts"]["exported"] == 40
    again = exporter("run", "out/rejects.jsonl", "--out", "again", "--max-rejects", "100%", "--rate", "9/s")
    assert again.code == 3, again.err


def test_failures_that_pass_are_asked_again(tmp_path: Path) -> None:
    """Orders that answer 500 once are exported, each for one request more."""
    with faulty_process("tests.support.plans:asked_again_after_500") as url:
        exporter = exporter_for(url, tmp_path, [f"a{index}" for index in range(40) if index % 10 != 1])
        assert exporter.run("--json").code == 0
        assert len(stats(url)["arrivals"]) == 36 + 4
    assert manifest_of(tmp_path / "out")["requests"] == {"sent": 40, "retried": 4, "throttled": 0}


def test_too_many_rejects_publish_nothing_until_more_are_allowed(api: Api, tmp_path: Path) -> None:
    """Exit 4 leaves OUT as it was; with a higher --max-rejects the same command publishes without a request."""
    exporter = api.exporter(tmp_path, api.numbers[:10])
    assert exporter.run().code == 0
    first = contents(tmp_path / "out")
    api.exporter(tmp_path, [*api.numbers[:10], "missing-1", "missing-2"])
    exporter.run("--overwrite").said(4, "2 rejects", "not_found 2", "--max-rejects")
    assert contents(tmp_path / "out") == first
    asked = api.asked()
    assert exporter.run("--overwrite", "--max-rejects", 2).code == 3
    assert api.asked() == asked
    assert contents(tmp_path / "out") != first
    assert manifest_of(tmp_path / "out")["rejects_by_reason"] == {"not_found": 2}


def test_a_list_of_invalid_lines_ends_before_the_first_request(api: Api, tmp_path: Path) -> None:
    """Exit 2 with the first of them and nothing created; beside a good line, too many of them are exit 4."""
    asked = api.asked()
    api.exporter(tmp_path, ["a b", "c d", "e f"]).run("--store", "kept.db").said(
        2, "only invalid lines (3)", "line 1", "a b"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]
    api.exporter(tmp_path, ["a b", "c d", "e1"]).run().said(
        4, "2 invalid lines are more than --max-rejects 5% allows (1);", "line 1", "a b"
    )
    exporter = api.exporter(tmp_path, ["a b", "c d", "e1"])
    exporter.run("--max-rejects", 1).said(4, "more than --max-rejects 1 allows; nothing")
    assert (api.asked(), (tmp_path / "out").exists()) == (asked, False)


def test_too_many_unavailable_orders_are_told_to_be_asked_for_again(tmp_path: Path) -> None:
    """Exit 4 promises to ask for nothing only where that is so: a resumed run asks again for the unavailable."""
    with faulty_process("tests.support.plans:first_dead") as url:
        exporter = exporter_for(url, tmp_path, [f"a{index}" for index in range(20)])
        ended = exporter.run("--max-attempts", 2, "--max-rejects", 0, "--concurrency", 1)
        ended.said(4, "unavailable", "requests only the unavailable orders again")


def test_a_refused_token_stops_the_run_at_once(api: Api, tmp_path: Path) -> None:
    """Exit 5 after no more requests than are in flight; with the right token the same command goes on."""
    exporter = api.exporter(tmp_path, api.numbers[:100])
    asked = api.asked()
    exporter.run("--concurrency", 8, EXPORTER_API_TOKEN="wrong-token").said(5, "token")
    assert api.asked() - asked <= 8
    assert "wrong-token" not in exporter.run("--concurrency", 8, EXPORTER_API_TOKEN="wrong-token").err
    assert exporter.run().code == 0


def test_an_api_that_is_not_there_ends_the_run(tmp_path: Path) -> None:
    """Exit 6, and when the API is back the same command goes on."""
    with demo_api(orders=30) as api:
        exporter = api.exporter(tmp_path)
        with exporter.run_started("--rate", "20/s") as running:
            wait_until(lambda: api.asked() >= 5)
            running.signal(signal.SIGTERM)
            assert running.end().code == 143
    exporter.run("--patience", "1s").said(6, "not available")
    port = api.url.rpartition(":")[2]
    with demo_api("--port", port, orders=30) as back:
        assert exporter.run().code == 0
        assert back.asked() <= 25


def test_the_json_summary_is_one_object(exporter: Exporter) -> None:
    """stdout holds nothing but the summary, also where orders were rejected."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing\n")
    ended = exporter.run("--json")
    assert ended.code == ended.summary["exit_code"] == 3
    assert ended.summary["requested"] == 61
    assert ended.summary["rejects_by_reason"] == {"not_found": 1}


def test_a_failure_is_one_json_object_too(exporter: Exporter) -> None:
    """Whoever reads stdout finds an object however the run ended, with the words that go on."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing\n")
    ended = exporter.run("--json", "--max-rejects", "0")
    assert ended.code == 4
    told = json.loads(ended.out)
    assert told.keys() == {"exit_code", "error", "hint", "command"}
    assert told["exit_code"] == 4
    assert told["error"] in ended.err
    assert exporter(*shlex.split(told["command"])[1:]).code == 3
