"""One run at a time on a work directory and on a store."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from exporter.fetch.work_directory import _is_held, holder
from tests.support.processes import Api, Ended, Exporter, wait_until

SLOW = ("--rate", "5/s")


def _names_the_holder(second: Ended, pid: int, what: str) -> None:
    second.said(8, what)
    assert re.search(rf"process {pid}, started \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.", second.err), second.err


def test_a_second_run_into_the_same_place_ends_at_once_and_names_the_first(exporter: Exporter) -> None:
    """The second run exits 8 within seconds, names process and start, and the first goes on unharmed."""
    with exporter.run_started(*SLOW) as first:
        wait_until((exporter.cwd / "out.partial" / "store.db").exists)
        second = exporter.run()
        assert first.alive
    _names_the_holder(second, first.pid, "out.partial")
    assert exporter.run().code == 0


def test_two_runs_cannot_share_a_store(exporter: Exporter) -> None:
    """A run into another place with the same --store exits 8, and leaves nothing at its own place."""
    with exporter.run_started(*SLOW, "--store", "nightly.db", out="one") as first:
        wait_until((exporter.cwd / "nightly.db").exists)
        second = exporter.run("--store", "nightly.db", out="two")
        assert first.alive
    _names_the_holder(second, first.pid, "nightly.db")
    assert not (exporter.cwd / "two").exists()
    assert exporter.run("--store", "nightly.db", out="two").code == 0


def test_the_lock_of_a_dead_process_is_no_lock(exporter: Exporter) -> None:
    """After kill -9 the same command takes the work directory at once."""
    with exporter.run_started(*SLOW, "--store", "nightly.db") as first:
        wait_until((exporter.cwd / "out.partial" / "plan.db").exists)
        first.signal(signal.SIGKILL)
        first.end()
    assert exporter.run("--store", "nightly.db").code == 0


def test_of_runs_started_together_exactly_one_works(api: Api, tmp_path: Path) -> None:
    """Three runs started in the same moment: one exports, the others exit 8 naming it, no order is paid twice."""
    exporter = api.exporter(tmp_path, api.numbers[60:100])
    before = api.asked()
    with (
        exporter.run_started("--rate", "20/s") as one,
        exporter.run_started("--rate", "20/s") as two,
        exporter.run_started("--rate", "20/s") as three,
    ):
        runs = {running.pid: running.end() for running in (one, two, three)}
    codes = sorted(ended.code for ended in runs.values())
    assert codes == [0, 8, 8], {pid: ended.err for pid, ended in runs.items()}
    winner = next(pid for pid, ended in runs.items() if ended.code == 0)
    for ended in runs.values():
        if ended.code == 8:
            _names_the_holder(ended, winner, "out.partial")
    assert api.asked() - before == 40


def test_who_holds_a_lock_is_found_without_a_signal(exporter: Exporter) -> None:
    """As on Windows, where signal 0 would end the process: the lock itself tells, whatever its file says."""
    lock = exporter.cwd / "out.partial" / "lock"
    with exporter.run_started(*SLOW) as first:
        wait_until(lock.with_name("lock.json").exists)
        assert _is_held(lock)
        first.signal(signal.SIGKILL)
        first.end()
    assert holder(lock) is not None
    assert not _is_held(lock)
