"""A signal ends the program in time, whatever the event loop is busy with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, clean_environment, wait_until

BUSY = """
import sys, time
from exporter.cli import signals
signals._LONGEST_S = float(sys.argv[1])

async def busy(stop):
    print("busy", flush=True)
    time.sleep(60)  # as a disk that does not answer: the loop does not turn

signals.run_stoppable(busy)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("longest_s", "signals"), [(0.5, 1), (60.0, 2)], ids=["once", "twice"])
def test_a_stuck_loop_is_ended(longest_s: float, signals: int, number: signal.Signals) -> None:
    """One signal ends a loop that does not turn when the time is up, a second one at once, without damage."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(longest_s)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
            for _ in range(signals - 1):
                process.send_signal(number)
                # Two of a kind at once would be one: the first must have been taken.
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.2)
            process.send_signal(number)
            _, err = process.communicate(timeout=5)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert ("Stopped by a signal" in err) == (signals == 1)


#: As on Windows, whose third signal is here one that Linux has: a child is started with it, and run as it always is.
AS_ON_WINDOWS = """
import runpy, signal, sys
signal.SIGBREAK = signal.SIGUSR1
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
CHILDREN = {
    "exporter.dataset.publishing.publisher_main": (),
    "exporter.dataset.publishing.flattening_main": (),
    "exporter.lists.workbook_list": ('{"name": "list", "column": null, "sheet": null}',),
    "exporter.report.report_process": (".",),
    "tests.support.dask_worker": (),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_ignores_all_that_asks_for_the_end(child: str, tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM and Windows' Ctrl-Break reach every process; the parent alone decides when the others end."""
    os.mkfifo(tmp_path / "manifest.json")  # the report waits for it, as the others do for their input
    with subprocess.Popen(
        [sys.executable, "-c", AS_ON_WINDOWS, child, *CHILDREN[child]],
        cwd=tmp_path,
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} <= _ignored(process.pid), 10.0)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        finally:
            process.kill()


def _ignored(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}
