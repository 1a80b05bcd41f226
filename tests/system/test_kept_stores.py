"""A kept store over nights that go wrong: what it had is never lost to a refusal, nor to a newer version."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from exporter.lists import Batch
from exporter.model.freshness import Freshness
from exporter.store.order_store import Store
from exporter.store.plan import make_plan
from tests.support.clients import serving
from tests.support.processes import demo_api, exporter_for
from tests.support.servers import moves
from tests.support.servers.moves import Behaviour, Step
from tests.support.standing import manifest_of

#: What the first version has left: a dataset, a kept store, and a work directory that a kill -9 has left behind.
FIRST = Path(__file__).parents[1] / "data" / "version-1"
NUMBERS = [f"a{index}" for index in range(60)]
WALL = moves.answer(b"<html><title>Denied</title>", 403, {"Content-Type": "text/html"})
NIGHTLY = ("--store", "kept.db", "--overwrite", "--patience", "1s")


class Api:
    """Behaves as it is told to, night after night, and counts."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = moves.good
        self.well = 1_000_000
        self.asked = 0

    def tonight(self, behaviour: Behaviour, after: int = 0) -> None:
        """After so many good answers, behave so."""
        self.behaviour, self.well, self.asked = behaviour, after, 0

    def __call__(self, number: str, nth: int) -> Iterable[Step]:
        self.asked += 1
        return (moves.good if self.asked <= self.well else self.behaviour)(number, nth)


def held(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "kept.db")) as store:
        return int(store.execute("SELECT count(*) FROM payloads").fetchone()[0])


def test_a_wall_on_the_second_night_takes_nothing_from_the_store(tmp_path: Path) -> None:
    """The payloads of the night before are there, no order counts as refused, and the next run has them all."""
    api = Api()
    with serving(api) as server:
        exporter = exporter_for(server.url, tmp_path, NUMBERS)
        assert exporter.run(*NIGHTLY).code == 0
        api.tonight(WALL, after=20)
        exporter.run(*NIGHTLY).said(6, "403", "text/html", "Denied", "The API is not available")
        assert held(tmp_path) == 60
        assert api.asked <= 20 + 32 + 20 + 6
        assert len((tmp_path / "out" / "rejects.jsonl").read_text()) == 0
        api.tonight(moves.good)
        assert exporter.run(*NIGHTLY).code == 0
        assert api.asked <= 40


def test_a_reject_ages_no_payload(tmp_path: Path) -> None:
    """An order that is refused for one night is published the next morning from the store, without a request."""
    api = Api()
    gone: Behaviour = moves.by_number({"a5": moves.status(404), "a6": moves.status(403)})
    with serving(api) as server:
        exporter = exporter_for(server.url, tmp_path, NUMBERS)
        assert exporter.run(*NIGHTLY).code == 0
        api.tonight(gone)
        assert exporter.run(*NIGHTLY).code == 3
        assert manifest_of(tmp_path / "out")["rejects_by_reason"] == {"forbidden": 1, "not_found": 1}
        assert held(tmp_path) == 60
        api.tonight(moves.status(500))
        assert exporter.run(*NIGHTLY, "--max-age", "7d").code == 0
        assert api.asked == 0


def test_stale_orders_are_published_and_listed(tmp_path: Path) -> None:
    """--stale ok: what could not be had is as it last was, with its reason and time; what is gone stays a reject."""
    api = Api()
    ailing: Behaviour = moves.by_number(
        {"a5": moves.status(500), "a6": moves.status(403), "a7": moves.status(404)}
    )
    with serving(api) as server:
        exporter = exporter_for(server.url, tmp_path, NUMBERS)
        assert exporter.run(*NIGHTLY).code == 0
        api.tonight(ailing)
        ended = exporter.run(*NIGHTLY, "--stale", "ok", "--max-attempts", 1)
        assert ended.code == 3, ended.err
    manifest = manifest_of(tmp_path / "out")
    assert manifest["counts"]["exported"] == 59
    assert manifest["rejects_by_reason"] == {"not_found": 1}
    assert manifest["stale_by_reason"] == {"forbidden": 1, "unavailable": 1}
    stale = [json.loads(line) for line in (tmp_path / "out" / "stale.jsonl").read_text().splitlines()]
    assert [order["order_number"] for order in stale] == ["a5", "a6"]
    assert all(order["fetched_at"] for order in stale)
    assert exporter("verify", "out").code == 0


def test_rejects_are_asked_for_again_when_told(tmp_path: Path) -> None:
    """A run stands by what it has proven; --retry-rejects asks for all of it again, whatever the reason."""
    api = Api()
    gone: Behaviour = moves.by_number({f"a{index}": moves.status(404) for index in range(50, 60)})
    with serving(api) as server:
        exporter = exporter_for(server.url, tmp_path, NUMBERS)
        api.tonight(gone)
        exporter.run().said(4, "10 rejects", "line 51, a50: not_found", "--retry-rejects")
        api.tonight(moves.good)
        exporter.run().said(4, "10 rejects")
        assert api.asked == 0
        assert exporter.run("--retry-rejects").code == 0
        assert api.asked == 10


def test_five_percent_of_a_short_list_allow_one_reject(tmp_path: Path) -> None:
    """A share below one allows one reject, and no second."""
    with serving(moves.by_number({"gone": moves.status(404), "too": moves.status(404)})) as server:
        assert exporter_for(server.url, tmp_path, ["a1", "a2", "gone"]).run().code == 3
        exporter_for(server.url, tmp_path, ["a1", "gone", "too"]).run(out="second").said(4, "2 rejects")


def test_a_store_of_the_first_version_is_read(tmp_path: Path) -> None:
    """It is brought to this version on opening: payloads and outcomes are there, and whole."""
    path = tmp_path / "kept.db"
    shutil.copy(FIRST / "kept.db", path)
    with closing(Store(path)) as store:
        numbers = [row[0] for row in store._connection.execute("SELECT number FROM orders ORDER BY id")]
        make_plan(tmp_path / "plan.db", [Batch(lines=range(1, len(numbers) + 1), order_numbers=numbers)])
        store.attach_plan(tmp_path / "plan.db")
        freshness = Freshness(run_started_at=1790000000.0, try_started_at=1790000000.0)
        planned = store.planned(freshness, 0, limit=100, limit_bytes=1_000_000)
        assert [order.state for order in planned] == ["fetched"] * 3 + [
            "forbidden",
            "not_found",
            "unavailable",
        ]
        for order in planned[:3]:
            assert order.frame is not None
            payload = store.payload(order.order_number, order.frame)
            assert json.loads(payload)["number"] == order.order_number
    with closing(Store(path)) as store:
        assert store._connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_an_unfinished_run_of_the_first_version_is_resumed(tmp_path: Path) -> None:
    """Killed with 6 of 13 orders: they are in the dataset that this version publishes, without a request for them."""
    work = tmp_path / "unfinished.partial"
    shutil.copytree(FIRST / "unfinished", work)
    with demo_api(orders=200) as api:
        work.chmod(0o700)
        for path in work.iterdir():
            path.chmod(0o700 if path.is_dir() else 0o600)
        with closing(sqlite3.connect(work / "store.db")) as store:
            store.execute("UPDATE meta SET value = ? WHERE key = 'api_url'", (api.url,))
            store.commit()
        exporter = api.exporter(tmp_path, (FIRST / "numbers.txt").read_text().split())
        ended = exporter.run("--resume-within", "36500d", "--max-rejects", 1, "--json", out="unfinished")
        assert ended.code == 3, ended.err
        assert "Resuming the run that began at 2026-11-30" in ended.err
        assert (ended.summary["exported"], len(api.stats()["by_order"])) == (12, 7)


def test_a_dataset_of_the_first_version_is_read(tmp_path: Path) -> None:
    """By `verify`, `status`, `history`, `report`, `changes` and `load`."""
    shutil.copytree(FIRST / "dataset", tmp_path / "nights" / "old")
    numbers = (FIRST / "numbers.txt").read_text().split()
    with demo_api(orders=200) as api:
        exporter = api.exporter(tmp_path, numbers)
        assert "matches its manifest" in exporter("verify", "nights/old").out
        assert "12 of 13" in exporter("status", "nights/old").out
        assert exporter("report", "nights/old").code == 0
        assert exporter("load", "nights/old", "sqlite:shop.db").code == 0
        assert exporter.run("--max-rejects", 1, "--changes", out="nights/new").code == 3
        ended = exporter("changes", "nights/old", "nights/new", "--out", "changes", "--json")
        assert ended.code == 0, ended.err
        assert {name: ended.summary[name] for name in ("compared", "changed", "gone")} == {
            "compared": 12,
            "changed": 0,
            "gone": 0,
        }
        assert numbers[0] in exporter("history", numbers[0], "nights/old").out


def test_the_address_may_be_given_as_the_vendor_shows_it(tmp_path: Path) -> None:
    """`…/api/i1/` is cut, and said so; a store without a payload may be taken over by another address."""
    with serving(moves.good) as server:
        exporter = exporter_for(f"{server.url}/wrong", tmp_path, NUMBERS[:3])
        assert exporter.run("--store", "kept.db", "--patience", "0s").code in (5, 6)
        ended = exporter.run("--store", "kept.db", EXPORTER_API_URL=f"{server.url}/api/i1/")
        assert ended.code == 0, ended.err
        assert f"Using {server.url} as the API" in ended.err
        exporter.run("--store", "kept.db", out="next").said(2, "belongs to")
