"""A run on a Dask cluster: the same dataset as on one machine, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from msgspec import structs

pytest.importorskip("distributed")

from exporter import __version__
from exporter.fetch.cluster.messages import Check
from exporter.fetch.cluster.range_worker import unfit
from exporter.model.manifest import Pii
from tests.support.clients import serving
from tests.support.dask_cluster import DaskCluster, running_cluster
from tests.support.processes import (
    TOKEN,
    Api,
    Exporter,
    clean_environment,
    demo_api,
    exporter_for,
    wait_until,
)
from tests.support.servers import moves
from tests.support.servers.process import faulty_process
from tests.support.standing import contents, manifest_of

ORDERS = 700  # three ranges
CONCURRENCY = 32


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with demo_api(orders=ORDERS) as running:
        yield running


def lines_of(api: Api) -> list[str]:
    """All of its orders, and what else an input may hold, on both sides of where ranges meet."""
    lines = list(api.numbers)
    lines[250:250] = ["no such", "missing-1", lines[3]]
    return ["not one", *lines, "missing-2", ""]


@pytest.fixture(scope="module")
def alone(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of a run on one machine."""
    folder = tmp_path_factory.mktemp("alone")
    assert api.exporter(folder, lines_of(api)).run().code == 3
    return folder / "out"


def same_rows(one: Path, other: Path) -> None:
    """Assert that two datasets differ in nothing but how they are cut into files."""
    for table in ("orders.parquet", "order_items.parquet"):
        first, second = pq.read_table(one / table), pq.read_table(other / table)
        assert first.equals(second)
        assert first.schema.equals(second.schema, check_metadata=True)
    assert (one / "rejects.jsonl").read_bytes() == (other / "rejects.jsonl").read_bytes()
    contents(other)
    first_facts, second_facts = manifest_of(one), manifest_of(other)
    for name in ("counts", "rejects_by_reason", "drift", "input"):
        assert first_facts[name] == second_facts[name]


def stored(out: Path) -> int:
    """Return how many answers the ranges of an unfinished run keep."""
    total = 0
    for store in out.with_name(f"{out.name}.partial").glob("ranges/*/store.db"):
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            try:
                total += connection.execute("SELECT count(*) FROM orders").fetchone()[0]
            except sqlite3.OperationalError:
                pass  # killed before its tables were made
    return total


# --- the same dataset


@pytest.mark.extra
def test_local_workers_write_the_same_rows(api: Api, alone: Path, tmp_path: Path) -> None:
    """`--dask local` gives the rows, rejects and counts of a one-machine run, for the same number of requests."""
    before = api.asked()
    ended = api.exporter(tmp_path, lines_of(api)).run("--dask", "local")
    assert ended.code == 3, ended.err
    assert "WARNING" not in ended.err
    same_rows(alone, tmp_path / "out")
    facts = manifest_of(tmp_path / "out")
    assert facts["requests"]["sent"] == api.asked() - before
    assert 0 <= api.asked() - before - (ORDERS + 2) <= PROOFS
    assert facts["statistics"]["statuses"]["404"] == 2
    assert [part["path"] for part in facts["tables"]["orders"]["files"]] == [
        f"orders.parquet/part-{index:05}.parquet" for index in range(3)
    ]
    assert not (tmp_path / "out.partial").exists()


def test_a_cluster_keeps_the_rate(cluster: DaskCluster, api: Api, alone: Path, tmp_path: Path) -> None:
    """Two workers at 200/s are refused by no API that allows 230 in any second,."""
    with demo_api("--rate-limit", 230, orders=ORDERS) as limited:
        exporter = limited.exporter(tmp_path, lines_of(api))
        ended = exporter.run(
            "--dask", cluster.address, "--rate", "200/s", "--format", "csv", "--format", "parquet"
        )
        assert ended.code == 3, ended.err
        facts = manifest_of(tmp_path / "out")
        assert facts["requests"]["throttled"] == 0
    same_rows(alone, tmp_path / "out")
    assert len(list((tmp_path / "out" / "orders.csv").iterdir())) == 3
    assert TOKEN not in cluster.log()


def test_a_file_of_our_name_does_not_take_our_place(api: Api, tmp_path: Path) -> None:
    """`exporter.py` in the current directory is not what local workers import."""
    exporter = api.exporter(tmp_path / "here", api.numbers[:10])
    (exporter.cwd / "exporter.py").write_text("raise SystemExit('not this one')")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom exporter.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    words = ["run", "numbers.txt", "--out", "out", "--dask", "local"]
    ended = subprocess.run(
        [sys.executable, str(program), *words],
        check=False,
        cwd=exporter.cwd,
        env=exporter.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert "not this one" not in ended.stderr


def test_workers_are_forked_with_all_that_they_need() -> None:
    """Python passes over what cannot be preloaded: nobody would notice but by the time."""
    needed = ["exporter.fetch.cluster.range_worker", "distributed.worker", "aiohttp", "pyarrow"]
    code = f"import sys, exporter.fetch.cluster.fork_server_imports; print([m for m in {needed} if m not in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


# --- what may die meanwhile

SLOW = ("--rate", "300/s", "--concurrency", CONCURRENCY)
#: What one kill may cost: the requests in flight, and the answers of half a second.
COST = CONCURRENCY + 300 // 2
#: Questions to known orders that prove the two dead ones.
PROOFS = 4


def half_done(api: Api, before: int) -> None:
    wait_until(lambda: api.asked() - before > ORDERS // 3)


def test_a_killed_worker_costs_what_was_in_flight(
    cluster: DaskCluster, api: Api, alone: Path, tmp_path: Path
) -> None:
    """The range of a worker that is killed goes on elsewhere, from where it was; the run does not notice."""
    exporter, before = api.exporter(tmp_path, lines_of(api)), api.asked()
    with exporter.run_started("--dask", cluster.address, *SLOW) as running:
        half_done(api, before)
        victim = cluster.workers.pop(0)
        victim.kill()
        victim.wait()
        cluster.add_worker()
        ended = running.end()
    assert ended.code == 3, ended.err
    assert api.asked() - before <= ORDERS + 2 + COST
    same_rows(alone, tmp_path / "out")


def test_a_killed_coordinator_costs_what_was_in_flight(
    cluster: DaskCluster, api: Api, alone: Path, tmp_path: Path
) -> None:
    """After `kill -9` of the coordinator the same command finishes, and asks for next to nothing twice."""
    exporter, before = api.exporter(tmp_path, lines_of(api)), api.asked()
    with exporter.run_started("--dask", cluster.address, *SLOW) as running:
        half_done(api, before)
        running.kill()
    ended = exporter.run("--dask", cluster.address)
    assert ended.code == 3, ended.err
    assert "Resuming the run" in ended.err
    assert api.asked() - before <= ORDERS + 2 + COST
    same_rows(alone, tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_local_workers_die_with_the_coordinator(api: Api, tmp_path: Path) -> None:
    """After `kill -9` of the coordinator nothing that it started is left, nor asks for anything."""
    exporter, before = api.exporter(tmp_path, lines_of(api)), api.asked()
    with exporter.run_started("--dask", "local", *SLOW) as running:
        half_done(api, before)
        assert len(running.family()) >= 3
        running.process.kill()
        running.process.wait()
        wait_until(lambda: not running.family(), 10)
        assert api.asked() - before < ORDERS


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_a_run_outlives_the_fork_server_of_its_workers(api: Api, alone: Path, tmp_path: Path) -> None:
    """A killed fork server costs what was in flight; the run ends well and leaves no process behind."""
    exporter, before = api.exporter(tmp_path, lines_of(api)), api.asked()
    with exporter.run_started("--dask", "local", *SLOW) as running:
        half_done(api, before)
        servers = [
            pid for pid, command in running.family().items() if "multiprocessing.forkserver" in command
        ]
        assert len(servers) == 3  # it and two workers, which are its images
        os.kill(min(servers), signal.SIGKILL)
        ended = running.end()
        assert ended.code == 3, ended.err
        wait_until(lambda: not running.family(), 10)
    assert api.asked() - before <= ORDERS + 2 + COST
    same_rows(alone, tmp_path / "out")


def stopped(exporter: Exporter, api: Api, number: int, *words: object) -> None:
    """Start a run, signal its whole group in the middle, and see it end in time with all that was asked for."""
    before = api.asked()
    with exporter.run_started(*words) as running:
        half_done(api, before)
        began = time.monotonic()
        running.signal_group(number)
        ended = running.end(12)
        took_s = time.monotonic() - began
    ended.said(128 + number, "Stopped by a signal")
    assert took_s < 10
    assert 0 <= api.asked() - before - stored(exporter.cwd / "out") <= 2  # refusals that were not proven


def test_a_signal_stops_every_worker(cluster: DaskCluster, api: Api, alone: Path, tmp_path: Path) -> None:
    """SIGTERM ends the run within ten seconds; no request follows, and none is repeated later."""
    exporter, before = api.exporter(tmp_path, lines_of(api)), api.asked()
    stopped(exporter, api, signal.SIGTERM, "--dask", cluster.address, *SLOW)
    exporter.run().said(2, "was started with --dask")
    assert exporter.run("--dask", cluster.address).code == 3
    assert (
        0 <= api.asked() - before - (ORDERS + 2) <= PROOFS + 2
    )  # a refusal that is not proven is asked again
    same_rows(alone, tmp_path / "out")


def test_ctrl_c_lets_local_workers_keep_what_they_have(api: Api, tmp_path: Path) -> None:
    """SIGINT to the whole group, as a terminal sends it, ends the run in time and loses no answer."""
    exporter = api.exporter(tmp_path, lines_of(api))
    stopped(exporter, api, signal.SIGINT, "--dask", "local", *SLOW)


# --- what ends a run


def test_a_refused_token_ends_the_run(cluster: DaskCluster, tmp_path: Path, api: Api) -> None:
    """A worker's 401 is the run's: exit 5."""
    with faulty_process("tests.support.plans:refuses_the_token") as url:
        exporter = Api(url=url, numbers=api.numbers).exporter(tmp_path)
        exporter.run("--dask", cluster.address).said(5, "refused the token")


def test_an_api_that_is_away_ends_the_run(cluster: DaskCluster, tmp_path: Path, api: Api) -> None:
    """Where no worker gets an answer the run ends with exit 6."""
    exporter = Api(url="http://127.0.0.1:9", numbers=api.numbers[:10]).exporter(tmp_path)
    exporter.run("--dask", cluster.address, "--patience", "1s").said(6, "not available")


def test_the_display_says_since_when_the_api_is_down(cluster: DaskCluster, tmp_path: Path) -> None:
    """As on one machine: for the whole outage of all workers, and not before and after it."""
    script = """
import os, sys, exporter

told = []
options = exporter.Options(orders="numbers.txt", out="out", rate="unlimited", dask=sys.argv[1], dask_insecure=True,
    api_url=os.environ["EXPORTER_API_URL"], token=os.environ["EXPORTER_API_TOKEN"])
exporter.export(options, on_progress=lambda progress: told.append(progress.down_since))
print(told[0], any(told), told[-1])
"""
    times: list[float] = []

    def deployed(number: str, nth: int) -> Iterable[moves.Step]:
        """Good 150 times, then away for three seconds."""
        times.append(time.monotonic())
        away = len(times) > 150 and times[-1] < times[150] + 3.0
        return (moves.end(moves.End.RESET) if away else moves.late(0.02))(number, nth)

    with serving(deployed) as server:
        exporter = exporter_for(server.url, tmp_path, [f"a{index}" for index in range(600)])
        words, env = [sys.executable, "-c", script, cluster.address], dict(exporter.env)
        ended = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("None True None\n", 0), ended.stderr


def test_a_list_of_wrong_numbers_is_not_asked_to_its_end(
    cluster: DaskCluster, api: Api, tmp_path: Path
) -> None:
    """As soon as the rejects of all workers rule publishing out no more is asked: exit 4, and a higher bound resumes."""
    lines = [line for number in api.numbers for line in (number, f"wrong-{number}")]
    exporter, before = api.exporter(tmp_path, lines), api.asked()
    words = ("--dask", cluster.address, "--rate", "200/s", "--max-rejects")
    exporter.run(*words, 20).said(
        4,
        "are more than --max-rejects 20 allows: stopped after",
        "of 1,400 orders",
        "For example line 2, wrong-",
    )
    assert api.asked() - before < len(lines) // 2
    assert not (tmp_path / "out").exists()
    assert exporter.run("--dask", cluster.address, "--rate", "unlimited", "--max-rejects", "60%").code == 3
    assert api.asked() - before <= len(lines) + CONCURRENCY * 2


def test_a_full_disk_of_a_worker_ends_the_run(cluster: DaskCluster, api: Api, tmp_path: Path) -> None:
    """What the disk refuses to a worker is the run's exit 7, and with room the same command finishes."""
    exporter = api.exporter(tmp_path, lines_of(api))
    small = Exporter(cwd=exporter.cwd, env=exporter.env, prefix=("prlimit", "--fsize=120000"))
    small.run("--dask", "local").said(7, "store.db")
    assert exporter.run("--dask", cluster.address).code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dask", "tcp://127.0.0.1:9"), "no Dask scheduler answers"),
        (("--dask", "locally"), "expected a scheduler's address"),
        (("--dask", "local", "--store", "kept.db"), "Leave out --store"),
    ],
)
def test_what_cannot_work_is_refused(words: tuple[str, ...], said: str, api: Api, tmp_path: Path) -> None:
    """What cannot work is exit 2 with a sentence, and leaves nothing behind."""
    exporter = api.exporter(tmp_path, api.numbers[:10])
    exporter.run(*words).said(2, said)
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]


def test_a_worker_without_the_secrets_is_refused(cluster: DaskCluster, api: Api, tmp_path: Path) -> None:
    """Secrets do not travel: a worker that has none of its own is exit 2 with a sentence that says so."""
    exporter = api.exporter(tmp_path, api.numbers[:10], EXPORTER_PII_KEY="k" * 32)
    exporter.run("--dask", cluster.address, "--pii", "hash").said(
        2, "cannot take part", "in its own environment: pii hash"
    )
    assert not (tmp_path / "out.partial").exists()


def test_a_worker_must_see_the_folder(tmp_path: Path) -> None:
    """A folder that is not shared, and one that holds another try, are told in words."""
    (tmp_path / "try").write_text("this")
    check = Check(version=__version__, folder=str(tmp_path), try_id="that", options={}, pii=Pii(), key="")
    assert "does not see the folder" in (unfit(check) or "")
    assert "does not see the folder" in (unfit(structs.replace(check, folder="/nowhere")) or "")
    assert "and this is 0.0.1" in (unfit(structs.replace(check, version="0.0.1")) or "")


def test_a_run_begun_on_one_machine_ends_there(cluster: DaskCluster, api: Api, tmp_path: Path) -> None:
    """A cluster does not ask again for what one machine has fetched: exit 2."""
    exporter = api.exporter(tmp_path, lines_of(api))
    stopped_early = ("--rate", "300/s")
    before = api.asked()
    with exporter.run_started(*stopped_early) as running:
        half_done(api, before)
        running.signal(signal.SIGTERM)
        running.end()
    exporter.run("--dask", cluster.address).said(2, "was started without --dask")


def test_a_scheduler_that_restarts_costs_what_was_in_flight(api: Api, alone: Path, tmp_path: Path) -> None:
    """The scheduler dies, and its workers with it; when they are back the run goes on, and nothing is lost."""
    cluster = DaskCluster(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    cluster.address = f"tcp://127.0.0.1:{port}"
    words = ("--host", "127.0.0.1", "--port", port, "--no-dashboard")
    scheduler = cluster.start("dask_scheduler", *words)
    cluster.add_worker()
    cluster.add_worker()
    try:
        exporter, before = api.exporter(tmp_path / "run", lines_of(api)), api.asked()
        with exporter.run_started("--dask", cluster.address, "--rate", "100/s") as running:
            half_done(api, before)
            scheduler.kill()
            scheduler.wait()
            scheduler = cluster.start("dask_scheduler", *words)
            cluster.add_worker()
            cluster.add_worker()
            ended = running.end()
        assert ended.code == 3, ended.err
        assert api.asked() - before <= ORDERS + 2 + COST
        same_rows(alone, tmp_path / "run" / "out")
    finally:
        for process in (*cluster.workers, scheduler):
            process.terminate()
            process.wait()


def test_a_worker_of_another_version_is_refused(api: Api, tmp_path: Path) -> None:
    """A worker whose package is another one is exit 2 with a sentence that names the version it should have."""
    other = tmp_path / "other" / "exporter"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('__version__ = "0.0.1"\n')
    with running_cluster(tmp_path, workers=0) as cluster:
        cluster.add_worker(PYTHONPATH=str(other.parent))
        exporter = api.exporter(tmp_path / "run", api.numbers[:10])
        exporter.run("--dask", cluster.address).said(
            2, "cannot take part", f"omnitron-exporter {__version__}"
        )
    assert not (tmp_path / "run" / "out.partial").exists()
