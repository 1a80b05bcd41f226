"""Two nights of the demo shop, exported, compared and loaded: changes, manifest, report and database agree."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from exporter.demo.orders import numbers_on, order_on
from tests.support.processes import TOKEN, Exporter, clean_environment, demo_api

FIRST = date(2026, 11, 23)
ORDERS = 120


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    folder = tmp_path_factory.mktemp("nights")
    with demo_api("--evolve", orders=ORDERS) as api:
        for at in range(2):
            day = FIRST + timedelta(days=at)
            url = f"{api.url}/{day}"
            env = clean_environment({"EXPORTER_API_URL": url, "EXPORTER_API_TOKEN": TOKEN})
            exporter = Exporter(cwd=folder, env=env)
            listed = exporter("numbers", "--out", f"{day}.txt", "--page-size", 100, "--rate", "unlimited")
            assert listed.code == 0, listed.err
            with (folder / "numbers.txt").open("a") as file:
                file.write((folder / f"{day}.txt").read_text())
            ended = exporter(
                *("run", "numbers.txt", "--out", "nightly/{date}-{time}", "--rate", "unlimited", "--changes"),
                *("--load", "sqlite:shop.db", "--report", "--json", "--max-rejects", "50%"),
                TZ=f"UTC-{at}",
            )
            assert ended.code in (0, 3), ended.err
            (folder / f"night{at}.json").write_text(ended.out)
    return exporter


def night(nights: Exporter, at: int) -> tuple[Path, dict[str, Any]]:
    summary = json.loads((nights.cwd / f"night{at}.json").read_text())
    return nights.cwd / summary["out"], summary


def test_the_changes_are_those_of_the_shop(nights: Exporter) -> None:
    """What the comparison tells is what the shop's own orders say of the two days."""
    second = FIRST + timedelta(days=1)
    before, after = ({n: order_on(n, day) for n in numbers_on(day, ORDERS)} for day in (FIRST, second))
    changes = night(nights, 1)[1]["changes"]
    assert changes["new"] == len(after.keys() - before.keys()) > 0
    assert changes["gone"] == len(before.keys() - after.keys()) > 0
    both = before.keys() & after.keys()
    assert changes["changed"] == sum(before[number] != after[number] for number in both) > 0
    moves = Counter(
        (before[n]["status"], after[n]["status"]) for n in both if before[n]["status"] != after[n]["status"]
    )
    assert {
        (old, new): count for old, tos in changes["statuses"].items() for new, count in tos.items()
    } == moves
    refunds = sum(Decimal(after[n]["refund_amount"]) - Decimal(before[n]["refund_amount"]) for n in both)
    assert Decimal(changes["deltas"]["try"]["refund_amount"]) == refunds != 0


def test_changes_report_and_database_agree(nights: Exporter) -> None:
    """The table's rows, the manifest's counts, the page's figures and the loaded tables say the same."""
    place, summary = night(nights, 1)
    changes = summary["changes"]
    rows = pq.read_table(place / "changes.parquet").to_pylist()
    by_order = Counter(row["change"] for row in rows if row["column"] is None and row["item_id"] is None)
    assert (by_order["new"], by_order["gone"], by_order["returned"]) == (
        changes["new"],
        changes["gone"],
        changes["returned"],
    )
    page = (place / "report.html").read_text()
    assert "What changed" in page
    for old, tos in changes["statuses"].items():
        assert all(new in page for new in tos), old
    database = sqlite3.connect(nights.cwd / "shop.db")
    stored = {
        number: (status, Decimal(refund))
        for number, status, refund in database.execute("SELECT number, status, refund_amount FROM orders")
    }
    gone = {row["order_number"] for row in rows if row["change"] == "gone"}
    assert stored.keys() - gone == {
        row["number"] for row in pq.read_table(place / "orders.parquet").to_pylist()
    }
    for row in rows:
        if row["change"] == "changed" and row["item_id"] is None and row["column"] == "status":
            assert stored[row["order_number"]][0] == row["new"]
        if row["column"] == "refund_amount":
            assert stored[row["order_number"]][1] == row["new_amount"]
    assert database.execute("SELECT count(*) FROM exporter_loads").fetchone() == (2,)
    database.close()


def test_one_order_s_life_is_told(nights: Exporter) -> None:
    """`history` has both nights, oldest first, with the change in between; a gone order is told as one."""
    rows = pq.read_table(night(nights, 1)[0] / "changes.parquet").to_pylist()
    moved = next(row for row in rows if row["column"] == "status" and row["item_id"] is None)
    told = nights("history", moved["order_number"], "nightly/*")
    assert (told.code, f"status  {moved['old']} → {moved['new']}" in told.out) == (0, True), (
        told.out + told.err
    )
    gone = next(row for row in rows if row["change"] == "gone")
    life = json.loads(nights("history", gone["order_number"], "nightly/*", "--json").out)["history"]
    assert [moment["state"] for moment in life][1] == "not_found"
    assert [row["change"] for row in life[1]["changes"]] == ["gone"]
    nights("history", gone["order_number"], "nowhere/*").said(2, "got none that fits nowhere/*")
