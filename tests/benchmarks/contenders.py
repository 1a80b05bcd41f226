"""Who is compared: a command line each, how to read what it wrote, and what it can be asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import HERE
from tests.benchmarks.outcome import Outcome, of_json_lines, of_parquet

EXPORTER = "this exporter"
BARE = "bare aiohttp"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a contender is to fetch.

    Attributes:
        url: The server's base URL.
        numbers: File of order numbers.
        out: Folder of its own to write into.
        rate_per_s: Requests a second that it is permitted; None: no limit.
        resumable: Whether it is to be ready for a kill, where that is a choice.
    """

    url: str
    numbers: Path
    out: Path
    rate_per_s: int | None = None
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way of doing the job.

    Attributes:
        key: Its short name on the command line.
        name: Its name in the tables.
        command: Its command line, made from a task and the peers' interpreter.
        read: Reads both tables that it wrote; None: it throws everything away.
        has_rate: Whether it has a setting for the rate.
        ours: Whether it needs none of the peers' packages.
    """

    key: str
    name: str
    command: Callable[[Task, str], list[str]]
    read: Callable[[Path], Outcome] | None = None
    has_rate: bool = False
    ours: bool = False


def export_command(task: Task) -> list[str]:
    """Return the command line of this exporter."""
    rate = f"{task.rate_per_s}/s" if task.rate_per_s else "unlimited"
    where = [str(task.numbers), "--out", str(task.out / "dataset"), "--api-url", task.url]
    return [sys.executable, "-m", "exporter", "run", *where, "--rate", rate, "--quiet"]


def bare_command(task: Task) -> list[str]:
    """Return the command line of the bare aiohttp loop."""
    return [sys.executable, str(HERE / "bare.py"), task.url, str(task.numbers)]


def _peer(program: str) -> Callable[[Task, str], list[str]]:
    return lambda task, python: [
        *(python, str(HERE / "peers" / program)),
        *(task.url, str(task.numbers), str(task.out)),
    ]


def _scrapy(task: Task, python: str) -> list[str]:
    rate = ["--rate", str(task.rate_per_s)] if task.rate_per_s else []
    job = ["--jobdir", str(task.out / "job")] if task.resumable else []
    return [*_peer("scrapy_feeds.py")(task, python), *rate, *job]


def _two_files(out: Path) -> Outcome:
    return of_parquet(out, "orders.parquet", "order_items.parquet")


def _dlt_files(out: Path) -> Outcome:
    return of_parquet(out, "dataset/orders/*.parquet", "dataset/orders__orderitem_set/*.parquet")


CONTENDERS = (
    Contender(
        key="exporter",
        name=EXPORTER,
        command=lambda task, _: export_command(task),
        read=lambda out: _two_files(out / "dataset"),
        has_rate=True,
        ours=True,
    ),
    Contender(key="dlt-async", name="dlt, async", command=_peer("dlt_async.py"), read=_dlt_files),
    Contender(key="dlt-threads", name="dlt, parallelized", command=_peer("dlt_threads.py"), read=_dlt_files),
    Contender(key="requests", name="requests + pandas", command=_peer("requests_pandas.py"), read=_two_files),
    Contender(
        key="scrapy",
        name="Scrapy, JSON lines",
        command=_scrapy,
        read=lambda out: of_json_lines(out, "orders.jsonl", "order_items.jsonl"),
        has_rate=True,
    ),
    Contender(key="bare", name=BARE, command=lambda task, _: bare_command(task), ours=True),
    Contender(key="libcurl", name="libcurl multi", command=_peer("libcurl_multi.py")),
)
