"""`--pii` through whole runs: markers in every personal place of the orders, and a search of all that is left."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from exporter.dataset.flatten.flattener import Flattener
from exporter.model.catalog import ORDER_ITEMS, ORDERS, Column, Kind
from tests.support.clients import serving
from tests.support.processes import Ended, Exporter, exporter_for
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer
from tests.support.servers.moves import Behaviour
from tests.support.standing import manifest_of
from tests.support.wild_json import SAMPLE

MARK = "Gizli7Zehra"
KEY_MARK = "zehra.gizli@example.com"
KEY, OTHER_KEY = "k" * 32, "another key that is long enough!!"
PERSONAL = [column for column in (*ORDERS, *ORDER_ITEMS) if column.personal]
FREE_FORM = [column for column in (*ORDERS, *ORDER_ITEMS) if column.kind is Kind.JSON and column.path]
# Keys that nobody declared, and declared places whose value cannot be converted.
ASTRAY = [
    ("orders", ("gift_from",)),
    ("orders", ("customer", "nickname")),
    ("orders", ("customer", KEY_MARK)),
    ("order_items", (KEY_MARK,)),
    ("orders", ("shipping_address", "city", "mayor")),
    ("orders", ("amount",)),
    ("orders", ("invoice_date",)),
    ("orders", ("is_send",)),
    ("order_items", ("engraving",)),
    ("order_items", ("external_status",)),
]
EVERYTHING = ("--report", "--format", "parquet", "--format", "csv", "--log-format", "json", "--json")


def _put(root: Any, path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        root = root[key]
    root[path[-1]] = value


def _planted(*parts: str) -> str:
    return "-".join((MARK, *parts))


def _place(payload: dict[str, Any], table: str) -> Any:
    return payload if table == "orders" else payload["orderitem_set"][0]


def marked_order() -> dict[str, Any]:
    """The documented example with a marker of its own in every place that may hold personal data."""
    payload: dict[str, Any] = json.loads(SAMPLE) | {"number": "marked"}
    for column in PERSONAL:
        _put(_place(payload, column.table), column.path, _planted(column.table, column.name))
    for column in FREE_FORM:
        _put(_place(payload, column.table), column.path, {"by": [_planted(column.table, column.name)]})
    for table, path in ASTRAY:
        _put(_place(payload, table), path, _planted(table, *path))
    payload["orderitem_set"].append(_planted("an item that is a text"))
    return payload


def odd_order() -> dict[str, Any]:
    """Texts where objects and lists belong."""
    return {"number": "odd"} | {
        key: _planted("odd", key) for key in ("customer", "billing_address", "channel", "orderitem_set")
    }


def twin_order(number: str) -> dict[str, Any]:
    """One and the same value in every personal column."""
    payload: dict[str, Any] = json.loads(SAMPLE) | {"number": number}
    for column in PERSONAL:
        _put(_place(payload, column.table), column.path, MARK)
    return payload


def _answer(value: object, status: int = 200) -> Behaviour:
    return moves.answer(json.dumps(value, ensure_ascii=False).encode(), status)


GOOD: dict[str, Behaviour] = {
    "marked": _answer(marked_order()),
    "odd": _answer(odd_order()),
    "twin-1": _answer(twin_order("twin-1")),
    "twin-2": _answer(twin_order("twin-2")),
}
# Rejected, each with a marker in what the API answered.
REJECTED: dict[str, Behaviour] = {
    "400": _answer({"detail": MARK}, 400),
    "404": _answer({"detail": MARK}, 404),
    "503": _answer({"detail": MARK}, 503),
    "another-order": _answer(marked_order() | {"number": MARK}),
    "a-list": _answer([MARK]),
    "cut-json": moves.answer(json.dumps(marked_order()).encode()[:-9]),
    "html": moves.answer(f"<html>{MARK}</html>".encode()),
    "redirect": moves.redirect(f"https://elsewhere.invalid/{MARK}/"),
    "a-header": moves.answer(b"{}", 418, {"X-Customer": MARK, "Set-Cookie": MARK}),
}


@dataclass(frozen=True, kw_only=True)
class Night:
    """One run with everything that it can write, its temporary files inside the folder as well.

    Args:
        folder: Its current directory.
        ended: The process.
    """

    folder: Path
    ended: Ended

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.folder / f"out/{table}.parquet").to_pylist()
        return rows

    def told(self) -> str:
        """Return stdout, stderr and every file but the tables."""
        tables = {".parquet", ".csv"}
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix not in tables]
        return "\n".join([self.ended.out, self.ended.err, *(path.read_text("utf-8") for path in files)])

    def all_bytes(self) -> bytes:
        """Return every byte that is left, and the Parquet tables read."""
        files = [path.read_bytes() for path in self.folder.rglob("*") if path.is_file()]
        cells = [repr(self.rows("orders")), repr(self.rows("order_items")), self.ended.out, self.ended.err]
        return b"\n".join([*files, *(text.encode() for text in cells)])


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with serving({**GOOD, **REJECTED}) as running:
        yield running


@pytest.fixture(scope="module")
def nights(server: FaultyServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Night]:
    """One run in each mode, with good and rejected orders."""
    return {
        mode: _night(server.url, tmp_path_factory.mktemp(mode), mode) for mode in ("keep", "drop", "hash")
    }


def _night(url: str, folder: Path, mode: str) -> Night:
    (folder / "tmp").mkdir()
    env = {"TMPDIR": str(folder / "tmp"), "XDG_STATE_HOME": str(folder / "state"), "EXPORTER_PII_KEY": KEY}
    exporter = exporter_for(url, folder, [*GOOD, *REJECTED], **env)
    bounds = ("--max-rejects", "100%", "--max-attempts", 1)
    ended = exporter.run("--pii", mode, *EVERYTHING, *bounds, "--metrics-file", "night.prom")
    assert ended.code == 3, ended.err
    return Night(folder=folder, ended=ended)


# --- no byte of it


@pytest.mark.parametrize("mode", ["drop", "hash"])
def test_no_byte_of_personal_data_is_left(nights: dict[str, Night], mode: str) -> None:
    """Dataset, report, metrics, leftovers, temporary files, stdout and stderr hold no marker."""
    night = nights[mode]
    assert {path.name for path in night.folder.iterdir()} == {"numbers.txt", "out", "night.prom", "tmp"}
    assert {"report.html", "orders.csv", "order_items.csv"} < {
        path.name for path in (night.folder / "out").iterdir()
    }
    left = night.all_bytes()
    assert MARK.encode() not in left, _around(left)


def _around(left: bytes) -> bytes:
    place = left.index(MARK.encode())
    return left[max(0, place - 200) : place + 200]


def test_the_markers_were_there_to_be_found(nights: dict[str, Night]) -> None:
    """With `keep` every marker stands in the tables: the search above looks for what a run would show."""
    left = nights["keep"].all_bytes()
    planted = re.findall(f'{MARK}[^"]*', json.dumps([marked_order(), odd_order()]))
    assert len(planted) == len(PERSONAL) + len(FREE_FORM) + len(ASTRAY) + 5
    assert [marker for marker in planted if marker.encode() not in left] == []


@pytest.mark.parametrize("mode", ["keep", "drop", "hash"])
def test_log_report_rejects_and_manifest_never_show_any(nights: dict[str, Night], mode: str) -> None:
    """In any mode, also not from the answers of rejected orders."""
    night = nights[mode]
    assert MARK not in night.told()
    assert {name: night.ended.summary[name] for name in ("exported", "rejected")} == {
        "exported": len(GOOD), "rejected": len(REJECTED),
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["drop", "hash"])
def test_what_is_not_personal_is_kept(nights: dict[str, Night], mode: str) -> None:
    """Hidden runs differ from a run with `keep` in personal columns, JSON columns and `_unmapped` alone."""
    for table, columns in (("orders", ORDERS), ("order_items", ORDER_ITEMS)):
        shown = [column.name for column in columns if not _hidden(column)]
        kept, hidden = nights["keep"].rows(table), nights[mode].rows(table)
        assert [[row[name] for name in shown] for row in hidden] == [
            [row[name] for name in shown] for row in kept
        ]
        assert {row[column.name] for row in hidden for column in columns if column.kind is Kind.JSON} == {
            None
        }
    kept, hidden = (manifest_of(nights[one].folder / "out")["drift"] for one in ("keep", mode))
    assert hidden["uncoerced"] == kept["uncoerced"]
    assert sum(hidden["unmapped_paths"].values()) == sum(kept["unmapped_paths"].values())


@pytest.mark.parametrize("mode", ["drop", "hash"])
def test_names_of_unknown_keys_are_data(nights: dict[str, Night], mode: str) -> None:
    """An API may make keys of e-mail addresses: they are counted under their parent, and named nowhere."""
    hidden = manifest_of(nights[mode].folder / "out")["drift"]["unmapped_paths"]
    assert {"*", "customer.*", "shipping_address.city.*", "orderitem_set[].*"} <= hidden.keys()
    assert all(path.endswith("*") for path in hidden)
    assert KEY_MARK.encode() not in nights[mode].all_bytes()
    assert KEY_MARK.encode() in nights["keep"].all_bytes()


def _hidden(column: Column) -> bool:
    return column.personal or column.kind is Kind.JSON


# --- the hash


def _hash(text: str) -> str:
    return hmac.digest(KEY.encode(), text.encode(), "sha256").hex()


def _hashes(out: Path, table: str, number: str) -> set[str]:
    """Return what stands in the personal columns of one order, or of its items."""
    rows = pq.read_table(out / f"{table}.parquet").to_pylist()
    key = "number" if table == "orders" else "order_number"
    names = [column.name for column in PERSONAL if column.table == table]
    return {row[name] for row in rows if row[key] == number for name in names}


def test_one_value_has_one_hash_in_every_column(nights: dict[str, Night]) -> None:
    """HMAC-SHA256 of the value in hex, alike in both tables, in two orders, in Parquet and CSV."""
    expected = _hash(MARK)
    out = nights["hash"].folder / "out"
    for table, others in (("orders", {_hash(MARK.lower()), _hash("7")}), ("order_items", set())):
        assert _hashes(out, table, "twin-1") == _hashes(out, table, "twin-2") == {expected, *others}
        assert expected in (out / f"{table}.csv").read_text()
    # The marked phone numbers have the same digit.
    distinct = sum(column.table == "orders" and column.path[-1] != "phone_number" for column in PERSONAL)
    assert len(_hashes(out, "orders", "marked")) == distinct + 1


@pytest.mark.parametrize(
    ("path", "spellings", "hashed"),
    [
        (("customer", "email"), ["Zehra@Example.com", " zehra@example.com\t", "ZEHRA@EXAMPLE.COM"], "zehra@example.com"),
        (("shipping_address", "phone_number"), ["+90 (532) 123-45 67", "905321234567"], "905321234567"),
        (("customer", "phone_number"), ["none given", " none given"], "none given"),
        (("shipping_address", "tax_office"), ["Beşiktaş"], "Beşiktaş"),
        (("customer", "email"), ["", "  "], None),
        (("customer", "first_name"), [""], None),
    ],
)  # fmt: skip
def test_one_customer_has_one_hash(path: tuple[str, ...], spellings: list[str], hashed: str | None) -> None:
    """However an e-mail address or a phone number is spelt; an empty text stays empty."""
    orders = []
    for spelling in spellings:
        payload: dict[str, Any] = json.loads(SAMPLE)
        _put(payload, path, spelling)
        orders.append(("A1", json.dumps(payload).encode()))
    table, _ = Flattener(pii="hash", pii_key=KEY.encode()).flatten(orders)
    [shown] = set(table["_".join(path)].to_pylist())
    assert shown == ("" if hashed is None else _hash(hashed))


def test_the_key_alone_decides_over_the_hash(
    server: FaultyServer, nights: dict[str, Night], tmp_path: Path
) -> None:
    """Another night with the same key gives the same hashes, another key other ones."""
    exporter = exporter_for(server.url, tmp_path, ["twin-1", "marked"])
    for out, key in (("same", KEY), ("other", OTHER_KEY)):
        ended = exporter.run("--pii", "hash", out=out, EXPORTER_PII_KEY=key)
        assert ended.code == 0, ended.err
    first = nights["hash"].folder / "out"
    for number in ("twin-1", "marked"):
        hashes = _hashes(first, "orders", number)
        assert _hashes(tmp_path / "same", "orders", number) == hashes
        assert not _hashes(tmp_path / "other", "orders", number) & hashes


@pytest.mark.parametrize(
    "key", [None, "", "k" * 31, "ş" * 15 + "s"], ids=["none", "empty", "31", "31 in UTF-8"]
)
def test_a_key_that_is_too_short_is_refused(server: FaultyServer, tmp_path: Path, key: str | None) -> None:
    """Fewer than 32 bytes: exit 2, nothing created, nothing asked for, and the key is not shown."""
    exporter = exporter_for(server.url, tmp_path, ["marked"])
    asked = len(server.arrivals)
    ended = exporter.run(
        "--pii", "hash", "--store", "s.db", **({} if key is None else {"EXPORTER_PII_KEY": key})
    )
    ended.said(2, "--pii hash", "32 bytes", "EXPORTER_PII_KEY")
    assert not key or key not in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]
    assert len(server.arrivals) == asked


# --- the store


def test_a_kept_store_is_said_to_hold_personal_data(server: FaultyServer, tmp_path: Path) -> None:
    """With --store the log says that payloads stay as received, and a later run with `keep` finds them there."""
    exporter = exporter_for(server.url, tmp_path, ["marked"])
    store = ("--store", "nightly.db", "--max-age", "1h")
    asked = len(server.arrivals)
    assert _warns_of_store(exporter, *store, "--pii", "drop", out="hidden")
    assert not _warns_of_store(exporter, *store, out="shown")
    assert not _warns_of_store(exporter, "--pii", "drop", out="without")
    assert len(server.arrivals) == asked + 2
    assert MARK in repr(pq.read_table(tmp_path / "shown" / "orders.parquet").to_pylist())


def _warns_of_store(exporter: Exporter, *words: object, out: str) -> bool:
    ended = exporter.run(*words, out=out)
    assert ended.code == 0, ended.err
    return "nightly.db keeps payloads as received" in ended.err
