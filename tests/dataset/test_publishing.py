"""One publish: the same bytes and counts however many processes flatten, and none of those is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.dataset.publishing import flattening_processes, staging
from exporter.dataset.publishing.block_flattening import Flattened, Share
from exporter.dataset.publishing.flattening_processes import Flatteners
from exporter.dataset.publishing.publish_job import PublishJob, PublishProgress, PublishResult
from exporter.demo.orders import order_numbers, order_payload
from exporter.lists import Batch
from exporter.model.errors import StorageError
from exporter.model.freshness import Freshness
from exporter.model.records import FETCHED, Outcome, Traffic
from exporter.store.order_store import Store
from exporter.store.plan import make_plan
from tests.support.datasets import PII_KEY
from tests.support.processes import ROOT, wait_until

_ORDERS = 1_600
_NOW = 1_790_000_000.0


@pytest.fixture(autouse=True)
def _any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few orders are worth other processes, and those find this very package."""
    monkeypatch.setattr(staging, "_WORTH_SPREADING", 1)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> PublishJob:
    """A plan and a store of it: most orders plain, some odd, some rejected."""
    folder = tmp_path_factory.mktemp("store")
    numbers = list(order_numbers(_ORDERS))
    with closing(Store(folder / "store.db", "https://shop.example")) as store:
        run = store.begin_run("out", _NOW, 0.0)
        for begin in range(0, _ORDERS, 400):
            batch = [_outcome(at, numbers[at]) for at in range(begin, begin + 400)]
            store.settle(run.run_id, batch, Traffic())
    make_plan(folder / "plan.db", [Batch(lines=range(1, _ORDERS + 1), order_numbers=numbers)])
    store_path, plan = str(folder / "store.db"), str(folder / "plan.db")
    return PublishJob(store=store_path, plan=plan, staged="", freshness=Freshness(_NOW, _NOW))


def _outcome(at: int, number: str) -> Outcome:
    if at % 101 == 5:
        return Outcome(number, "not_found", _NOW, 1, 404, detail="the API answered 404")
    payload: dict[str, Any] = order_payload(number)
    if at % 7 == 3:
        payload |= {f"key {at % 900}": at, "amount": "much", "customer": at}
    if at == 812:  # a piece ends with it
        payload["notes"] = "x" * (9 * 1024 * 1024)
    if at % 11 == 4:
        payload["orderitem_set"] = [*payload["orderitem_set"], None, {"surprise": 1.0}]
    return Outcome(number, FETCHED, _NOW, 1, 200, order_status="550", payload=json.dumps(payload).encode())


def _published(job: PublishJob, folder: Path, cores: int) -> tuple[PublishResult, dict[str, bytes]]:
    folder.mkdir()
    job = replace(job, staged=str(folder))
    result = staging.publish_tables(job, lambda _: True, lambda _: None, cores)
    return result, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("pii", ["keep", "hash"])
def test_bytes_and_counts_are_those_of_one_process(
    job: PublishJob, pii: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two and three flattening processes write the same files and count the same, in input order."""
    monkeypatch.setattr(staging, "ORDERS_PER_ROW_GROUP", 700)
    job = replace(job, tables=("orders", "order_items", "order_lines"), formats=("parquet", "csv"))
    if pii == "hash":
        job = replace(job, pii="hash", pii_key=PII_KEY)
    one = _published(job, tmp_path / "1", 1)
    assert one[0].exported + one[0].rejects_by_reason["not_found"] == _ORDERS
    assert one[0].drift.uncoerced["amount"] > 200
    for cores in (2, 3):
        assert _published(job, tmp_path / str(cores), cores) == one


def test_a_flattening_process_that_is_killed_ends_the_publish(
    job: PublishJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error tells of the process's end, for exit 7; neither another one nor a table is left."""
    started: list[subprocess.Popen[bytes]] = []
    enter = Flatteners.__enter__

    def enter_and_kill(self: Flatteners) -> Flatteners:
        started.extend(self._processes)
        started[0].kill()
        return enter(self)

    monkeypatch.setattr(Flatteners, "__enter__", enter_and_kill)
    with pytest.raises(StorageError, match=r"flattening process ended early \(exit status -9\)") as raised:
        _published(job, tmp_path / "out", 2)
    assert raised.value.exit_code == 7
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_flattening_process_that_ends_in_the_midst_of_a_table_is_told_of(
    job: PublishJob, tmp_path: Path
) -> None:
    """Wherever the table is cut: Arrow says it in three ways."""
    command = [sys.executable, "-P", "-m", "exporter.dataset.publishing.flattening_main"]
    asked = msgspec.json.encode((job, Share(-1, 0, 1))) + b"\n"
    answered = subprocess.run(command, input=asked, stdout=subprocess.PIPE, check=True).stdout
    table = answered.index(b"\n") + 1
    with Flatteners(job, -1, 1) as flatteners:
        for kept in (0, table // 2, table, table + 100, table + 9_000):
            (tmp_path / "cut").write_bytes(answered[:kept])
            with (
                subprocess.Popen([*_CAT, str(tmp_path / "cut")], stdout=subprocess.PIPE) as process,
                pytest.raises(StorageError, match=r"ended early \(exit status 0\)"),
            ):
                flatteners._answer(process)


_CAT = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"]


def test_what_is_read_ahead_is_bounded(job: PublishJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, not in blocks: those of large orders are as large as it gets."""
    monkeypatch.setattr(flattening_processes, "_AHEAD", 2)
    read, answer = [], Flatteners._answer

    def answer_and_count(self: Flatteners, process: subprocess.Popen[bytes]) -> Flattened | None:
        read.append(answer(self, process))
        return read[-1]

    monkeypatch.setattr(Flatteners, "_answer", answer_and_count)
    with Flatteners(job, -1, 1) as flatteners:
        pieces = iter(flatteners)
        next(pieces)
        flatteners._threads[0].submit(int).result()  # after all that it was to read
        assert len(read) == 3
        assert len(list(pieces)) == _ORDERS // 500 + 1  # one more, for the large order


@pytest.mark.parametrize("cores", [1, 2])
def test_progress_counts_each_order_number_once(
    job: PublishJob, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those after which other processes took over."""
    monkeypatch.setattr(staging, "_TELL_EVERY_S", 0.0)
    told: list[PublishProgress] = []
    staging.publish_tables(replace(job, staged=str(tmp_path)), lambda _: True, told.append, cores)
    assert told[-1].lines == _ORDERS


_SPREAD = """
import sys, time, msgspec
from exporter.dataset.publishing.flattening_processes import Flatteners
from exporter.dataset.publishing.publish_job import PublishJob
job = msgspec.json.decode(sys.argv[1], type=PublishJob)
with Flatteners(job, -1, 2) as flatteners:
    next(iter(flatteners))
    print(*(process.pid for process in flatteners._processes), flush=True)
    time.sleep(60)
"""


def test_a_damaged_dictionary_is_told_of_by_the_process_that_met_it(job: PublishJob, tmp_path: Path) -> None:
    """The error names the store, as where no other process flattens."""
    store = tmp_path / "store.db"
    shutil.copy(job.store, store)
    with closing(sqlite3.connect(store)) as database, database:
        (dictionary,) = database.execute("SELECT value FROM meta WHERE key = 'dictionary'").fetchone()
        database.execute("UPDATE meta SET value = ? WHERE key = 'dictionary'", (dictionary[::-1],))
    for cores in (1, 2):
        with pytest.raises(
            StorageError, match=r"store\.db: the store is corrupt: the payload of order \w+ is"
        ):
            _published(replace(job, store=str(store)), tmp_path / str(cores), cores)


@pytest.mark.skipif(sys.platform == "win32", reason="looks for processes by their ids")
def test_no_flattening_process_outlives_its_parent(job: PublishJob) -> None:
    """After `kill -9` of the publishing process its flattening processes end by themselves."""
    command = [sys.executable, "-c", _SPREAD, msgspec.json.encode(job).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(_is_there, children)))


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
