"""What a listing has brought, and what of it is used."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exporter.demo.orders import order_numbers, order_payload
from exporter.model.entry_proof import FIRST, EntryProof
from exporter.model.records import Traffic
from exporter.store.listed_numbers import ListedNumbers, LookedAt, Met

pytestmark = pytest.mark.fast
NUMBERS = list(order_numbers(3))


def listed(path: Path, compared: int = FIRST) -> ListedNumbers:
    met = ListedNumbers(path, "shop", 60.0, 0.0)
    body = json.dumps({"results": [order_payload(number) for number in NUMBERS]}).encode()
    entries = [Met(number, number, number, at) for at, number in enumerate(NUMBERS)]
    proof = EntryProof(seed="a", compared=compared)
    if not met.walk.complete:
        met.take(1, LookedAt(entries, proof, {}, body), Traffic())
        met.finish(Traffic())
    return met


@pytest.mark.parametrize(("compared", "taken"), [(FIRST, 3), (FIRST - 1, 0)])
def test_entries_are_brought_once_they_are_proven(tmp_path: Path, compared: int, taken: int) -> None:
    """Not before as many were compared as must be."""
    with closing(listed(tmp_path / "listed.db", compared)) as met:
        found = list(met.found(1.0, 100))
    assert [one.order_number for one in found] == NUMBERS[:taken]
    assert all((one.source, one.list_digest) == ("list", one.order_number) for one in found)


def test_a_damaged_page_brings_no_order(tmp_path: Path) -> None:
    """What a power cut has left of it is no payload; its orders are left to their details."""
    listed(tmp_path / "listed.db").close()
    with closing(sqlite3.connect(tmp_path / "listed.db")) as file, file:
        (body,) = file.execute("SELECT body FROM pages").fetchone()
        file.execute("UPDATE pages SET body = ?", (body[:-9] + bytes(9),))
    with closing(listed(tmp_path / "listed.db")) as met:
        assert list(met.found(1.0, 100)) == []
        assert list(met.numbers()) == NUMBERS
