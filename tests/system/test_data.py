"""The dataset's promises through whole runs: values, rebuilding, schemas, drift, columns, forms."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporter import rebuild
from exporter.dataset.flatten import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA
from exporter.model.column_selection import KEYS
from tests.support.clients import serving
from tests.support.processes import Ended, exporter_for
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer
from tests.support.servers.moves import Behaviour
from tests.support.standing import manifest_of
from tests.support.wild_json import SAMPLE, meaning, parse

TABLES = {"orders": ORDERS_SCHEMA, "order_items": ORDER_ITEMS_SCHEMA}
SAMPLE_NUMBER = "bf7b66149236455"

# --- what the API knows

# The last of a key wins, so that each of these is the order asked for.
WILD = {
    "floats": '{"amount": 16.40, "shipping_amount": 1e2, "discount_amount": 0.12345, "refund_amount": -0.0}',
    "huge": f'{{"id": {2**63}, "amount": {"9" * 40}, "extra_field": [{"9" * 5000}, 1e400, -0.10]}}',
    "edges": f'{{"id": {2**63 - 1}, "payment_option": {-(2**63)}, "amount": "9999999999999999.9999"}}',
    "nested": '{"customer": {"id": {"pk": [1]}, "a.b": {"": [{}, null]}}, "channel": [[]], "": {"": 0}}',
    "reversed": '{"customer": 7, "billing_address": "x", "amount": {"value": "1"}, "is_send": "true"}',
    "texts": r'{"currency": "", "gift_box_note": "\u0000 DİNAR \ud800", "invoice_number": "007", "id": "27"}',
    "times": '{"date_placed": "2017-02-30T00:00:00Z", "invoice_date": "2017-01-30T11:28:26.5+03:00"}',
    "twice": '{"amount": "1", "new": 1, "amount": "2", "new": {"b": 1, "a": 2}}',
    "items": '{"orderitem_set": [{"id": 1, "order": 9.5}, null, 7, {}, [1, {"id": 2}], {"attributes": []}]}',
    "no-items": '{"orderitem_set": null}',
    "number-of-items": '{"orderitem_set": 3}',
    "one-item": '{"orderitem_set": {"id": 1}}',
    "nothing": "{}",
}


def _numbered(text: str, number: str) -> str:
    """Add the order number to an object's text, where it beats any other."""
    comma = "," if len(text) > 2 else ""
    return f'{text[:-1]}{comma} "number": "{number}"}}'


def _drifting(index: int) -> bytes:
    """An order with fields that nobody declared; each hundredth with values that do not fit as well."""
    order: dict[str, Any] = {"number": DRIFTING[index], "segment": {"tier": index}}
    order["orderitem_set"] = [{"id": 1, "parent": 5}, {"id": 2}]
    if index % 100 == 0:
        order |= {"amount": "plenty", "customer": index}
    return json.dumps(order).encode()


#: More than the publishing process flattens at once.
DRIFTING = [f"drift-{index}" for index in range(1100)]
BARE = [f"bare-{index}" for index in range(3)]
GOOD = [f"good-{index}" for index in range(10)]
GONE = ["gone-1", "gone-2"]


def _bare(number: str) -> Behaviour:
    return moves.answer(json.dumps({"number": number, "orderitem_set": [{}]}).encode())


PLAN: dict[str, Behaviour] = {
    SAMPLE_NUMBER: moves.answer(SAMPLE),
    **{number: moves.answer(_drifting(index)) for index, number in enumerate(DRIFTING)},
    **{number: _bare(number) for number in BARE},
    **{number: moves.status(404) for number in GONE},
    **{number: moves.answer(_numbered(text, number).encode()) for number, text in WILD.items()},
}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with serving(PLAN) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Export:
    """One finished run.

    Args:
        out: Its dataset.
        ended: The process.
    """

    out: Path
    ended: Ended

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return a Parquet table's rows, of one file or of all its parts."""
        rows: list[dict[str, Any]] = pq.read_table(self.out / f"{table}.parquet").to_pylist()
        return rows

    def columns(self, table: str) -> list[str]:
        names: list[str] = pq.read_schema(self.out / f"{table}.parquet").names
        return names


Run = Callable[..., Export]


@pytest.fixture
def run(server: FaultyServer, tmp_path: Path) -> Run:
    """Exports order numbers in an empty directory: numbers, more words, and environment."""
    return lambda numbers, *words, **env: _run(server.url, tmp_path, numbers, *words, **env)


def _run(url: str, folder: Path, numbers: list[str], *words: object, **env: str) -> Export:
    ended = exporter_for(url, folder, numbers).run(*words, **env)
    assert ended.code in {0, 3}, ended.err
    return Export(out=folder / "out", ended=ended)


# --- values


def test_the_documented_example_in_parquet(run: Run) -> None:
    """Money, times, flags, Turkish letters and free-form JSON of the documentation's own order, literally."""
    export = run([SAMPLE_NUMBER])
    (order,), (item,) = export.rows("orders"), export.rows("order_items")
    assert order == order | {
        "id": 27,
        "number": SAMPLE_NUMBER,
        "status": "400",
        "date_placed": datetime(2017, 1, 30, 8, 28, 26, 158165, UTC),
        "customer_id": 1103,
        "customer_phone_number": None,
        "shipping_address_phone_number": "0 (198) 895-4431",
        "shipping_address_township_name": "DİNAR",
        "shipping_address_district_name": "İNCESU",
        "shipping_address_e_bill_taxpayer": False,
        "amount": Decimal("16.4000"),
        "shipping_tax_rate": None,
        "extra_field": '{\n    "cargo_line_id": "325a79ac-e251-4285-8a32-a70e0119237e"\n  }',
        "bin_number": "454360",
        "invoice_number": "",
        "is_send": True,
        "channel_name": "Shop",
        "channel_conf": '{\n      "server": "http://localhost:8080/api/v1/"\n    }',
        "_unmapped": None,
    }
    assert str(order["amount"]) == "16.4000"
    assert item == item | {
        "order_number": SAMPLE_NUMBER,
        "item_index": 0,
        "id": 113,
        "order_id": 27,
        "product_sku": "2672881047887",
        "price": Decimal("7.9000"),
        "tax_rate": Decimal("18.0000"),
        "invoice_number": None,
        "attributes": "{}",
        "_unmapped": None,
    }


def test_wild_payloads_can_be_rebuilt_from_the_files(run: Run) -> None:
    """Every leaf, key and element of what the API sent stands in the two Parquet files."""
    export = run(list(WILD))
    items = export.rows("order_items")
    rebuilt = {
        row["number"]: rebuild(row, [item for item in items if item["order_number"] == row["number"]])
        for row in export.rows("orders")
    }
    sent = {number: parse(_numbered(text, number)) for number, text in WILD.items()}
    assert {number: meaning(payload) for number, payload in rebuilt.items()} == {
        number: meaning(payload) for number, payload in sent.items()
    }


# --- schemas


@pytest.fixture(scope="module")
def schemas(
    server: FaultyServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, tuple[pa.Schema, str]]]:
    """Arrow schema and CSV header of both tables, of a dataset of each kind."""
    found = {}
    for kind, numbers in {
        "empty": GONE,
        "null": BARE,
        "full": [SAMPLE_NUMBER],
        "drift": DRIFTING[:9],
    }.items():
        both = ("--format", "parquet", "--format", "csv", "--max-rejects", "100%")
        out = _run(server.url, tmp_path_factory.mktemp(kind), numbers, *both).out
        found[kind] = {table: _schema(out, table) for table in TABLES}
    return found


def _schema(out: Path, table: str) -> tuple[pa.Schema, str]:
    with (out / f"{table}.csv").open() as file:
        return pq.read_schema(out / f"{table}.parquet"), file.readline().rstrip()


@pytest.mark.parametrize("kind", ["empty", "null", "full", "drift"])
@pytest.mark.parametrize("table", TABLES)
def test_the_schema_is_the_same_every_night(
    schemas: dict[str, dict[str, tuple[pa.Schema, str]]], kind: str, table: str
) -> None:
    """No orders, nothing but nulls, full rows or new API fields: the catalogue's columns and metadata."""
    schema, header = schemas[kind][table]
    assert schema.metadata == {b"org.apache.spark.version": b"3.5.0"}
    assert schema.remove_metadata().equals(TABLES[table].remove_metadata(), check_metadata=True)
    assert header == ",".join(f'"{name}"' for name in TABLES[table].names)


# --- drift

DRIFT = {
    "unmapped_paths": {"segment": 1100, "orderitem_set[].parent": 1100},
    "uncoerced": {"amount": 11, "customer": 11},
}


def test_drift_is_kept_counted_and_warned_of_once(run: Run) -> None:
    """Each path has one warning, however often it comes and progress is told; the manifest counts values."""
    # Slow enough that the publishing process tells of drift in mid-run as well.
    export = run(DRIFTING, "--rate", "1000/s")
    assert manifest_of(export.out)["drift"] == DRIFT
    warnings = re.findall(r" WARNING (.*): .* kept in _unmapped\.", export.ended.err)
    paths = sorted([*DRIFT["unmapped_paths"], *DRIFT["uncoerced"]])
    assert sorted(warnings) == paths
    leftovers = [json.loads(row["_unmapped"]) for row in export.rows("orders")]
    assert leftovers[100] == {"amount": "plenty", "customer": 100, "segment": {"tier": 100}}
    assert leftovers[101] == {"segment": {"tier": 101}}
    assert {row["_unmapped"] for row in export.rows("order_items")} == {'{"parent":5}', None}


def test_on_drift_fail_publishes_nothing_until_told_otherwise(server: FaultyServer, tmp_path: Path) -> None:
    """Exit 4 and no dataset; the same command with --on-drift warn publishes without a request."""
    exporter = exporter_for(server.url, tmp_path, DRIFTING)
    exporter.run("--on-drift", "fail").said(4, "4 paths", "segment", "--on-drift warn")
    assert not (tmp_path / "out").exists()
    asked = len(server.arrivals)
    assert exporter.run("--on-drift", "warn").code == 0
    assert len(server.arrivals) == asked
    assert manifest_of(tmp_path / "out")["drift"] == DRIFT


def test_on_drift_fail_lets_the_documented_example_pass(run: Run) -> None:
    """Nothing of it leaves the catalogue."""
    assert run([SAMPLE_NUMBER], "--on-drift", "fail").ended.code == 0


# --- columns

CHOSEN = {
    "orders": ["number", "amount", "currency"],
    "order_items": ["order_number", "item_index", "price_currency", "price"],
}


@pytest.mark.parametrize(
    ("words", "env", "file"),
    [
        (("--select", "amount,currency,tax*", "--select", "price*", "--drop", "price_list,tax_*"), {}, ""),
        ((), {"EXPORTER_SELECT": "amount, currency price*", "EXPORTER_DROP": "price_list"}, ""),
        ((), {}, 'select = ["amount, currency", "price*"]\ndrop = "price_list"\n'),
    ],
    ids=["flags", "environment", "file"],
)
def test_columns_are_chosen_by_name_and_glob(
    run: Run, tmp_path: Path, words: tuple[str, ...], env: dict[str, str], file: str
) -> None:
    """The keys that join the tables and what was chosen, in the order given, wherever it was said."""
    (tmp_path / "exporter.toml").write_text(file)
    export = run(GOOD, *words, **env)
    assert {table: export.columns(table) for table in TABLES} == CHOSEN
    assert exporter_for("", tmp_path, [])("verify", export.out).code == 0


def test_the_keys_are_always_there(run: Run) -> None:
    """`--drop '*'` leaves what joins the tables."""
    export = run(GOOD, "--drop", "*")
    assert {table: tuple(export.columns(table)) for table in TABLES} == {
        table: KEYS[table] for table in TABLES
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--select", "amout"), ("'amout'", "Did you mean amount?")),
        (("--select", "amount,curency"), ("'curency'", "Did you mean currency?")),
        (("--drop", "shiping_*"), ("--drop", "'shiping_*'", "Did you mean shipping_")),
        (("--select", "zzz"), ("no column fits 'zzz'.\nSee exporter schema.",)),
        (("--drop", "amount,number"), ("--drop", "number joins the tables")),
        (("--select", ","), ("--select", "no column fits ''")),
    ],
)
def test_unknown_columns_are_refused(
    server: FaultyServer, tmp_path: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    """Exit 2 with the nearest name, before anything is created or asked for."""
    asked = len(server.arrivals)
    exporter_for(server.url, tmp_path, GOOD).run(*words, "--store", "s.db").said(2, *said)
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]
    assert len(server.arrivals) == asked


# --- forms

FORMS: dict[str, tuple[object, ...]] = {
    "parts": ("--rows-per-file", 3),
    "snappy": ("--compression", "snappy", "--rows-per-file", 1000),
    "none": ("--compression", "none"),
    "both": ("--format", "parquet", "--format", "csv", "--rows-per-file", 4),
    "excel": ("--format", "csv", "--csv-dialect", "excel"),
}


@pytest.fixture(scope="module", params=FORMS)
def form(
    request: pytest.FixtureRequest, server: FaultyServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Export]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, _run(server.url, folder, GOOD, *FORMS[request.param])


def test_items_join_their_orders_in_every_form(form: tuple[str, Export]) -> None:
    """Every item's order number stands among the orders, counted up from 0, and every order is there."""
    _, export = form
    for ending in {path.suffix for path in export.out.iterdir()} & {".parquet", ".csv"}:
        orders, items = (_texts(export.out / f"{table}{ending}") for table in TABLES)
        assert [row["number"] for row in orders] == GOOD
        found = [(row["order_number"], row["item_index"]) for row in items]
        counts = Counter(number for number, _ in found)
        assert found == [(number, str(index)) for number in GOOD for index in range(counts[number])]
        assert set(counts) <= set(GOOD)


def _texts(path: Path) -> list[dict[str, str]]:
    """Return a table's rows as texts, of one file or of all its parts."""
    if path.suffix == ".parquet":
        return [{key: str(value) for key, value in row.items()} for row in pq.read_table(path).to_pylist()]
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    return [row for part in parts for row in _csv_rows(part.read_text("utf-8-sig"))]


def _csv_rows(text: str) -> list[dict[str, str]]:
    header, _, _ = text.partition("\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="," if "," in header else ";"))


def test_the_form_is_what_was_asked_for(form: tuple[str, Export]) -> None:
    """Part files of N rows, and each Parquet file compressed as told."""
    name, export = form
    parts = manifest_of(export.out)["tables"]["orders"]["files"]
    rows = {"parts": [3, 3, 3, 1], "both": [4, 4, 2, 4, 4, 2]}.get(name, [10])
    assert [part["rows"] for part in parts] == rows
    compression = {"snappy": "SNAPPY", "none": "UNCOMPRESSED"}.get(name, "ZSTD")
    for path in export.out.rglob("*.parquet"):
        if path.is_file():
            assert pq.read_metadata(path).row_group(0).column(0).compression == compression


def test_verify_finds_any_changed_byte(form: tuple[str, Export]) -> None:
    """Exit 0 as it was published; exit 1, naming the file, after a byte of a table is flipped."""
    _, export = form
    exporter = exporter_for("", export.out.parent, [])
    assert exporter("verify", "out").code == 0
    flipped = max(
        path for path in export.out.rglob("*") if path.suffix in {".parquet", ".csv"} and path.is_file()
    )
    _flip(flipped)
    try:
        ended = exporter("verify", "out")
    finally:
        _flip(flipped)
    assert (ended.code, flipped.relative_to(export.out).as_posix() in ended.out) == (1, True)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
