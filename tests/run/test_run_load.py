"""`run --load`: what was published is in the database too, or the command that loads it is told."""

from __future__ import annotations

import json
import sqlite3

from tests.support.processes import Exporter


def test_a_run_loads_what_it_has_published(exporter: Exporter) -> None:
    """The table has the dataset's orders, and the load is noted with its run id."""
    ended = exporter.run("--load", "sqlite:shop.db", "--json", "--timezone", "Europe/Istanbul")
    assert ended.code == 0, ended.err
    assert "Loaded 60 orders" in ended.err
    database = sqlite3.connect(exporter.cwd / "shop.db")
    assert database.execute("SELECT count(*) FROM orders").fetchone() == (60,)
    assert database.execute("SELECT run_id FROM exporter_loads").fetchone() == (ended.summary["run_id"],)
    times = database.execute("SELECT date_placed FROM orders").fetchall()
    assert all(time.endswith("Z") for (time,) in times)  # in UTC, whatever the dataset's own zone
    database.close()
    again = exporter("load", "out", "sqlite:shop.db", "--json")
    assert (again.code, json.loads(again.out)["before"] is None) == (0, False)


def test_a_load_that_fails_leaves_the_dataset_and_tells_the_command(exporter: Exporter) -> None:
    """Exit code 7, the dataset is published, nothing is left to resume, and the command that is told loads it."""
    (exporter.cwd / "shop.db").write_text("no database at all, but a text of some length" * 100)
    ended = exporter.run("--load", "sqlite:shop.db")
    ended.said(7, "published at out", "not loaded")
    assert ended.err.rstrip().endswith("exporter load out sqlite:shop.db")
    assert exporter("verify", "out").code == 0
    assert not (exporter.cwd / "out.partial").exists()
    (exporter.cwd / "shop.db").unlink()
    assert exporter("load", "out", "sqlite:shop.db").out.startswith("Loaded 60 orders")


def test_a_target_that_cannot_be_is_refused_before_the_first_request(exporter: Exporter) -> None:
    """A password in the target is a usage error that does not show it, and nothing is created."""
    ended = exporter.run("--load", "postgresql://me:s3cret@localhost/shop")
    ended.said(2, "has a password in it")
    assert "s3cret" not in ended.err + ended.out
    assert not (exporter.cwd / "out").exists()
