"""Text that a hostile API or list sends reaches terminal, log, mail and report with nothing that they would obey."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import serving
from tests.support.processes import Ended, exporter_for
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer
from tests.support.wild_json import SAMPLE

#: A terminal's title, a forged line with mail's escape, text that runs backwards, the 8-bit CSI.
POISON = "\x1b]0;owned\x07\n12:00:00 ERROR forged\n~!touch owned\r\u202e\u2028\x9b2J\x85"
_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ |Error: |$| {2}")


def _poisoned() -> dict[str, Any]:
    order: dict[str, Any] = json.loads(SAMPLE) | {
        "number": "A1",
        "status": POISON,
        "currency": POISON,
        "amount": "12.00",
        "discount_amount": POISON,
        POISON: POISON,
        "extra_field": {POISON: POISON},
    }
    order["shipping_address"]["city"]["name"] = POISON
    order["orderitem_set"][0] |= {"product": {"sku": POISON, POISON: 1}, "status": POISON, POISON: {}}
    return order


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    answers = {
        "A1": moves.answer(json.dumps(_poisoned()).encode()),
        "A2": moves.answer(json.dumps({"number": POISON}).encode()),
        "A3": moves.answer(b"{}", 418, {"X-Customer": "\x1b[2J\x9b"}),
    }
    with serving(answers) as running:
        yield running


def _assert_harmless(text: str, what: str) -> None:
    bad = {char for char in text if not char.isprintable() and char != "\n"}
    assert not bad, f"{what}: {sorted(map(ascii, bad))}"
    assert not re.search("^(~|(2026-11-30 )?12:00:00 ERROR forged)", text, re.MULTILINE), what


@pytest.mark.parametrize("words", [(), ("--json", "--log-format", "json")], ids=["text", "json"])
def test_a_hostile_api(server: FaultyServer, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Keys, statuses, currencies, cities with escape codes and newlines: log, summary, report and status show them escaped."""
    exporter = exporter_for(server.url, tmp_path, ["A1", "A2", "A3"])
    ended = exporter.run("--report", "--max-rejects", "100%", *words)
    assert ended.code == 3, ended.err
    assert "owned" in ended.err
    _assert_harmless(ended.out, "stdout")
    _assert_harmless(ended.err, "stderr")
    if words:
        assert all(json.loads(line)["time"] for line in ended.err.splitlines())
    else:
        assert all(_LINE.match(line) for line in ended.err.splitlines()), ended.err
    _assert_harmless((tmp_path / "out" / "report.html").read_text(), "report")
    _assert_harmless((tmp_path / "out" / "rejects.jsonl").read_text(), "rejects")
    for command in (["status"], ["verify"], ["history", "A1"]):
        shown = exporter(*command, "out", *words[:1])
        assert shown.out
        _assert_harmless(shown.out + shown.err, command[0])


def _said_safely(ended: Ended) -> None:
    assert ended.code == 2
    _assert_harmless(ended.out, "stdout")
    _assert_harmless(ended.err, "stderr")
    assert "owned" in ended.err


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_hostile_list(server: FaultyServer, tmp_path: Path, form: str) -> None:
    """A list's header, and its name, are quoted in errors without what a terminal obeys."""
    exporter = exporter_for(server.url, tmp_path, [])
    (tmp_path / "list.csv").write_text('"a\x1b]0;owned\x07","b\x9b"\n1,2\n')
    _said_safely(exporter("run", "list.csv", "--out", "out", "--log-format", form, "--json"))
    _said_safely(exporter("run", "\x1b]0;owned\x07.txt", "--out", "out", "--log-format", form))


def test_lines_of_a_hostile_list(server: FaultyServer, tmp_path: Path) -> None:
    """An order number with an escape code is invalid, and what is said of it is harmless."""
    exporter = exporter_for(server.url, tmp_path, ["A1", "x\x1b]0;owned\x07", "y\x9b"])
    ended = exporter.run("--max-rejects", "100%")
    assert ended.code == 3, ended.err
    _assert_harmless(ended.out + ended.err, "log")
    _assert_harmless((tmp_path / "out" / "rejects.jsonl").read_text(), "rejects")


def test_hostile_names_in_a_dataset(server: FaultyServer, tmp_path: Path) -> None:
    """A file that somebody put into a dataset is named harmlessly by verify, and by a run that refuses to replace it."""
    exporter = exporter_for(server.url, tmp_path, ["A1"])
    assert exporter.run().code == 0
    (tmp_path / "out" / "\x1b]0;owned\x07").touch()
    shown = exporter("verify", "out")
    assert shown.code == 1
    _assert_harmless(shown.out + shown.err, "verify")
    refused = exporter.run("--overwrite")
    _said_safely(refused)


# --- one poisonous order


def _crowd(number: str, items: int) -> bytes:
    head = json.dumps({"number": number}).encode()[:-1]
    return head + b', "orderitem_set": [' + b",".join([b"{}"] * items) + b"]}"


def test_orders_of_millions_of_items(tmp_path: Path) -> None:
    """Each of three million items is `bad_response`; the others are exported, also hundreds with as many as may be."""
    full = [f"F{number}" for number in range(120)]
    answers = {number: moves.answer(_crowd(number, 10_000)) for number in full}
    answers |= {"A1": moves.answer(_crowd("A1", 3_000_000)), "A2": moves.answer(_crowd("A2", 10_001))}
    answers["A3"] = moves.answer(b'{"number": "A3", "x": [' + b"1," * 600_000 + b"1]}")
    with serving(answers) as server:
        exporter = exporter_for(server.url, tmp_path, [*full, *(f"A{number}" for number in (1, 2, 3))])
        with exporter.run_started("--max-rejects", "100%", "--json") as running:
            most: dict[str, int] = {}
            while running.alive:
                for pid, command in running.family().items():
                    most[command] = max(most.get(command, 0), _resident(pid))
                time.sleep(0.05)
            ended = running.end()
    assert ended.code == 3, ended.err
    assert ended.summary["rejects_by_reason"] == {"bad_response": 3}
    assert ended.summary["order_items"] == 1_200_000
    assert max(most.values()) < 500 * 1024, most


def test_a_bound_that_is_set(tmp_path: Path) -> None:
    """--max-items moves the bound."""
    with serving({"A1": moves.answer(_crowd("A1", 10_001))}) as server:
        exporter = exporter_for(server.url, tmp_path, ["A1"])
        assert exporter.run("--max-items", 10_001, "--json").summary["order_items"] == 10_001


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) if found else 0
