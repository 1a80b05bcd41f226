"""Disks that are full, closed, gone or rotten: one sentence, nothing lost, never wrong data."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from exporter.demo.orders import order_numbers, order_payload
from exporter.lists import read
from exporter.model.errors import StorageError, UsageError
from exporter.model.records import FETCHED, Outcome, RunRecord, Traffic
from exporter.store.order_store import Freshness, PlannedOrder, Store
from exporter.store.plan import make_plan
from tests.support.processes import Api, Exporter, wait_until
from tests.support.standing import contents, damage_index, manifest_of

BOTH = ("--format", "parquet", "--format", "csv")
KIB = 1024
PAGE = 4 * KIB  # of a tmpfs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"this user cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


# --- full


def _fill(disk: Path, leave: int) -> Path:
    """Fill a disk up to `leave` bytes; return the file that does."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave)))
    return filler


def _fails_then_finishes(exporter: Exporter, out: Path, leave: int, *words: str) -> str:
    """Run with `leave` bytes of room, then with enough; return what the first run said."""
    filler = _fill(out.parent, leave)
    first = exporter.run(*BOTH, *words, out=out)
    if first.code == 0:
        shutil.rmtree(out)
        filler.unlink()
        return ""
    first.said(7, "full", str(out.parent))
    assert not out.exists()
    filler.unlink()
    again = exporter.run(*BOTH, *words, out=out)
    assert again.code == 0, again.err
    return first.err


def test_a_full_disk_loses_nothing(api: Api, small_disk: Path, tmp_path: Path) -> None:
    """Wherever the room ends, in lock or store: exit 7, what and where, and then it goes on; of tables the next test tells.

    How much of it the store's log takes depends on how fast the answers come.
    """
    exporter = api.exporter(tmp_path / "here", api.numbers[:200])
    assert exporter.run(*BOTH).code == 0
    expected = contents(exporter.cwd / "out")
    errors = []
    for leave in (0, 8, 64, 192, 384):
        out = small_disk / f"out{leave}"
        error = _fails_then_finishes(exporter, out, leave * KIB)
        errors.append(error)
        if out.exists():
            assert contents(out) == expected
            shutil.rmtree(out)
    for doing in ("locking", "the store"):
        assert any(doing in error for error in errors), (doing, errors)


def test_a_full_disk_under_the_staged_files_costs_no_request(
    api: Api, small_disk: Path, tmp_path: Path
) -> None:
    """With the store elsewhere, files and manifest that find no room are written by the next run, unasked."""
    exporter = api.exporter(tmp_path / "here", api.numbers[:200])
    words = ("--store", str(tmp_path / "kept.db"), "--max-age", "1d")
    assert exporter.run(*BOTH, *words).code == 0
    expected = contents(exporter.cwd / "out")
    asked = api.asked()
    make_plan(tmp_path / "plan.db", read(BytesIO((exporter.cwd / "numbers.txt").read_bytes()), name="n"))
    files = [*(exporter.cwd / "out").iterdir(), tmp_path / "plan.db"]
    # With them go the lock's holder and the marker, a page each, the marker last.
    room = sum(-(-file.stat().st_size // PAGE) * PAGE for file in files) + 2 * PAGE
    errors = []
    for leave in (2 * PAGE, room // 2, room - 2 * PAGE, room - PAGE, room):
        out = small_disk / f"out{leave}"
        errors.append(_fails_then_finishes(exporter, out, leave, *words))
        if out.exists():
            assert contents(out) == expected
            shutil.rmtree(out)
    assert api.asked() == asked
    for doing in ("the plan", "the table", "the manifest", "the work directory"):
        assert any(doing in error for error in errors), (doing, errors)


def test_a_full_disk_under_a_workbook_costs_no_request(api: Api, small_disk: Path, tmp_path: Path) -> None:
    """A workbook grows by many small writes; whichever finds no room, the run says so and then goes on."""
    exporter = api.exporter(tmp_path / "here", api.numbers[:200])
    words = ("--format", "xlsx", "--store", str(tmp_path / "kept.db"), "--max-age", "1d")
    assert exporter.run(*words).code == 0
    asked = api.asked()
    for leave in (80, 300, 600):
        out = small_disk / f"out{leave}"
        filler = _fill(out.parent, leave * KIB)
        first = exporter.run(*words, out=out)
        first.said(7, "full", "the workbook")
        assert "Traceback" not in first.err
        filler.unlink()
        assert exporter.run(*words, out=out).code == 0
        assert exporter("verify", out).code == 0
        shutil.rmtree(out)
    assert api.asked() == asked


# --- closed


def _as_nobody() -> tuple[str, ...]:
    """Return the words that run a program as a user without rights, or skip the test."""
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("needs root and setpriv")
    words = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    tried = subprocess.run(
        [*words, sys.executable, "-c", "import exporter"], check=False, capture_output=True, text=True
    )
    if tried.returncode != 0:
        pytest.skip(f"another user cannot run this Python: {tried.stderr.strip()[-200:]}")
    return words


def test_no_permission(exporter: Exporter, tmp_path: Path) -> None:
    """A folder that this user may not write to: exit 7, which folder, and nothing changed."""
    prefix = _as_nobody()
    tmp_path.chmod(0o755)
    stranger = Exporter(cwd=exporter.cwd, env=exporter.env, prefix=prefix)
    stranger.run(out=tmp_path / "closed" / "out").said(7, str(tmp_path), "permission")


def test_a_read_only_disk(exporter: Exporter, small_disk: Path) -> None:
    """A file system mounted read-only: exit 7, and once it is writable the same command works."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    exporter.run(out=small_disk / "out").said(7, str(small_disk), "read-only")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert exporter.run(out=small_disk / "out").code == 0


@pytest.mark.skipif(os.name == "nt", reason="descriptors are limited by ulimit")
def test_too_few_descriptors(api: Api, tmp_path: Path) -> None:
    """Exit 7 before the first request, with the limit as the cause; one that may be raised is no cause."""
    exporter, before = api.exporter(tmp_path, api.numbers[:40]), api.asked()
    for limit in ("-n 12", "-n 24"):
        few = Exporter(
            cwd=exporter.cwd, env=exporter.env, prefix=("bash", "-c", f'ulimit {limit} && exec "$@"', "-")
        )
        few.run().said(7, f"may have {limit[3:]} files open", "needs 72", "ulimit -n", "--concurrency")
        assert not (tmp_path / "out.partial").exists()
    assert api.asked() == before
    low = Exporter(
        cwd=exporter.cwd, env=exporter.env, prefix=("bash", "-c", 'ulimit -S -n 24 && exec "$@"', "-")
    )
    assert low.run().code == 0, "a limit that this user may raise is raised"
    assert manifest_of(tmp_path / "out")["requests"]["retried"] == 0


def test_a_process_that_can_open_no_more_files(api: Api, tmp_path: Path) -> None:
    """A program around the exporter has used up all descriptors: no order is lost to it, and the cause is told."""
    script = tmp_path / "script.py"
    script.write_text("""
import os, resource, exporter

def use_up(progress):
    used = max(map(int, os.listdir("/dev/fd")))
    if limited and progress.phase == "fetching":
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, before[1]))

before = resource.getrlimit(resource.RLIMIT_NOFILE)
options = exporter.Options(orders="numbers.txt", out="out", rate="unlimited",
    api_url=os.environ["EXPORTER_API_URL"], token=os.environ["EXPORTER_API_TOKEN"])
limited = True
try:
    exporter.export(options, on_progress=use_up)
except exporter.StorageError as error:
    print(error)
limited = False
resource.setrlimit(resource.RLIMIT_NOFILE, before)
print(exporter.export(options).exported)
""")
    exporter = api.exporter(tmp_path, api.numbers[:200])
    ended = subprocess.run(
        [sys.executable, script],
        env=dict(exporter.env),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told, exported = ended.stdout.splitlines()
    assert "too many files are open" in told
    assert "ulimit -n" in told
    assert exported == "200"


# --- gone


@pytest.mark.parametrize("how", ["removed", "moved", "folder removed"])
def test_a_store_that_vanishes_in_mid_run(how: str, api: Api, tmp_path: Path) -> None:
    """The run ends within a second with exit 7 and names the store, and does not fetch into nowhere."""
    exporter = api.exporter(tmp_path, api.numbers)
    folder = tmp_path / "kept"
    folder.mkdir()
    store = folder / "nightly.db"
    words = ("--rate", "40/s", "--store", store)
    asked = api.asked()
    with exporter.run_started(*words) as running:
        wait_until(lambda: api.asked() - asked >= 20)
        began = time.monotonic()
        if how == "removed":
            store.unlink()
        elif how == "moved":
            store.rename(folder / "elsewhere.db")
        else:
            while folder.exists():  # the run may make a file there meanwhile
                shutil.rmtree(folder, ignore_errors=True)
        ended = running.end()
    ended.said(7, str(store))
    assert time.monotonic() - began < 5
    assert not (tmp_path / "out").exists()
    folder.mkdir(exist_ok=True)
    assert exporter.run("--store", store).code == 0


def test_a_work_directory_that_vanishes_in_mid_run(api: Api, tmp_path: Path) -> None:
    """Exit 7, one sentence, and the same command begins anew."""
    exporter = api.exporter(tmp_path, api.numbers)
    asked = api.asked()
    with exporter.run_started("--rate", "40/s") as running:
        wait_until(lambda: api.asked() - asked >= 20)
        while (tmp_path / "out.partial").exists():  # the run may make a file there meanwhile
            shutil.rmtree(tmp_path / "out.partial", ignore_errors=True)
        running.end().said(7, "out.partial")
    assert exporter.run().code == 0


def test_what_came_to_out_in_mid_run_is_not_replaced(api: Api, tmp_path: Path) -> None:
    """Files that somebody put at OUT while the run went on stay there: exit 7; moved away, it publishes unasked."""
    exporter = api.exporter(tmp_path, api.numbers[:60])
    asked = api.asked()
    with exporter.run_started("--rate", "40/s", "--overwrite") as running:
        wait_until(lambda: api.asked() - asked >= 20)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        running.end().said(7, "out", "during the run")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    shutil.rmtree(tmp_path / "out")
    assert exporter.run("--overwrite").code == 0
    assert api.asked() - asked == 60


# --- rotten

API = "https://shop.example"
OUT = "/exports/out"
NOW = 1_790_000_000.0
NO_RUN = RunRecord("", 0.0, resumed=False)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a whole store says."""

    run: RunRecord
    orders: tuple[PlannedOrder, ...]


def _read_all(store: Path, plan: Path) -> Known:
    """Read everything that a run would take from a store."""
    opened = Store(store, API)
    try:
        opened.check()
        opened.attach_plan(plan)
        run = opened.unfinished_run(OUT)
        freshness = Freshness(NOW - 10, NOW - 10)
        opened.states(freshness)
        opened.pending(freshness, -1, 1000)
        orders = tuple(_planned(opened, freshness))
        list(opened.rejects(freshness))
        opened.a_fetched_number()
        return Known(run=run or NO_RUN, orders=orders)
    finally:
        opened.close()


def _planned(store: Store, freshness: Freshness) -> Iterator[PlannedOrder]:
    """Yield every order of the plan; the store itself stops at each pending one."""
    line = -1
    while orders := store.planned(freshness, line, limit=1000, limit_bytes=1 << 30):
        for order in orders:  # with its payload
            frame = order.frame and store.payload(order.order_number, order.frame)
            yield order._replace(frame=frame)
        line = orders[-1].line


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of 120 orders of an unfinished run, a plan, and nothing else."""
    folder = tmp_path_factory.mktemp("whole")
    numbers = list(order_numbers(120))
    store = Store(folder / "store.db", API)
    run = store.begin_run(OUT, NOW - 10, 0.0)
    for begin in range(0, 120, 40):
        batch = [_outcome(index, numbers[index]) for index in range(begin, begin + 40)]
        store.settle(run.run_id, batch, Traffic(sent=44, retried=4))
    store.close()
    make_plan(folder / "plan.db", read(BytesIO("\n".join(numbers).encode()), name="n.txt"))
    return folder


def _outcome(index: int, number: str) -> Outcome:
    if index % 17 == 3:
        return Outcome(number, "not_found", NOW + index / 7, 1, 404, detail="the API answered 404")
    if index % 17 == 5:
        return Outcome(number, "unavailable", NOW - 100, 6, None, detail="no answer")
    body = json.dumps(order_payload(number), ensure_ascii=False).encode()
    return Outcome(number, FETCHED, NOW + index / 7, 1, 200, order_status="550", payload=body)


def _read_or_refusal(store: Path, plan: Path) -> Known | str:
    try:
        return _read_all(store, plan)
    except (StorageError, UsageError) as error:
        return error.what


def _pending(order: PlannedOrder) -> PlannedOrder:
    return PlannedOrder(order.line, order.order_number, None, 0, None, None, None)


def _damages(size: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield (name, place, bytes) of what is written over a store."""
    dice = random.Random(11)
    for place in range(100):
        yield f"header byte {place}", place, bytes([dice.randrange(256)])
    for _ in range(900):
        place = dice.randrange(size)
        yield f"byte {place}", place, bytes([dice.randrange(256)])
    for page in range(0, size, 4096):
        yield f"head of page {page // 4096}", page + dice.randrange(12), bytes([dice.randrange(256)])
        yield f"zeros in page {page // 4096}", page + dice.randrange(3000), bytes(1000)


def test_a_damaged_store_is_named_and_never_believed(whole: Path, tmp_path: Path) -> None:
    """A thousand stores with changed bytes: each is refused, or says what it said, or has an order asked for again."""
    known = _read_all(whole / "store.db", whole / "plan.db")
    intact = (whole / "store.db").read_bytes()
    store = tmp_path / "store.db"
    refused = 0
    for name, place, written in _damages(len(intact)):
        store.write_bytes(intact[:place] + written + intact[place + len(written) :])
        found = _read_or_refusal(store, whole / "plan.db")
        if isinstance(found, str):
            assert str(store) in found, name
            refused += 1
        else:
            assert found.run in (known.run, NO_RUN), name
            for now, before in zip(found.orders, known.orders, strict=True):
                assert now in (before, _pending(before)), name
        for rest in tmp_path.glob("store.db*"):
            rest.unlink()
    assert refused > 500


@pytest.mark.parametrize("share", [0.0005, 0.1, 0.5, 0.99])
def test_a_cut_store_is_named(share: float, whole: Path, tmp_path: Path) -> None:
    """A store that lost its end is refused."""
    intact = (whole / "store.db").read_bytes()
    store = tmp_path / "store.db"
    store.write_bytes(intact[: max(1, int(len(intact) * share))])
    with pytest.raises((StorageError, UsageError), match=r"store\.db"):
        _read_all(store, whole / "plan.db")


def test_a_run_refuses_a_damaged_store(api: Api, tmp_path: Path) -> None:
    """As a process: exit 7, the store's name and what to do; without the store the same command works."""
    exporter = api.exporter(tmp_path, api.numbers[:60])
    assert exporter.run("--store", "nightly.db").code == 0
    store = tmp_path / "nightly.db"
    connection = sqlite3.connect(store)
    connection.execute("UPDATE orders SET state = 'not_found' WHERE id = 7")
    connection.commit()
    connection.close()
    exporter.run("--store", "nightly.db", "--max-age", "1d", out="next").said(7, "nightly.db", "corrupt")
    assert not (tmp_path / "next").exists()
    store.write_bytes(b"SQLite format 3\0" + bytes(5000))
    exporter.run("--store", "nightly.db", out="next").said(7, "nightly.db")
    store.write_text("a text of mine, longer than any header of SQLite is, to be left alone" * 10)
    mine = store.read_bytes()
    exporter.run("--store", "nightly.db", out="next").said(7, "nightly.db", "not a store", "another place")
    assert store.read_bytes() == mine
    store.unlink()
    assert exporter.run("--store", "nightly.db", out="next").code == 0


def test_another_sqlite_file_is_left_alone(exporter: Exporter) -> None:
    """A database of somebody else is refused with exit 2, and not a byte of it changes."""
    other = exporter.cwd / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine(a)")
    connection.commit()
    connection.close()
    before = other.read_bytes()
    exporter.run("--store", "other.db").said(2, "other.db")
    assert other.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="makes a named pipe")
def test_a_damaged_store_is_named_before_a_pipe_ends(exporter: Exporter) -> None:
    """The query that feeds it may take hours, and its rows come once."""
    numbers, store = exporter.cwd / "numbers.txt", exporter.cwd / "nightly.db"
    Store(store, exporter.env["EXPORTER_API_URL"]).close()
    damage_index(store)
    numbers.unlink()
    os.mkfifo(numbers)
    pipe = os.open(numbers, os.O_RDWR)
    try:
        with exporter.run_started("--store", "nightly.db") as running:
            running.end(20.0).said(7, "nightly.db: the store is corrupt")
    finally:
        os.close(pipe)
