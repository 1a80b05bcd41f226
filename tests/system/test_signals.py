"""A signal ends the program in time, whatever the event loop is busy with."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.processes import ROOT, clean_environment

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
