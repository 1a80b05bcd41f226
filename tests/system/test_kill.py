"""Killed with SIGKILL at any moment, the same command finishes, and no order is paid for twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.support.preloaded import Preloaded, start
from tests.support.processes import Api, Ended, Exporter, demo_api, wait_until
from tests.support.standing import contents, manifest_of
from tests.support.thorough import THOROUGH

BOTH = ("--format", "parquet", "--format", "csv")
RATE = 600
CONCURRENCY = 32
#: What one kill may cost: the requests in flight, and the answers of half a second.
COST = CONCURRENCY + RATE // 2


def _stored(work: Path, scratch: Path) -> int:
    """Return how many orders the work directory's store holds; looks at a copy, as a kill has left it."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for file in work.glob("store.db*"):
        shutil.copy(file, scratch)
    if not (scratch / "store.db").exists():
        return 0
    connection = sqlite3.connect(scratch / "store.db")
    try:
        return int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # killed before the tables were made
    finally:
        connection.close()


# --- at random moments


@pytest.mark.timeout(300)
def test_ten_kills_in_a_row_cost_little_and_change_no_byte(tmp_path: Path) -> None:
    """Each of ten kills costs at most the requests in flight and half a second of answers; the files are the same."""
    dice = random.Random(5)
    with demo_api("--latency", 0.02, orders=900) as api:
        exporter = api.exporter(tmp_path)
        pace = (*BOTH, "--rate", f"{RATE}/s", "--concurrency", CONCURRENCY)
        kills = 0
        datasets: list[dict[str, str]] = []
        while kills < 10 or not datasets:
            out = f"out{len(datasets)}"
            if kills < 10 and _killed_once(exporter, api, [*pace, "--out", out], dice):
                kills += 1
                continue
            finished = (tmp_path / out).exists()
            assert exporter.run(*pace, out=out).code == (2 if finished else 0)
            datasets.append(contents(tmp_path / out))
        assert exporter.run(*pace, out="undisturbed").code == 0
    undisturbed = contents(tmp_path / "undisturbed")
    assert len(undisturbed) == 5
    assert all(dataset == undisturbed for dataset in datasets)


def _killed_once(exporter: Exporter, api: Api, words: Sequence[object], dice: random.Random) -> bool:
    """Start a run, kill it at a random moment, and see what that has cost; False if it was done before."""
    out = str(words[-1])
    work = exporter.cwd / f"{out}.partial"
    scratch = exporter.cwd / "scratch"
    stored, asked = _stored(work, scratch), api.asked()
    with exporter.run_started(*words, out=out) as running:
        # Half of the kills wait for the first request of this try, so that they meet the refresh.
        if dice.random() < 0.5 and stored < len(api.numbers):
            wait_until(lambda: api.asked() > asked or not running.alive)
            time.sleep(dice.uniform(0.0, 0.4))
        else:
            time.sleep(dice.uniform(0.2, 1.0))
        if not running.alive:
            return False
        running.kill()
    if not (exporter.cwd / out).exists():
        lost = (api.asked() - asked) - (_stored(work, scratch) - stored)
        assert 0 <= lost <= COST, f"{lost} requests were lost"
    return True


# --- after each single durable step


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A run that is killed after each of its durable steps in turn, beside others of its kind.

    Args:
        api: What it exports from.
        fork: Starts it.
        folder: Where it works.
        numbers: Its orders; no other sweep has them.
        old: A dataset that stands at OUT and is to be overwritten; None for none.
    """

    api: Api
    fork: Preloaded
    folder: Path
    numbers: Sequence[str]
    old: Path | None = None

    def after_steps(self, role: str, steps: Iterator[int]) -> int:
        """Kill a process of a run after each of these steps, until there is no such step; return the last."""
        undisturbed = self._place(f"{role}-undisturbed")
        assert self._run(undisturbed).code == 0
        expected = contents(undisturbed / "out")
        last = 0
        for step in steps:
            place = self._place(f"{role}-{step}")
            killed = self._run(place, f"{role}:{step}")
            if killed.code == 0:
                break
            assert killed.code == (-signal.SIGKILL if role == "run" else 7), killed.err
            self._resume(place, expected)
            last = step
        return last

    def _resume(self, place: Path, expected: dict[str, str]) -> None:
        """Run the same command again, and compare: what readers saw, what was asked for, what came out."""
        old = None if self.old is None else contents(self.old)
        seen = contents(place / "out") if (place / "out").exists() else None
        assert seen in (old, expected)
        published = seen == expected
        stored = len(self.numbers) if published else _stored(place / "out.partial", place / "scratch")
        over = published and not (place / "out.partial").exists()
        asked = self._asked()
        again = self._run(place)
        assert "Traceback" not in again.err
        # Killed after its very last step there was nothing left to do, and a second run is refused.
        assert again.code == (2 if over and self.old is None else 0), again.err
        assert contents(place / "out") == expected
        assert not (place / "out.partial").exists()
        if not over:
            assert self._asked() - asked == len(self.numbers) - stored

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir(parents=True)
        if self.old is not None:
            shutil.copytree(self.old, place / "out")
        return place

    def _run(self, place: Path, kill_at: str = "") -> Ended:
        exporter = self.api.exporter(place, self.numbers)
        words = exporter.run_words(*BOTH, "--overwrite") if self.old else exporter.run_words(*BOTH)
        return self.fork.run(*words, env={**exporter.env, "EXPORTER_TEST_KILL_AT": kill_at}, cwd=place)

    def _asked(self) -> int:
        by_order = self.api.stats()["by_order"]
        return sum(by_order.get(number, 0) for number in self.numbers)


@pytest.fixture(scope="module")
def old_dataset(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset of other orders."""
    folder = tmp_path_factory.mktemp("old")
    assert api.exporter(folder, api.numbers[380:400]).run(*BOTH).code == 0
    return folder / "out"


@pytest.mark.timeout(400)  # 20 s on two idle cores, a minute on busy ones
@pytest.mark.parametrize(
    ("role", "first", "first_order", "overwrites", "fewest"),
    [("run", 1, 300, True, 20), ("run", 2, 320, True, 20), ("publisher", 1, 340, False, 4)],
    ids=["run, odd steps", "run, even steps", "publisher"],
)
def test_killed_after_each_durable_step(
    api: Api,
    old_dataset: Path,
    tmp_path: Path,
    role: str,
    first: int,
    first_order: int,
    overwrites: bool,
    fewest: int,
) -> None:
    """After every (in the README's command every third) fsync, rename, exchange, commit and removal of both processes, the same command finishes.

    Readers of OUT find the old dataset or the new one, nothing in the store is asked for again, and the
    files are byte-identical to an undisturbed run's.
    """
    numbers = api.numbers[first_order : first_order + 12]
    old = old_dataset if overwrites else None
    sweep = Sweep(api=api, fork=start(), folder=tmp_path, numbers=numbers, old=old)
    stride = (2 if overwrites else 1) * (1 if THOROUGH else 3)
    assert sweep.after_steps(role, count(first, stride)) >= fewest


# --- the publishing process alone, and readers


def test_the_publishing_process_killed_alone_loses_nothing(api: Api, tmp_path: Path) -> None:
    """When only the publishing process is killed, the run ends with exit 7 and a sentence, and can be gone on with."""
    exporter = api.exporter(tmp_path, api.numbers[200:240])
    asked = api.asked()
    with exporter.run_started("--rate", "40/s") as running:
        wait_until(lambda: api.asked() > asked + 5 and running.publishers() != [])
        (publisher,) = running.publishers()
        os.kill(publisher, signal.SIGKILL)
        running.end().said(7, "publishing process ended early")
    assert exporter.run().code == 0
    assert api.asked() - asked <= 40 + CONCURRENCY


class Reader(threading.Thread):
    """Reads a dataset over and over, as anybody might who knows only its path."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out = out
        self.over = threading.Event()
        self.seen: set[str] = set()
        self.complaints: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._read()
            except Exception as error:
                self.complaints.append(repr(error))

    def _read(self) -> None:
        before = manifest_of(self.out)["run_id"]
        try:
            contents(self.out)
        except (AssertionError, OSError):
            # The dataset was replaced between two of our own steps if its manifest is another now.
            if manifest_of(self.out)["run_id"] == before:
                raise
            return
        self.seen.add(before)


def test_readers_see_the_old_dataset_or_the_new_one(api: Api, old_dataset: Path, tmp_path: Path) -> None:
    """While OUT is overwritten again and again there is always a whole dataset at its path."""
    exporter = api.exporter(tmp_path, api.numbers[250:262])
    shutil.copytree(old_dataset, tmp_path / "out")
    reader = Reader(tmp_path / "out")
    reader.start()
    runs = {manifest_of(tmp_path / "out")["run_id"]}
    try:
        for _ in range(2):
            assert exporter.run(*BOTH, "--overwrite").code == 0
            runs.add(manifest_of(tmp_path / "out")["run_id"])
            wait_until(lambda: manifest_of(tmp_path / "out")["run_id"] in reader.seen)
    finally:
        reader.over.set()
        reader.join()
    assert reader.complaints == []
    assert reader.seen == runs
