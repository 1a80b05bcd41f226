"""What each contender leaves undone: killed at half time, asked to keep a rate, read by somebody else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contenders import Contender, Task
from tests.benchmarks.measure import Server, kill, note, run, serving, started
from tests.benchmarks.outcome import NOTHING, Outcome

RATE_PER_S = 200
_RATE_ORDERS = 600
_LOOK_S = 0.005


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What one contender left, in words.

    Attributes:
        contender: Who.
        tables: Rows of its two tables.
        money: Type of its column of amounts.
        after_kill: What a reader finds after a kill -9 at half of the requests.
        after_resume: What a reader finds after the same command once more.
        repeated: Requests beyond one for each order, over both runs.
        rate_held: Requests a second that arrived, and most in any one second.
    """

    contender: Contender
    tables: str
    money: str
    after_kill: str
    after_resume: str
    repeated: str
    rate_held: str


def find_undone(outcomes: Mapping[Contender, Outcome | None], python: str, folder: Path) -> list[Undone]:
    """Kill and slow down each contender that writes tables.

    Args:
        outcomes: Each with what it wrote undisturbed.
        python: The peers' interpreter.
        folder: Holds `numbers.txt`; a place to work.
    """
    found = []
    with serving("recorder.py", python) as recorder:
        for contender, whole in outcomes.items():
            if whole is not None:
                note(f"kill, resume, rate: {contender.name}")
                found.append(_undone(contender, whole, recorder, python, folder))
    return found


def _undone(contender: Contender, whole: Outcome, recorder: Server, python: str, folder: Path) -> Undone:
    after_kill, after_resume, repeated = _killed(contender, whole, recorder, python, folder)
    return Undone(
        contender=contender,
        tables=f"{whole.distinct:,}, {whole.items:,}",
        money=whole.money,
        after_kill=_as_found(after_kill, whole),
        after_resume=after_resume.against(whole),
        repeated=f"{repeated / whole.distinct:.0%}",
        rate_held=_rate_held(contender, recorder, python, folder),
    )


def _as_found(found: Outcome, whole: Outcome) -> str:
    if found == NOTHING:
        return "nothing that reads as finished"
    if found.broken and not found.orders:
        return "cannot be read"
    short = f"{found.distinct / whole.distinct:.0%} of the orders, nothing says so"
    return short if found.distinct < whole.distinct else found.against(whole)


def _killed(
    contender: Contender, whole: Outcome, recorder: Server, python: str, folder: Path
) -> tuple[Outcome, Outcome, int]:
    """Kill it at half of the requests, run it again; return both outcomes and the requests repeated."""
    assert contender.read is not None
    out = folder / f"{contender.key}-killed"
    out.mkdir()
    task = Task(url=recorder.url, numbers=folder / "numbers.txt", out=out, resumable=True)
    command = contender.command(task, python)
    before = recorder.count()
    with (out / "log").open("w") as log, started(command, out, log.fileno()) as process:
        while recorder.count() < before + whole.distinct // 2 and process.poll() is None:
            time.sleep(_LOOK_S)
        kill(process)
    after_kill = contender.read(out)
    run(command, out)
    after_resume = contender.read(out)
    shutil.rmtree(out)
    return after_kill, after_resume, recorder.count() - before - whole.distinct


def _rate_held(contender: Contender, recorder: Server, python: str, folder: Path) -> str:
    """Ask for a rate, and tell what arrived."""
    if not contender.has_rate:
        return "no setting"
    out = folder / f"{contender.key}-rate"
    out.mkdir()
    numbers = folder / "some.txt"
    numbers.write_text("".join((folder / "numbers.txt").read_text().splitlines(keepends=True)[:_RATE_ORDERS]))
    before = recorder.count()
    run(contender.command(_slow(recorder, numbers, out), python), out)
    times = recorder.arrivals()[before:]
    shutil.rmtree(out)
    return f"{(len(times) - 1) / (times[-1] - times[0]):.0f}/s, {most_in_a_second(times)} in the worst second"


def _slow(recorder: Server, numbers: Path, out: Path) -> Task:
    return Task(url=recorder.url, numbers=numbers, out=out, rate_per_s=RATE_PER_S)


def most_in_a_second(times: list[float]) -> int:
    """Return the most arrivals in any second, wherever it begins."""
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most
