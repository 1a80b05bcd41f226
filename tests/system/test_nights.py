"""Night after night: a kept store asks only for what is new, stale or was not available."""

from __future__ import annotations

import json
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from exporter.demo.orders import order_payload
from exporter.model.records import Outcome, Traffic
from exporter.store.order_store import Store
from tests.support.processes import Api, Exporter, exporter_for, wait_until
from tests.support.servers.process import faulty_process, stats
from tests.support.standing import contents, manifest_of

DAY_S = 86400.0
NIGHTLY = ("--store", "nightly.db", "--overwrite")


class Nights:
    """An exporter that runs each night, and an API that says what it was asked."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.store = folder / "nightly.db"
        self.exporter = api.exporter(folder, [])

    def night(self, numbers: Sequence[str], *words: str, code: int = 0) -> list[str]:
        """Export these orders; return what was asked for, in input order."""
        (self.folder / "numbers.txt").write_text("".join(f"{number}\n" for number in numbers))
        before = self._asked()
        ended = self.exporter.run(*NIGHTLY, *words)
        assert ended.code == code, ended.err
        asked = self._asked()
        return [number for number in numbers if asked.get(number, 0) > before.get(number, 0)]

    def age(self, days: float, number: str | None = None) -> None:
        """Make what the store holds, or one order of it, look so many days older."""
        store = Store(self.store)
        found = store._connection.execute("SELECT number, settled_at FROM orders").fetchall()
        for known, settled_at in found:
            if number in (None, known):
                _resettle(store, known, settled_at - days * DAY_S)
        store.close()

    def exported(self) -> list[str]:
        """Return the order numbers of the dataset."""
        import pyarrow.parquet as pq

        names: list[str] = pq.read_table(self.folder / "out" / "orders.parquet")["number"].to_pylist()
        return names

    def _asked(self) -> dict[str, int]:
        by_order: dict[str, int] = self.api.stats()["by_order"]
        return by_order


def _resettle(store: Store, number: str, settled_at: float) -> None:
    """Settle a fetched order again as it was, at another time, through the store's own door."""
    run = store.begin_run("elsewhere", settled_at, 0.0)
    body = json.dumps(order_payload(number), ensure_ascii=False).encode()
    status = str(order_payload(number)["status"])
    outcome = Outcome(number, "fetched", settled_at, 1, 200, order_status=status, payload=body)
    store.settle(run.run_id, [outcome], Traffic())


@pytest.fixture
def nights(api: Api, tmp_path: Path) -> Nights:
    """Nights of exports from the shared demo API."""
    return Nights(api, tmp_path)


def test_a_night_asks_for_what_is_new_or_stale(nights: Nights) -> None:
    """With --max-age only new and stale orders are asked for, and the dataset still holds all of the input."""
    first, second = list(nights.api.numbers[:20]), list(nights.api.numbers[10:30])
    assert nights.night(first) == first
    assert nights.night(second, "--max-age", "7d") == second[10:]
    assert nights.exported() == second
    nights.age(8, second[3])
    assert nights.night(second, "--max-age", "7d") == [second[3]]
    assert nights.night(second, "--max-age", "9d") == []
    assert manifest_of(nights.folder / "out")["requests"]["sent"] == 0
    assert nights.night(second) == second


def test_settled_orders_rest_longer(nights: Nights) -> None:
    """--refresh-status gives orders of some statuses an age of their own."""
    numbers = list(nights.api.numbers[:40])
    resting = {number for number in numbers if str(order_payload(number)["status"]) in ("550", "600")}
    assert 0 < len(resting) < 40
    nights.night(numbers)
    nights.age(10)
    rules = ("--max-age", "7d", "--refresh-status", "550,600=30d")
    assert nights.night(numbers, *rules) == [number for number in numbers if number not in resting]
    nights.age(25)
    assert set(nights.night(numbers, *rules)) == set(numbers)


def test_no_refusal_outlives_its_run(tmp_path: Path) -> None:
    """--max-age covers what was fetched: each new run asks again for what was refused, whatever the reason."""
    with faulty_process("tests.support.plans:asked_again_after_500") as url:
        exporter = exporter_for(url, tmp_path, ["a0", "a1", "a2", "a3"])
        words = (*NIGHTLY, "--max-age", "7d", "--max-rejects", "100%")
        assert exporter.run(*words, "--max-attempts", 1).code == 3
        assert manifest_of(tmp_path / "out")["rejects_by_reason"] == {"unavailable": 1, "not_found": 1}
        assert exporter.run(*words).code == 3
        asked = [arrival["number"] for arrival in stats(url)["arrivals"]]
    assert Counter(asked)["a1"] == 2
    assert Counter(asked)["a0"] >= 2
    assert Counter(asked)["a2"] + Counter(asked)["a3"] <= 2 + 2  # one proof a run
    assert manifest_of(tmp_path / "out")["rejects_by_reason"] == {"not_found": 1}


def test_a_store_is_private(nights: Nights) -> None:
    """The store, its lock and a work directory can be read by their owner alone."""
    nights.night(nights.api.numbers[:5])
    assert stat.S_IMODE(nights.store.stat().st_mode) == 0o600
    with nights.exporter.run_started("--rate", "2/s", "--overwrite") as running:
        work = nights.folder / "out.partial"
        wait_until((work / "plan.db").exists)
        assert stat.S_IMODE(work.stat().st_mode) == 0o700
        assert stat.S_IMODE((work / "store.db").stat().st_mode) == 0o600
        running.kill()


def test_a_store_belongs_to_one_api(nights: Nights) -> None:
    """Another API is refused with exit 2 and what to do, and the store stays as it is."""
    nights.night(nights.api.numbers[:5])
    words = ("--store", "nightly.db", "--api-url", "http://127.0.0.1:9/other")
    nights.exporter.run(*words, out="other").said(2, "nightly.db", "belongs to", "another --store")
    nights.exporter.run(*words, "--dry-run", out="other").said(2, "belongs to")
    assert not list(nights.folder.glob("other*"))
    assert nights.night(nights.api.numbers[:5], "--max-age", "1d") == []


def test_an_unfinished_run_belongs_to_one_api(api: Api, tmp_path: Path) -> None:
    """The work directory of an unfinished run is not gone on with against another API."""
    exporter = api.exporter(tmp_path, api.numbers[:30])
    asked = api.asked()
    with exporter.run_started("--rate", "20/s") as running:
        wait_until(lambda: api.asked() - asked >= 10)
        running.kill()
    exporter.run("--api-url", "http://127.0.0.1:9").said(2, "belongs to", "another --store or --out")
    assert exporter.run().code == 0


def test_a_store_of_another_version_is_refused(nights: Nights) -> None:
    """A store of a version that is yet to come: exit 2, both versions, and what to do."""
    nights.night(nights.api.numbers[:5])
    connection = sqlite3.connect(nights.store)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    nights.exporter.run(*NIGHTLY, out="next").said(2, "nightly.db", "99", "a newer one")


def test_the_input_may_change_between_tries(api: Api, tmp_path: Path) -> None:
    """A resumed run fetches the new lines, and does not publish those that vanished."""
    exporter = api.exporter(tmp_path, api.numbers[:40])
    asked = api.asked()
    with exporter.run_started("--rate", "40/s") as running:
        wait_until(lambda: api.asked() - asked >= 20)
        running.signal(15)
        assert running.end().code == 143
    kept = api.asked() - asked
    changed = [*api.numbers[60:65], *reversed(api.numbers[5:40])]
    api.exporter(tmp_path, changed)
    assert exporter.run("--json").code == 0
    assert api.asked() - asked == 40 - 5 + 5 + min(5, kept)
    numbers = Nights(api, tmp_path).exported()
    assert numbers == changed
    assert manifest_of(tmp_path / "out")["counts"]["requested"] == 40


def test_an_old_unfinished_run_is_begun_anew(api: Api, tmp_path: Path) -> None:
    """--resume-within: what an older try fetched is asked for again, so that no dataset mixes two days."""
    missing = [f"missing-{index}" for index in range(5)]
    exporter = api.exporter(tmp_path, [*api.numbers[:10], *missing])
    asked = api.asked()
    exporter.run().said(4)
    exporter.run("--resume-within", "1h").said(4)
    assert api.asked() - asked == 15 + 1  # with the question that proves the rejects
    ended = exporter.run("--resume-within", "0s")
    ended.said(4, "so this run starts over and its 15 answers are dropped")
    assert api.asked() - asked == 2 * (15 + 1)


def test_what_comes_from_the_future_is_stale(api: Api, tmp_path: Path) -> None:
    """A night under a clock that is ahead does not freeze the store: its orders are asked for again, once."""
    nights = Nights(api, tmp_path)
    numbers = list(api.numbers[:10])
    nights.night(numbers)
    nights.age(-3)
    assert nights.night(numbers, "--max-age", "1d") == numbers
    assert nights.exported() == numbers
    assert nights.night(numbers, "--max-age", "1d") == []


# --- asking first


def test_a_dry_run_says_what_a_run_would_ask_for(nights: Nights) -> None:
    """States, ages, the number of requests and the time at the rate; nothing is sent and nothing is made."""
    numbers = list(nights.api.numbers[:20])
    nights.night(numbers[:15])
    nights.age(8, numbers[2])
    (nights.folder / "numbers.txt").write_text("\n".join(numbers))
    asked, before = nights.api.asked(), _files(nights.folder)
    words = ("--store", "nightly.db", "--max-age", "7d", "--rate", "2/s", "--dry-run")
    ended = nights.exporter.run(*words, "--json", out="next")
    assert ended.code == 0, ended.err
    said = ended.summary
    assert (said["ask"]["pending"], said["ask"]["orders"], said["ask"]["seconds"]) == (6, 20, 3.0)
    assert {held["state"]: held["orders"] for held in said["holdings"]["held"]} == {"fetched": 15}
    assert said["holdings"]["held"][0]["oldest_at"] < time.time() - 8 * DAY_S
    told = nights.exporter.run(*words, out="next").out
    assert "6 of 20" in told
    assert "fetched" in told
    assert (nights.api.asked(), _files(nights.folder)) == (asked, before)


def test_a_dry_run_refuses_what_a_run_refuses(exporter: Exporter) -> None:
    """A finished dataset, a bad input and a missing token end a dry run as they end a run."""
    assert exporter.run("--dry-run").code == 0
    assert exporter.run().code == 0
    before = contents(exporter.cwd / "out")
    exporter.run("--dry-run").said(2, "--overwrite")
    assert exporter.run("--dry-run", "--overwrite").code == 0
    (exporter.cwd / "numbers.txt").write_text("")
    exporter.run("--dry-run", out="next").said(2, "numbers.txt")
    assert contents(exporter.cwd / "out") == before
    assert _files(exporter.cwd) == {"numbers.txt", "out"}


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
