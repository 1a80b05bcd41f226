"""The plan: each order number once, in input order, with the id of those that the store knows."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exporter.lists import Batch
from exporter.model.freshness import Freshness
from exporter.model.records import FETCHED, Outcome, Traffic
from exporter.store.order_store import Store
from exporter.store.plan import make_plan

_NOW = 1_790_000_000.0


@pytest.mark.fast
def test_numbers_that_the_store_knows_have_their_id(tmp_path: Path) -> None:
    """Known or not, duplicates go, the first stays, and each number is in the state that a plan without ids gives it."""
    path, plan = tmp_path / "store.db", tmp_path / "plan.db"
    numbers = ["9", "3", "new", "5", "3", "new", "7", "9"]
    with closing(Store(path, "https://shop.example")) as store:
        run = store.begin_run("out", _NOW, 0.0)
        known = [Outcome(n, FETCHED, _NOW, 1, 200, payload=b"{}") for n in ("3", "5")]
        refused = Outcome("9", "not_found", _NOW, 1, 404, detail="the API answered 404")
        store.settle(run.run_id, [*known, refused], Traffic())
        freshness = Freshness(_NOW, _NOW)
        states = []
        for of_store in (None, path):
            found = make_plan(plan, [Batch(lines=range(1, 9), order_numbers=numbers)], of_store)
            assert (found.requested, found.duplicates) == (5, 3)
            with closing(sqlite3.connect(plan)) as connection:
                rows = connection.execute(
                    "SELECT line, number, id IS NOT NULL FROM plan ORDER BY line"
                ).fetchall()
            has_id = of_store is not None
            assert rows == [(1, "9", has_id), (2, "3", has_id), (3, "new", 0), (4, "5", has_id), (7, "7", 0)]
            with closing(Store(path, readonly=True)) as reader:
                reader.attach_plan(plan)
                states.append(reader.states(freshness))
                assert [o.order_number for o in reader.planned(freshness, 2, limit=9, limit_bytes=99)] == [
                    "new"
                ]
        assert states == [{FETCHED: 2, "not_found": 1, None: 2}] * 2


@pytest.mark.fast
def test_what_is_settled_after_the_plan_was_made_is_found(tmp_path: Path) -> None:
    """It has no id in the plan."""
    path, plan = tmp_path / "store.db", tmp_path / "plan.db"
    with closing(Store(path, "https://shop.example")) as store:
        make_plan(plan, [Batch(lines=range(1, 3), order_numbers=["a", "b"])], path)
        store.attach_plan(plan)
        run = store.begin_run("out", _NOW, 0.0)
        store.settle(run.run_id, [Outcome("b", FETCHED, _NOW, 1, 200, payload=b"{}")], Traffic())
        assert store.states(Freshness(_NOW, _NOW)) == {FETCHED: 1, None: 1}
        assert store.pending(Freshness(_NOW, _NOW), 0, 9) == [(1, "a", None)]
