"""`exporter status` says what stands at a place and what a run would ask for, and touches nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from exporter.model.options import AskOptions
from exporter.model.records import Outcome, Traffic
from exporter.run.status import look
from exporter.store.order_store import Store
from tests.support.processes import Api, Exporter, demo_api, wait_until
from tests.support.standing import damage_index


def status(exporter: Exporter, *words: object) -> dict[str, Any]:
    """Return what `status --json` says, and check that the text for people fits 80 columns."""
    text = exporter("status", *words)
    assert text.code == 0, text.err
    ours = [line for line in text.out.splitlines() if str(exporter.cwd) not in line]
    assert max(map(len, ours), default=0) <= 80, text.out
    return exporter("status", *words, "--json").summary


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file and its bytes, but for SQLite's shared memory, which readers make anew."""
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".db-shm", ".db-wal")
    }


def test_a_finished_dataset_is_told(exporter: Exporter) -> None:
    """Of a dataset: when it was finished, what it holds, and its files."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\n")
    assert exporter.run().code == 3
    before = snapshot(exporter.cwd)
    found = status(exporter, "out")
    assert found["dataset"]["counts"] | {"order_items": 0} == {
        "requested": 61,
        "exported": 60,
        "rejected": 1,
        "order_items": 0,
    }
    assert found["work"] is found["store"] is found["ask"] is None
    text = exporter("status", "out").out
    for words in ("Dataset out", "60 of 61", "not_found 1", "orders.parquet", "60 rows"):
        assert words in text
    assert snapshot(exporter.cwd) == before


def test_a_kept_store_is_told_with_what_a_run_would_ask_for(exporter: Exporter, api: Api) -> None:
    """Of a store: states, ages, and what a run with these options asks for; and that is what it asks for."""
    assert exporter.run("--store", "s.db").code == 0
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.writelines(f"{number}\n" for number in api.numbers[60:100])
    asked, before = api.asked(), snapshot(exporter.cwd)
    (held,) = status(exporter, "s.db")["holdings"]["held"]
    assert (held["state"], held["orders"]) == ("fetched", 60)
    assert held["oldest_at"] <= held["newest_at"] <= time.time()

    def ask(*words: object) -> tuple[int, int, float]:
        found = status(exporter, "s.db", *words)["ask"]
        return found["pending"], found["orders"], found["seconds"]

    assert ask() == (60, 60, 6.0)
    assert ask("--max-age", "1h") == (0, 60, 0.0)
    assert ask("numbers.txt", "--max-age", "1h", "--rate", "2/s") == (40, 100, 20.0)
    statuses = {order["status"] for order in _orders(exporter)}
    rule = ",".join(sorted(statuses)) + "=1h"
    assert ask("numbers.txt", "--refresh-status", rule)[0] == 40
    assert (api.asked(), snapshot(exporter.cwd)) == (asked, before)

    exporter.run("--store", "s.db", "--max-age", "1h", "--overwrite")
    assert api.asked() - asked == 40


def _orders(exporter: Exporter) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(
        exporter.cwd / "out" / "orders.parquet", columns=["status"]
    ).to_pylist()
    return rows


def test_a_run_at_work_and_a_killed_one_are_told(tmp_path: Path) -> None:
    """Of an unfinished run: who holds it, or that its process died, and what is left to ask for."""
    with demo_api(orders=800) as api:
        exporter = api.exporter(tmp_path)
        with exporter.run_started("--rate", "20/s") as running:
            wait_until(lambda: api.asked() > 10)
            wait_until(lambda: status(exporter, "out")["holdings"]["orders"] > 0)
            at_work = status(exporter, "out")
            assert at_work["work_holder"]["pid"] == running.pid
            assert at_work["work_holder"]["alive"] is True
            assert f"process {running.pid}, started" in exporter("status", "out").out
            os.kill(running.pid, signal.SIGKILL)
            running.end()
        killed = status(exporter, "out.partial")
        assert killed["work_holder"]["alive"] is False
        assert f"process {running.pid} died" in exporter("status", "out").out
        (run,) = killed["holdings"]["unfinished"]
        assert run["out"] == "out"
        held, ask = killed["holdings"]["orders"], killed["ask"]
        assert (ask["pending"], ask["orders"], ask["of"]) == (800 - held, 800, "the unfinished run")
        assert status(exporter, "out", "numbers.txt")["ask"]["pending"] == 800 - held


def test_nothing_of_ours_is_exit_2(exporter: Exporter) -> None:
    """A place without anything of ours, and somebody else's file, are named."""
    (exporter.cwd / "mine").mkdir()
    (exporter.cwd / "mine" / "file").touch()
    exporter("status", "mine").said(2, "mine: expected a dataset, a work directory or a store")
    exporter("status", "numbers.txt").said(7, "numbers.txt")


def test_a_run_is_as_old_as_its_last_answer(tmp_path: Path) -> None:
    """--resume-within: what a run that began long ago was told a minute ago is not asked for again, and status says so."""
    now, store = time.time(), tmp_path / "s.db"
    with closing(Store(store, "https://api.example")) as opened:
        run = opened.begin_run(str(tmp_path / "out"), now - 7200, 0)
        fetched = Outcome("a", "fetched", now - 60, attempts=1, payload=b"{}", http_status=200)
        opened.settle(run.run_id, [fetched], Traffic(sent=1))
    for within, pending in (("10m", 0), ("30s", 1)):
        options = AskOptions(store=str(store), resume_within=within)
        ask = look(str(tmp_path / "out"), options, may_be_new=True).ask
        assert ask is not None
        assert (ask.pending, ask.orders) == (pending, 1)
        with closing(Store(store, "https://api.example")) as opened:
            resumed = opened.begin_run(str(tmp_path / "out"), now, 600 if within == "10m" else 30).resumed
        assert resumed is not bool(pending)


def test_a_dry_run_refuses_what_the_run_would(exporter: Exporter) -> None:
    """A list of nothing but invalid lines, a URL, and a list with too many invalid lines: the same end, nothing made."""
    numbers = exporter.cwd / "numbers.txt"
    for text, words, code, said in (
        ("hello big world\nhello small world\n", (), 2, "got only invalid lines"),
        ("A1\nhello world\nA2\n", ("--max-rejects", "0"), 4, "nothing was requested"),
    ):
        numbers.write_text(text)
        exporter.run(*words, "--dry-run").said(code, said)
        exporter("run", "s3://bucket/list.txt", "--out", "out", "--dry-run").said(2, "pipe it into -.")
        assert list(exporter.cwd.iterdir()) == [numbers]
        exporter.run(*words).said(code, said)


def test_a_dry_run_names_a_store_that_is_not_ours_or_damaged(exporter: Exporter) -> None:
    """Whatever reading the list with its look-ups in that store met first; the run says the same."""
    exporter.cwd.joinpath("numbers.txt").write_text("A1\nA2\n")
    store = exporter.cwd / "orders.db"
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("CREATE TABLE sales(number)")
    for words in (("--dry-run",), ()):
        exporter.run("--store", store.name, *words).said(2, store.name, "got another SQLite file")
    store.unlink()
    Store(store, exporter.env["EXPORTER_API_URL"]).close()
    damage_index(store)
    for words in (("--dry-run",), ()):
        exporter.run("--store", store.name, *words).said(7, f"{store.name}: the store is corrupt")


def test_a_run_killed_before_its_store_was_made_is_told(exporter: Exporter) -> None:
    """The file is there, and no table in it: that is no store of an older version."""
    exporter.run("--rate", "1/h", EXPORTER_TEST_KILL_AT="run:3")
    work = exporter.cwd / "out.partial"
    for made in (b"", _made_of_nothing(exporter.cwd / "nothing.db")):
        (work / "store.db").write_bytes(made)
        found = status(exporter, "out")
        assert found["work"] is not None
        assert found["store"] is None
    assert exporter.run().code == 0


def _made_of_nothing(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return path.read_bytes()


def test_a_look_loads_no_http_client() -> None:
    """It asks for nothing, so it need not wait for what asks."""
    code = "import sys, exporter.run.dry_run; sys.exit('aiohttp' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
