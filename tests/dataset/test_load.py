"""A dataset is in a database exactly, once, and all or nothing; in PostgreSQL, DuckDB and SQLite alike."""

from __future__ import annotations

import copy
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow.parquet as pq
import pytest
from adbc_driver_postgresql import dbapi

from exporter.model.errors import StorageError, UsageError
from exporter.run.load_dataset import load_place
from tests.support.datasets import Dataset, demo_payloads
from tests.support.postgres import running_postgres

Rows = list[tuple[Any, ...]]
NAMES = ["postgresql", "duckdb", "sqlite"]


@dataclass(frozen=True)
class Target:
    """A database, and how to look into it."""

    url: str

    def rows(self, query: str) -> Rows:
        kind, _, rest = self.url.partition(":")
        if kind == "postgresql":
            with dbapi.connect(self.url) as connection, connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        if kind == "duckdb":
            with duckdb.connect(rest) as database:
                return database.execute(query).fetchall()
        connection = sqlite3.connect(rest)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def run(self, statement: str) -> None:
        kind, _, rest = self.url.partition(":")
        if kind == "postgresql":
            with dbapi.connect(self.url, autocommit=True) as connection, connection.cursor() as cursor:
                cursor.execute(statement)
        elif kind == "duckdb":
            with duckdb.connect(rest) as database:
                database.execute(statement)
        else:
            connection = sqlite3.connect(rest, isolation_level=None)
            connection.execute(statement)
            connection.close()

    def tables(self) -> tuple[int, int]:
        ((orders,),) = self.rows("SELECT count(*) FROM orders")
        ((items,),) = self.rows("SELECT count(*) FROM order_items")
        return orders, items


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    if request.param != "postgresql":
        return Target(f"{request.param}:{tmp_path / 'shop.db'}")
    url: str = request.getfixturevalue("server")
    Target(url).run(f'CREATE DATABASE "{tmp_path.name}"')
    return Target(url.replace("/postgres?", f"/{quote(tmp_path.name)}?"))


def dataset(folder: Path, payloads: list[dict[str, Any]], **more: Any) -> str:
    return str(Dataset(payloads=payloads, **more).write(folder))


ODD: list[dict[str, Any]] = [
    {"number": "O'Hara", "amount": "9999999999999999.9999", "status": "", "currency": "İğüşöç"},
    {"number": 'a"b;--', "amount": "-9999999999999999.9999", "date_placed": "0001-01-01T00:00:00Z"},
    {"number": "year-9999", "amount": "-3.5", "date_placed": "9999-12-31T23:59:59.999999Z"},
    {
        "number": "nul",
        "amount": "0.0001",
        "payment_option": "a\0b",
        "extra_field": {"a": "\0", "b": "\ud800"},
    },
    {"number": "zero", "amount": "0", "installment": 2**63 - 1, "is_send": True, "strange": [1e300]},
    {"number": "nulls", "orderitem_set": [{}, {"id": 1, "price": "16.40", "product_sku": "x\0y"}, 7]},
]


@pytest.mark.extra
def test_every_value_is_there_exactly(target: Target, tmp_path: Path) -> None:
    """Amounts of 20 digits, Turkish letters, null beside the empty text, years 1 to 9999, U+0000: nothing is lost."""
    place = dataset(tmp_path / "odd", ODD)
    load_place(place, target.url)
    expected = pq.read_table(Path(place) / "orders.parquet").to_pylist()
    for name in ("amount", "status", "currency", "extra_field", "installment", "is_send"):
        found: dict[str, Any] = dict(target.rows(f"SELECT number, {name} FROM orders"))
        for row in expected:
            value = found[row["number"]]
            if name == "amount":
                value = value if value is None else Decimal(value)
            assert value == row[name], (name, row["number"])
    times = "SELECT number, CAST(date_placed AS text) FROM orders WHERE date_placed IS NOT NULL ORDER BY date_placed"
    if target.url.startswith("sqlite"):
        texts: dict[str, str] = dict(target.rows(times))
        assert texts["year-9999"] == "9999-12-31 23:59:59.999999Z"
    assert [number for number, _ in target.rows(times)] == ['a"b;--', "year-9999"]
    least = target.rows("SELECT number FROM orders WHERE amount IS NOT NULL ORDER BY amount")
    assert [number for (number,) in least][2:] == ["zero", "nul", "O'Hara"]
    ((payment, unmapped),) = target.rows("SELECT payment_option, _unmapped FROM orders WHERE number = 'nul'")
    assert (payment, unmapped) == (None, '{"payment_option":"a\\u0000b"}')
    assert target.tables() == (6, 3)


def test_the_same_dataset_twice_does_nothing(target: Target, tmp_path: Path) -> None:
    """A load that was done is recognised by run id and digest, and said to be."""
    place = dataset(tmp_path / "one", demo_payloads(20))
    assert load_place(place, target.url).before is None
    again = load_place(place, target.url)
    assert again.before is not None
    assert "Nothing to do" in str(again)
    assert target.rows("SELECT run_id, mode, orders, gone FROM exporter_loads") == [
        ("0123456789abcdef", "upsert", 20, 0)
    ]


@pytest.mark.extra
def test_an_order_takes_the_place_of_the_older_one_with_all_its_items(target: Target, tmp_path: Path) -> None:
    """A shrunken order leaves no stale item; an order that is not in the new dataset stays; a gone one is marked."""
    old = demo_payloads(6)
    new = copy.deepcopy(old[1:5])
    new[0]["orderitem_set"] = new[0]["orderitem_set"][:1]
    new[0]["status"] = "777"
    new[1]["orderitem_set"] = []
    rejected = {old[0]["number"]: "not_found", old[5]["number"]: "unavailable"}
    load_place(dataset(tmp_path / "old", old), target.url)
    later = dataset(tmp_path / "new", new, rejected=rejected, run_id="b" * 16)
    assert load_place(later, target.url, mark_gone=True).gone == 1
    items = sum(len(order["orderitem_set"]) for order in [old[0], *new, old[5]])
    assert target.tables() == (6, items)
    assert target.rows("SELECT number FROM orders WHERE _gone_at IS NOT NULL") == [(old[0]["number"],)]
    assert target.rows("SELECT number FROM orders WHERE status = '777'") == [(new[0]["number"],)]
    returned = dataset(tmp_path / "back", old[:1], run_id="c" * 16)
    load_place(returned, target.url)
    assert target.rows("SELECT count(*) FROM orders WHERE _gone_at IS NOT NULL") == [(0,)]
    load_place(later, target.url, replace=True)
    assert target.tables() == (4, sum(len(order["orderitem_set"]) for order in new))


def test_tables_that_do_not_fit_are_named_and_left_as_they_are(target: Target, tmp_path: Path) -> None:
    """A new column of ours is added; a foreign one, one that the dataset lacks and one of another type are named."""
    narrow = dataset(tmp_path / "narrow", demo_payloads(3), drop=("status",))
    load_place(narrow, target.url)
    load_place(dataset(tmp_path / "wide", demo_payloads(4), run_id="b" * 16), target.url)
    assert target.rows("SELECT count(status) FROM orders") == [(4,)]
    with pytest.raises(UsageError, match="column status: the dataset lacks it"):
        load_place(
            dataset(tmp_path / "again", demo_payloads(3), drop=("status",), run_id="c" * 16), target.url
        )
    target.run("ALTER TABLE orders ADD COLUMN mine integer")
    with pytest.raises(UsageError, match="column mine: it is not the exporter's"):
        load_place(dataset(tmp_path / "third", demo_payloads(3), run_id="d" * 16), target.url)
    assert target.rows("SELECT count(*) FROM exporter_loads") == [(2,)]


def test_names_are_quoted(target: Target, tmp_path: Path) -> None:
    """A prefix or a schema of any characters is a name, never SQL."""
    place = dataset(tmp_path / "one", demo_payloads(2))
    load_place(place, target.url, prefix='x"; DROP TABLE orders; --')
    assert target.rows('SELECT count(*) FROM "x""; DROP TABLE orders; --orders"') == [(2,)]
    if target.url.startswith("sqlite"):
        with pytest.raises(UsageError, match="no schemas"):
            load_place(place, target.url, schema="shop")
    else:
        load_place(place, target.url, schema="My Shop", prefix="p_")
        assert target.rows('SELECT count(*) FROM "My Shop".p_orders') == [(2,)]


def test_meanings_and_keys_are_in_the_database(target: Target, tmp_path: Path) -> None:
    """Each column says what it means, and the keys are primary keys."""
    load_place(dataset(tmp_path / "one", demo_payloads(2)), target.url)
    queries = {
        "sqlite": "SELECT sql FROM sqlite_master WHERE name = 'orders'",
        "duckdb": "SELECT comment FROM duckdb_columns() WHERE table_name = 'orders' AND column_name = 'amount'",
        "postgresql": "SELECT col_description('orders'::regclass, attnum) FROM pg_attribute"
        " WHERE attrelid = 'orders'::regclass AND attname = 'amount'",
    }
    ((told,),) = target.rows(queries[target.url.partition(":")[0]])
    assert "total" in told.lower() or "amount" in told.lower()
    with pytest.raises(Exception, match=r"(?i)unique|duplicate|constraint"):
        target.run("INSERT INTO orders (number) SELECT number FROM orders")


@pytest.mark.parametrize(
    ("name", "when"), [("stage", "after"), ("add_key", "after"), ("commit", "before"), ("commit", "after")]
)
def test_a_kill_leaves_all_or_nothing(target: Target, tmp_path: Path, name: str, when: str) -> None:
    """kill -9 at any step: readers see the old rows or the new, and the same command finishes."""
    if name == "add_key" and target.url.startswith("sqlite"):
        name = "create"
    load_place(dataset(tmp_path / "old", demo_payloads(5)), target.url, prefix="")
    place = dataset(tmp_path / "new", demo_payloads(12), run_id="b" * 16)
    prefix = "new_" if name in ("add_key", "create") else ""
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, place, target.url, name, when, prefix],
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = (name, when) == ("commit", "after")
    assert target.rows("SELECT count(*) FROM orders") == [(12 if done else 5,)]
    again = load_place(place, target.url, prefix=prefix)
    assert (again.before is not None) == done
    assert target.rows(f"SELECT count(*) FROM {prefix}orders") == [(12,)]


_KILLED = """
import os, signal, sys
from exporter.dataset.loading import databases
from exporter.run.load_dataset import load_place
place, target, name, when, prefix = sys.argv[1:]
kind = databases._KINDS[target.partition(":")[0]]
real = getattr(kind, name)
def killed(self, *words):
    if when == "after":
        real(self, *words)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(kind, name, killed)
load_place(place, target, prefix=prefix)
"""


def test_readers_see_the_old_rows_until_all_new_ones_are_there(server: str, tmp_path: Path) -> None:
    """While a load is at work, another connection sees what was there before."""
    target = Target(server)
    load_place(dataset(tmp_path / "old", demo_payloads(5)), server)
    seen: list[tuple[int, int]] = []

    def look(database: Any) -> None:
        commit = database.commit

        def looking() -> None:
            seen.append(target.tables())
            commit()

        database.commit = looking

    place = dataset(tmp_path / "new", demo_payloads(9), run_id="b" * 16)
    before = target.tables()
    load_place(place, server, replace=True, begun=look)
    assert seen == [before]
    assert target.tables()[0] == 9


def test_passwords_come_from_the_environment_alone(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in the target is refused without being shown; PGPASSWORD works and is never told."""
    place = dataset(tmp_path / "one", demo_payloads(2))
    for url in (
        "postgresql://me:s3cret@localhost/shop",
        "postgresql://me:s3/cret@[::1/shop",
        "postgresql:///shop?user=me&p%61ssword=s3cret",
    ):
        with pytest.raises(UsageError) as raised:
            load_place(place, url)
        assert "cret" not in str(raised.value)
        assert "PGPASSWORD" in str(raised.value)
    with pytest.raises(UsageError) as raised:
        load_place(place, "host=localhost password=s3cret")
    assert "s3cret" not in str(raised.value)
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    with pytest.raises(StorageError) as failed:
        load_place(place, server.replace("user=postgres", "user=nobody-here"))
    assert "s3cret" not in str(failed.value)
    Target(server).run("CREATE ROLE shop LOGIN PASSWORD 's3cret' SUPERUSER")
    assert load_place(place, server.replace("user=postgres", "user=shop"), prefix="pw_").orders == 2


def test_duckdb_merges_more_than_its_memory_holds(tmp_path: Path) -> None:
    """Every second order of many is another one: their rows go to the disk, as those of a first load do."""
    old = demo_payloads(10_000)
    new = [order | {"status": "999"} if at % 2 else order for at, order in enumerate(old)]
    url = f"duckdb:{tmp_path / 'shop.db'}"
    for name, payloads in (("old", old), ("new", new)):
        place = dataset(tmp_path / name, payloads, run_id=name)
        load_place(place, url, begun=lambda database: database.run("SET memory_limit = '40MB'"))
    ((changed,),) = Target(url).rows("SELECT count(*) FROM orders WHERE status = '999'")
    assert (changed, Target(url).tables()[0]) == (5_000, 10_000)


def test_duckdb_fetches_nothing_from_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a file of SQLite, DuckDB would download an extension; it is told not to, and the load says what is missing."""
    place, database = dataset(tmp_path / "one", demo_payloads(2)), tmp_path / "shop.db"
    load_place(place, f"sqlite:{database}")
    monkeypatch.setenv("HOME", str(tmp_path))  # where extensions would be
    with pytest.raises(StorageError) as failed:
        load_place(place, f"duckdb:{database}")
    assert "sqlite" in str(failed.value)
    assert "download" not in str(failed.value)


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    """A target of another kind, a dataset without items, and one that is damaged."""
    place = dataset(tmp_path / "one", demo_payloads(2))
    for url in ("mysql://x", "postgresql:x", "sqlite:", "shop.db"):
        with pytest.raises(UsageError, match="expected postgresql"):
            load_place(place, url)
    (tmp_path / "one" / "orders.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="not what its manifest says"):
        load_place(place, f"sqlite:{tmp_path / 'x.db'}")
    assert not (tmp_path / "x.db").exists()
