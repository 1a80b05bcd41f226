"""SIGTERM and Ctrl-C end a run within ten seconds, keep what was answered, and show no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Api, Ended, Exporter, Running, demo_api, exporter_for, wait_until
from tests.support.servers.process import faulty_process, stats

SIGNALS = {"SIGTERM": (signal.SIGTERM, 143), "SIGINT": (signal.SIGINT, 130)}


def _ended_well(ended: Ended, code: int) -> None:
    assert (ended.code, "Traceback" in ended.err) == (code, False), f"exit {ended.code}:\n{ended.err}"
    assert "topped" in ended.err


def _arrivals(url: str) -> int:
    return len(stats(url)["arrivals"])


@pytest.mark.parametrize("to", [Running.signal, Running.signal_group], ids=["process", "group"])
@pytest.mark.parametrize("name", SIGNALS)
def test_what_is_in_flight_is_kept_and_nothing_more_is_asked(
    name: str, to: Callable[[Running, int], None], tmp_path: Path
) -> None:
    """After a signal, to the process or to its whole group, no request starts, and no answer is lost."""
    number, code = SIGNALS[name]
    with demo_api("--latency", 1, orders=24) as api:
        exporter = api.exporter(tmp_path)
        with exporter.run_started("--concurrency", 16) as running:
            wait_until(lambda: api.asked() == 16)
            to(running, number)
            ended = running.end()
        _ended_well(ended, code)
        assert ended.took_s < 10
        assert api.asked() == 16
        assert exporter.run().code == 0
        assert set(api.stats()["by_order"].values()) == {1}


def test_a_signal_to_the_group_while_the_processes_start(api: Api, tmp_path: Path) -> None:
    """The publishing process cannot be ended by a signal that comes before it can ignore it."""
    exporter = api.exporter(tmp_path, api.numbers[:30])
    with exporter.run_started("--rate", "5/s") as running:
        wait_until(lambda: running.publishers() != [])
        running.signal_group(signal.SIGINT)
        _ended_well(running.end(), 130)


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """The first signal says what a second does: it does not wait for the answers in flight. The run resumes."""
    with faulty_process("tests.support.plans:first_late") as url:
        exporter = exporter_for(url, tmp_path, ["a1", "a2", "a3"])
        with exporter.run_started() as running:
            wait_until(lambda: _arrivals(url) == 3)
            running.signal(signal.SIGTERM)
            assert running.process.stderr is not None
            while "topping" not in (said := running.process.stderr.readline()):
                assert running.alive
            assert "Ctrl-C again: at once" in said
            running.signal(signal.SIGTERM)
            ended = running.end(3.0)
        assert (ended.code, "Traceback" in ended.err) == (143, False)
        assert exporter.run().code == 0


@pytest.mark.parametrize(("plan", "arrived"), [("paused_for_minutes", 1), ("always_500", 10)])
def test_a_signal_ends_waiting_too(plan: str, arrived: int, tmp_path: Path) -> None:
    """Neither a pause that a 429 asked for nor a backoff is waited for."""
    with faulty_process(f"tests.support.plans:{plan}") as url:
        exporter = exporter_for(url, tmp_path, [f"a{index}" for index in range(10)])
        with exporter.run_started("--max-attempts", 20) as running:
            wait_until(lambda: _arrivals(url) >= arrived)
            before = _arrivals(url)
            running.signal(signal.SIGTERM)
            ended = running.end(6.0)
        _ended_well(ended, 143)
        # Requests that had started when the signal came may still arrive.
        assert _arrivals(url) - before <= 10


def test_a_signal_ends_publishing_and_nothing_is_asked_again(api: Api, tmp_path: Path) -> None:
    """A signal while the publishing process works, here for ever, ends the run; the next one asks for nothing."""
    exporter = api.exporter(tmp_path, api.numbers[100:140])
    asked = api.asked()
    with exporter.run_started("--rate", "60/s") as running:
        wait_until(lambda: running.publishers() != [])
        (publisher,) = running.publishers()
        os.kill(publisher, signal.SIGSTOP)
        wait_until(lambda: api.asked() - asked == 40)
        wait_until(lambda: _committed(tmp_path / "out.partial" / "store.db") == 40)
        running.signal(signal.SIGTERM)
        ended = running.end(10.0)
    _ended_well(ended, 143)
    assert not (tmp_path / "out").exists()
    assert exporter.run().code == 0
    assert api.asked() - asked == 40


def _committed(store: Path) -> int:
    import sqlite3

    connection = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_the_reading_of_an_input_that_never_ends(name: str, exporter: Exporter) -> None:
    """A run that waits for its standard input ends at a signal, and leaves nothing behind to be sorry for."""
    number, code = SIGNALS[name]
    command = [sys.executable, "-m", "exporter", "run", "-", "--out", "out", "--rate", "5/s"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=exporter.cwd,
        env=dict(exporter.env),
    ) as process:
        running = Running(process)
        wait_until((exporter.cwd / "out.partial" / "plan.db").exists)
        process.send_signal(number)
        try:
            process.wait(8.0)
        finally:
            process.kill()
        ended = running.end()
    _ended_well(ended, code)
