"""A kept store over the years: pruned, copied, and waited for."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from exporter.lists import Batch
from exporter.model.errors import StorageError
from exporter.model.freshness import Freshness
from exporter.model.records import FETCHED, Outcome, Traffic
from exporter.store.order_store import Store
from exporter.store.plan import make_plan
from exporter.store.prune_and_backup import prune
from tests.support.processes import Exporter, wait_until

KEPT = ("--store", "kept.db", "--max-age", "30d", "--overwrite")


def numbers_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as store:
        return [number for (number,) in store.execute("SELECT number FROM orders ORDER BY id")]


def holds_some(path: Path) -> bool:
    try:
        return path.exists() and len(numbers_in(path)) > 5
    except sqlite3.OperationalError:
        return False  # it is being made


def listing(exporter: Exporter, numbers: list[str]) -> Path:
    path = exporter.cwd / "listed.txt"
    path.write_text("".join(f"{number}\n" for number in numbers))
    return path


def test_what_nobody_lists_any_more_goes(exporter: Exporter) -> None:
    """Its row, its payload and its space; what is listed, or is young, stays, and the next run asks for nothing."""
    assert exporter.run(*KEPT).code == 0
    store = exporter.cwd / "kept.db"
    known = numbers_in(store)
    keep = listing(exporter, known[:20])
    young = exporter("store", "prune", "kept.db", "--not-in", keep)
    assert (young.code, "Removed 0 orders" in young.out) == (0, True)
    told = exporter("store", "prune", "kept.db", "--not-in", keep, "--older-than", "0s", "--dry-run")
    assert "Would remove 40 orders" in told.out
    assert numbers_in(store) == known
    size = store.stat().st_size
    assert exporter("store", "prune", "kept.db", "--not-in", keep, "--older-than", "0s").out.startswith(
        "Removed 40 "
    )
    assert numbers_in(store) == known[:20]
    assert store.stat().st_size < size
    bytes_left = b"".join(file.read_bytes() for file in exporter.cwd.glob("kept.db*"))
    assert [number for number in known if number.encode() in bytes_left] == known[:20]
    (exporter.cwd / "numbers.txt").write_text(keep.read_text())
    assert exporter.run(*KEPT, "--json").summary["requests"]["sent"] == 0


def test_a_run_prunes_after_publishing(exporter: Exporter) -> None:
    """`--prune` removes what is neither listed nor younger than 90 days."""
    assert exporter.run(*KEPT).code == 0
    store = exporter.cwd / "kept.db"
    known = numbers_in(store)
    with closing(Store(store)) as opened:
        opened._connection.execute("UPDATE orders SET settled_at = settled_at - 91 * 86400 WHERE id > 40")
    listing(exporter, []).unlink()
    (exporter.cwd / "numbers.txt").write_text("".join(f"{number}\n" for number in known[:30]))
    assert "10" not in exporter.run(*KEPT, "--dry-run").err
    ended = exporter.run(*KEPT, "--prune")
    assert (ended.code, "20 orders pruned" in ended.err) == (0, True), ended.err
    assert numbers_in(store) == known[:40]


def fetched(number: str) -> Outcome:
    payload = f'{{"number": "{number}"}}'.encode()
    return Outcome(number, FETCHED, 2.0, 1, 200, payload=payload)


def kept_of(folder: Path, numbers: Sequence[str]) -> Path:
    """Return a store that holds a short payload of each number: a dictionary of so few is made of all their bytes."""
    path = folder / "kept.db"
    with closing(Store(path, "https://shop.example")) as store:
        run = store.begin_run("out", 1.0, 0.0)
        store.settle(run.run_id, [fetched(number) for number in numbers], Traffic())
    return path


def pruned(path: Path, keep: Sequence[str]) -> int:
    plan = path.with_name("plan.db")
    plan.unlink(missing_ok=True)
    make_plan(plan, [Batch(lines=range(len(keep)), order_numbers=keep)])
    return prune(path, plan, 3.0)


def payloads_in(path: Path) -> dict[str, bytes]:
    """Return what the store gives back, checked."""
    with closing(Store(path, readonly=True)) as store:
        store.attach_plan(path.with_name("plan.db"))
        rows = store.planned(Freshness(0.0, 0.0), -1, limit=1000, limit_bytes=1 << 20)
        return {row.order_number: store.payload(row.order_number, row.frame) for row in rows if row.frame}


def meta_of(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as store:
        return dict(store.execute("SELECT key, value FROM meta"))


def test_the_dictionary_holds_nothing_of_what_went(tmp_path: Path) -> None:
    """It is learnt anew where one of its orders goes, and where nobody knows whose they are; what stays reads the same."""
    numbers = [f"number-{index}" for index in range(5)]
    path = kept_of(tmp_path, numbers)
    with closing(Store(path)) as store:
        store.settle(store.begin_run("out", 1.0, 9.0).run_id, [fetched("later")], Traffic())
    first = meta_of(path)
    assert all(number in str(first["dictionary"]) for number in numbers)
    assert pruned(path, numbers) == 1
    assert meta_of(path) == first

    assert pruned(path, numbers[2:]) == 2
    assert [number for number in numbers if number.encode() in path.read_bytes()] == numbers[2:]
    assert payloads_in(path) == {number: fetched(number).payload for number in numbers[2:]}

    with closing(sqlite3.connect(path)) as older, older:
        older.execute("DELETE FROM meta WHERE key = 'learnt_from'")
    assert pruned(path, numbers[3:]) == 1
    assert numbers[2].encode() not in path.read_bytes()

    assert pruned(path, []) == 2
    assert meta_of(path).keys() == {"api_url"}
    kept_of(tmp_path, ["new"])
    assert payloads_in(path) == {}


def test_what_is_damaged_is_not_compressed_anew(tmp_path: Path) -> None:
    """Its checksum would become right by the way: prune names the order, and the store stays as it was."""
    path = kept_of(tmp_path, ["gone", "damaged"])
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE orders SET fetched_at = 1.5 WHERE number = 'damaged'")
    with pytest.raises(StorageError, match="order damaged is damaged"):
        pruned(path, ["damaged"])
    assert numbers_in(path) == ["gone", "damaged"]


def test_prune_is_for_a_kept_store(exporter: Exporter) -> None:
    """Without --store there is nothing to prune."""
    exporter.run("--prune").said(2, "--prune", "--store")
    words = ("run", "--from-api", "--out", "out", "--store", "kept.db", "--prune", "--status", "400")
    exporter(*words).said(2, "--prune", "filters")


def test_prune_refuses_what_is_at_work_or_is_none(exporter: Exporter) -> None:
    """A run holds the store's lock; what is no store, or no list, changes nothing."""
    exporter("store", "prune", "none.db", "--not-in", "numbers.txt").said(2, "none.db")
    with exporter.run_started("--store", "kept.db", "--rate", "5/s") as running:
        wait_until((exporter.cwd / "kept.db.lock.json").exists)
        exporter("store", "prune", "kept.db", "--not-in", "numbers.txt").said(8, "kept.db")
        running.kill()
    exporter("store", "prune", "kept.db", "--not-in", "missing.txt").said(2, "missing.txt")


def test_a_copy_is_taken_while_a_run_writes(exporter: Exporter) -> None:
    """The copy is whole, this user's alone, and a store that a run can use."""
    with exporter.run_started("--store", "kept.db", "--rate", "5/s") as running:
        wait_until(lambda: holds_some(exporter.cwd / "kept.db"))
        assert exporter("store", "backup", "kept.db", "copy.db").code == 0
        assert running.alive
        running.kill()
    copy = exporter.cwd / "copy.db"
    found = numbers_in(copy)
    assert 5 < len(found) < 60
    assert found == numbers_in(exporter.cwd / "kept.db")[: len(found)]
    assert copy.stat().st_mode & 0o777 == 0o600
    summary = exporter.run("--store", "copy.db", "--max-age", "30d", "--json", out="again").summary
    assert summary["requests"]["sent"] == 60 - len(found)
    exporter("store", "backup", "kept.db", "copy.db").said(7, "copy.db", "something else is there")
    assert list(exporter.cwd.glob(".*")) == []


def test_a_lock_of_another_program_is_waited_for(exporter: Exporter) -> None:
    """Who looks into the store, or copies it, may hold it for a minute; the run goes on after that."""
    assert exporter.run(*KEPT).code == 0
    path = exporter.cwd / "kept.db"
    with closing(Store(path)) as store:
        (timeout_ms,) = store._connection.execute("PRAGMA busy_timeout").fetchone()
    assert timeout_ms >= 60_000
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(1.0, other.close).start()
    began = time.monotonic()
    assert exporter.run("--store", "kept.db", "--overwrite").code == 0
    assert time.monotonic() - began >= 0.9
