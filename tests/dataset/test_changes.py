"""A comparison finds what a naive one finds, in every format, and says what it cannot tell."""

from __future__ import annotations

import copy
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporter.dataset.changes.change_schema import CHANGES_SCHEMA
from exporter.dataset.changes.comparison import Comparison
from exporter.dataset.flatten import Flattener
from exporter.dataset.local_tables import LocalDataset
from exporter.model.catalog import TABLES
from exporter.model.errors import InputError, UsageError
from exporter.model.manifest import REJECTS_FILE, Changes, TableFiles
from exporter.model.options import FileFormat, TableOptions
from exporter.model.records import PartFile
from exporter.run.compare import compare
from tests.support.datasets import Dataset, demo_payloads
from tests.support.thorough import examples

Payload = dict[str, Any]
Row = dict[str, Any]


def compared(
    folder: Path,
    old: Dataset,
    new: Dataset,
    *,
    formats: tuple[FileFormat, ...] = ("parquet",),
    full: bool = False,
) -> Changes:
    old.write(folder / "old")
    new.write(folder / "new")
    options = TableOptions(formats=formats)
    finished = compare(
        str(folder / "old"), str(folder / "new"), str(folder / "changes"), options, full=full, overwrite=False
    )
    assert finished.changes is not None
    return finished.changes


def rows_of(folder: Path, name: str = "changes") -> list[Row]:
    rows: list[Row] = pq.read_table(folder / "changes" / f"{name}.parquet").to_pylist()
    return rows


# --- the naive comparison ---


def naive(
    old: Path, new: Path, old_rejects: Mapping[str, str], new_rejects: Mapping[str, str]
) -> Iterator[Row]:
    """Yield what differs, by dictionaries and loops."""
    sides = [_orders(old), _orders(new)]
    for number in sides[0].keys() & sides[1].keys():
        (one, its), (other, others) = sides[0][number], sides[1][number]
        yield from _fields("orders", number, None, "", one, other)
        yield from _items(number, its, others)
    for number in sides[0].keys() - sides[1].keys():
        if new_rejects.get(number) == "not_found":
            yield _whole(
                number,
                None,
                "gone",
                -(sides[0][number][0]["amount"] or Decimal()),
                sides[0][number][0]["amount"],
            )
    for number in sides[1].keys() - sides[0].keys():
        reason = old_rejects.get(number)
        if reason in (None, "not_found"):
            amount = sides[1][number][0]["amount"]
            yield _whole(number, None, "returned" if reason else "new", amount, amount)


def _orders(folder: Path) -> dict[str, tuple[Row, list[Row]]]:
    items = defaultdict(list)
    for item in pq.read_table(folder / "order_items.parquet").to_pylist():
        items[item["order_number"]].append(item)
    rows = pq.read_table(folder / "orders.parquet").to_pylist()
    return {row["number"]: (row, items[row["number"]]) for row in rows}


def _items(number: str, old: list[Row], new: list[Row]) -> Iterator[Row]:
    """Match equal items of one id first, then by id and turn; without ids by turn."""
    old, new = list(old), list(new)
    for item in [each for each in old if each["id"] is not None]:
        bare = {**item, "item_index": 0}
        same = next((other for other in new if {**other, "item_index": 0} == bare), None)
        if same is not None:
            old.remove(item)
            new.remove(same)
    for item_id in {each["id"] for each in old + new}:
        ones = [each for each in old if each["id"] == item_id]
        others = [each for each in new if each["id"] == item_id]
        for one, other in zip(ones, others, strict=False):
            where = "" if item_id is not None else f"order_items[{other['item_index']}]."
            yield from _fields("order_items", number, item_id, where, one, other)
        for one in ones[len(others) :]:
            yield _whole(
                number, item_id, "item_removed", -(one["price"] or Decimal()), one["price"], one["item_index"]
            )
        for other in others[len(ones) :]:
            yield _whole(number, item_id, "item_added", other["price"], other["price"], other["item_index"])


def _fields(table: str, number: str, item_id: int | None, where: str, old: Row, new: Row) -> Iterator[Row]:
    currency = "currency" if table == "orders" else "price_currency"
    for column in TABLES[table]:
        one, other = old[column.name], new[column.name]
        if one != other and column.name not in ("item_index", "order_number"):
            delta = None
            if column.money and old[currency] == new[currency]:
                delta = (other or 0) - (one or 0)
            yield {
                "order_number": number,
                "item_id": item_id,
                "change": "changed",
                "column": where + column.name,
                "old": _text(one),
                "new": _text(other),
                "delta": delta,
            }


def _whole(
    number: str,
    item_id: int | None,
    change: str,
    delta: Decimal | None,
    amount: object,
    place: int | None = None,
) -> Row:
    of_item = item_id is None and place is not None
    return {
        "order_number": number,
        "item_id": item_id,
        "change": change,
        "column": f"order_items[{place}]" if of_item else None,
        "old": None,
        "new": None,
        "delta": delta if amount is not None else None,
    }


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}Z".rjust(27, "0")
    return str(value)


def _comparable(rows: Iterable[Row]) -> list[tuple[object, ...]]:
    names = ("order_number", "item_id", "change", "column", "old", "new", "delta")
    return sorted((tuple(row[name] for name in names) for row in rows), key=repr)


# --- what may be in a dataset ---

_amounts = st.sampled_from(
    [None, "0", "16.40", "16.4000", "-3", "9999999999999999.9999", "-9999999999999999.9999", "x"]
)
_times = st.sampled_from([None, "2026-11-23T18:30:00Z", "2026-11-23T21:30:00+03:00", "0001-01-01T00:00:00Z"])
_texts = st.sampled_from([None, "", "400", "500", "İğüş", 'a"b,c\n', "='1'"])
_json: st.SearchStrategy[Any] = st.sampled_from(
    [None, {}, {"b": 1, "a": [1]}, {"a": [1], "b": 1}, [], "\ud800"]
)
_item = st.fixed_dictionaries(
    {"id": st.sampled_from([None, 1, 2, 2, 3])},
    optional={
        "status": _texts,
        "price": _amounts,
        "price_currency": st.sampled_from([None, "try", "eur"]),
        "invoice_date": _times,
        "attributes": _json,
        "cancel_status": _texts,
        "strange": _texts,
    },
)
_payloads = st.fixed_dictionaries(
    {"orderitem_set": st.lists(_item, max_size=4)},
    optional={
        "status": _texts,
        "amount": _amounts,
        "refund_amount": _amounts,
        "currency": st.sampled_from([None, "try", "eur"]),
        "date_placed": _times,
        "is_send": st.sampled_from([None, True, False, "perhaps"]),
        "installment": st.sampled_from([None, 1, 2**63 - 1, -(2**63), 2**70]),
        "extra_field": _json,
        "strange": _texts,
    },
)
_NUMBERS = ("A1", "b'2", 'c"3', "Ş4")
_sides = st.dictionaries(
    st.sampled_from(_NUMBERS),
    _payloads | st.sampled_from(["not_found", "forbidden", "unavailable"]),
    max_size=4,
)


def _dataset(side: Mapping[str, Payload | str], **more: Any) -> Dataset:
    return Dataset(
        payloads=[{"number": number, **each} for number, each in side.items() if not isinstance(each, str)],
        rejected={number: each for number, each in side.items() if isinstance(each, str)},
        **more,
    )


def written(folder: Path, side: Mapping[str, Payload | str], file_format: FileFormat) -> LocalDataset:
    """Write a dataset without waiting for the disk, as Parquet or CSV."""
    dataset = _dataset(side)
    folder.mkdir()
    payloads = [(each["number"], json.dumps(each).encode()) for each in dataset.payloads]
    names = ("orders", "order_items")
    for name, table in zip(names, Flattener(pii="keep").flatten(payloads), strict=True):
        pq.write_table(table, folder / f"{name}.parquet")
        pa_csv.write_csv(table, folder / f"{name}.csv")
    (folder / REJECTS_FILE).write_text(dataset.reject_lines())
    tables = {name: TableFiles(rows=0, files=[PartFile(f"{name}.{file_format}", 0, 0, "")]) for name in names}
    scratch = folder / "scratch"
    scratch.mkdir()
    return LocalDataset(
        place=folder.name, folder=folder, manifest=dataset.manifest_of(tables), scratch=scratch
    )


@settings(max_examples=examples(40), deadline=None, phases=set(Phase) - {Phase.shrink, Phase.explain})
@given(old=_sides, new=_sides, file_format=st.sampled_from(["parquet", "csv"]))
def test_it_finds_what_a_naive_comparison_finds(
    old: dict[str, Payload | str], new: dict[str, Payload | str], file_format: FileFormat
) -> None:
    """Reordered and repeated items, missing ids, nulls, drift and every type: no change is lost or invented."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = written(folder / "old", old, "parquet"), written(folder / "new", new, file_format)
        expected = list(naive(folder / "old", folder / "new", *(side.rejects() for side in sides)))
        # Two orders at a time: what is read in turns is all read.
        with pytest.MonkeyPatch.context() as patch, Comparison(*sides, folder) as comparison:
            patch.setattr("exporter.dataset.changes.comparison._AT_ONCE", 2)
            changes = comparison.run()
            rows = [row for table in comparison.rows() for row in table.to_pylist()]
    assert _comparable(rows) == _comparable(expected)
    for word in ("new", "gone", "returned"):
        assert getattr(changes, word) == len([row for row in rows if row["change"] == word])


# --- sentence by sentence ---


def change(payloads: list[Payload], *edits: Callable[[list[Payload]], object]) -> list[Payload]:
    new = copy.deepcopy(payloads)
    for edit in edits:
        edit(new)
    return new


def test_the_table_has_one_fixed_schema_also_where_nothing_changed(tmp_path: Path) -> None:
    """Two equal datasets give an empty table of the very schema that full ones have."""
    same = Dataset(payloads=demo_payloads(5))
    done = compared(tmp_path, same, same, formats=("parquet", "csv"))
    assert pq.read_schema(tmp_path / "changes" / "changes.parquet").equals(CHANGES_SCHEMA)
    assert (done.compared, done.changed, done.columns) == (5, 0, {})
    assert pa_csv.read_csv(tmp_path / "changes" / "changes.csv").column_names == CHANGES_SCHEMA.names


def test_an_order_is_gone_only_where_the_api_said_so(tmp_path: Path) -> None:
    """A 404 is gone; what was not asked for, or rejected for another reason, is not compared; a 404 before is returned."""
    orders = demo_payloads(8)
    numbers = [order["number"] for order in orders]
    old = Dataset(payloads=orders[:5], rejected={numbers[5]: "not_found", numbers[6]: "unavailable"})
    new = Dataset(payloads=orders[3:], rejected={numbers[0]: "not_found", numbers[1]: "forbidden"})
    changes = compared(tmp_path, old, new)
    assert {row["order_number"]: row["change"] for row in rows_of(tmp_path)} == {
        numbers[0]: "gone",
        numbers[5]: "returned",
        numbers[7]: "new",
    }
    assert changes.not_compared_reasons == {"forbidden": 1, "not_asked_for": 1, "unavailable": 1}
    assert (changes.gone, changes.returned, changes.new, changes.compared) == (1, 1, 1, 2)


def test_counts_matrix_and_sums_agree_with_the_rows(tmp_path: Path) -> None:
    """The manifest's status matrix, sums by currency and counts by column are those of the table."""
    old = demo_payloads(12)
    new = change(
        old,
        lambda orders: orders[0].update(status="500", refund_amount="10.10"),
        lambda orders: orders[1].update(status="500"),
        lambda orders: orders[2].update(currency="gbp", amount="1"),
        lambda orders: orders.pop(11),
    )
    changes = compared(tmp_path, Dataset(payloads=old), Dataset(payloads=new))
    rows = rows_of(tmp_path)
    assert sum(sum(tos.values()) for tos in changes.statuses.values()) == 2
    assert changes.statuses[old[0]["status"]]["500"] >= 1
    refunds = sum(row["delta"] for row in rows if row["column"] == "refund_amount")
    assert Decimal(changes.deltas[old[0]["currency"]]["refund_amount"]) == refunds
    assert changes.columns["orders.currency"] == 1
    assert [
        row["delta"] for row in rows if row["order_number"] == old[2]["number"] and row["column"] == "amount"
    ] == [None]
    assert {row["kind"] for row in rows} == {"status", "refund", "amount"}
    assert changes.not_compared_reasons == {"not_asked_for": 1}


def test_whole_rows_are_a_change_feed(tmp_path: Path) -> None:
    """`--full` has each order before and after, as lakehouse feeds name them; also where only an item changed."""
    old = demo_payloads(4)
    new = change(old, lambda orders: orders[1]["orderitem_set"].pop(), lambda orders: orders.pop(0))
    first, second = Dataset(payloads=old[:3]), Dataset(payloads=new, rejected={old[0]["number"]: "not_found"})
    compared(tmp_path, first, second, full=True)
    rows = rows_of(tmp_path, "changed_orders")
    assert [(row["_change_type"], row["number"]) for row in rows] == [
        ("update_preimage", old[1]["number"]),
        ("update_postimage", old[1]["number"]),
        ("delete", old[0]["number"]),
        ("insert", old[3]["number"]),
    ]
    assert rows[3]["amount"] == Decimal(old[3]["amount"])


@pytest.mark.parametrize(
    ("old", "new", "compared_columns"),
    [
        ({"pii": "hash"}, {"pii": "hash"}, {"customer_email", "status"}),
        ({"pii": "hash"}, {}, {"status"}),
        ({"pii": "drop"}, {}, {"status"}),
        ({"drop": ("customer_*",)}, {}, {"status", "extra_field"}),
    ],
)
def test_hidden_and_dropped_columns_are_not_compared(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any], compared_columns: set[str]
) -> None:
    """Dropped columns, and hashed ones but under one key, are left out, and the manifest names them."""
    before = demo_payloads(3)

    def edit(orders: list[Payload]) -> None:
        orders[0]["customer"]["email"] = "other@example.com"
        orders[0].update(status="777", extra_field={"changed": True})

    changes = compared(
        tmp_path, Dataset(payloads=before, **old), Dataset(payloads=change(before, edit), **new)
    )
    assert {row["column"] for row in rows_of(tmp_path)} == compared_columns
    left_out = set(changes.columns_not_compared.get("orders", ()))
    assert {"customer_email", "status", "extra_field"} - compared_columns <= left_out


def test_part_files_and_other_forms_compare_as_well(tmp_path: Path) -> None:
    """A dataset in part files is compared with one in a single file: what matters is what they hold."""
    old = demo_payloads(30)
    new = change(old, lambda orders: orders.reverse(), lambda orders: orders[7].update(status="777"))
    compared(tmp_path, Dataset(payloads=old, rows_per_file=4), Dataset(payloads=new))
    assert [(row["order_number"], row["column"]) for row in rows_of(tmp_path)] == [
        (new[7]["number"], "status")
    ]


def test_spreadsheet_files_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    """What holds no exact values, or is not what its manifest says, is not compared."""
    orders = Dataset(payloads=demo_payloads(3))
    orders.write(tmp_path / "fine")
    Dataset(payloads=demo_payloads(3), formats=("csv",), csv_dialect="excel").write(tmp_path / "sheets")
    (orders.write(tmp_path / "damaged") / "orders.parquet").write_bytes(b"PAR1")
    for place, words in (
        ("sheets", "no exact"),
        ("damaged", "not what its manifest says"),
        ("none", "got none"),
    ):
        with pytest.raises((InputError, UsageError), match=words):
            compare(
                str(tmp_path / "fine"),
                str(tmp_path / place),
                str(tmp_path / "out"),
                TableOptions(),
                full=False,
                overwrite=False,
            )
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.partial").exists()


def test_parquet_of_json_type_beside_csv_is_read_once(tmp_path: Path) -> None:
    """Where each table is there twice, once as Parquet's JSON type, its rows still count once."""
    orders = Dataset(payloads=demo_payloads(4), formats=("csv", "parquet"), json_type="json")
    done = compared(tmp_path, orders, Dataset(payloads=demo_payloads(4)))
    assert (done.compared, done.changed) == (4, 0)
