"""What a store holds, for people who look on while it is at work or at rest."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from exporter.model.errors import StorageError
from exporter.store.order_store import Freshness, Store
from exporter.store.store_file import uri_to_look_at
from exporter.system import durable

_HELD = "SELECT state, count(*), min(settled_at), max(settled_at) FROM orders GROUP BY 1 ORDER BY 2 DESC, 1"
_UNFINISHED = """
SELECT out, started_at, sent, answered_at FROM runs WHERE finished_at IS NULL AND id IN (SELECT max(id) FROM runs GROUP BY out)
ORDER BY id DESC
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Orders of one state, `fetched` or a reject reason, and when the first and the last of them were settled."""

    state: str
    orders: int
    oldest_at: float
    newest_at: float


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that has not published: where its dataset will stand, its requests so far, and its last answer."""

    out: str
    started_at: float
    sent: int
    answered_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """The process that holds a lock since `started_at`; a dead process's lock is none."""

    pid: int
    started_at: float
    alive: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Holdings:
    """What a store holds: its size with the write-ahead log, the states that occur, the most frequent first, and
    the runs that have not published, the newest first.
    """

    api_url: str | None
    bytes: int
    held: tuple[Held, ...]
    unfinished: tuple[UnfinishedRun, ...]

    @property
    def orders(self) -> int:
        """All order numbers that it knows."""
        return sum(held.orders for held in self.held)


def holdings(path: Path) -> Holdings:
    """Look into a store; nothing in it is changed.

    Raises:
        UsageError: It is no store of ours.
        StorageError: It cannot be read, or it is damaged.
    """
    with closing(Store(path, readonly=True)) as store:
        api_url = store.api_url
    with _reading(path) as connection:
        return Holdings(
            api_url=api_url,
            bytes=sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists()),
            held=tuple(Held(*row) for row in connection.execute(_HELD)),
            unfinished=tuple(UnfinishedRun(*row) for row in connection.execute(_UNFINISHED)),
        )


def pending_of_store(path: Path, freshness: Freshness) -> int:
    """Return how many of a store's own order numbers must be asked for."""
    state, values = freshness.state_sql()
    query = f"SELECT count(*) FROM orders AS o WHERE {state} IS NULL"  # noqa: S608 - our own words
    with _reading(path) as connection:
        return int(connection.execute(query, values).fetchone()[0])


def pending_of_plan(path: Path, plan: Path, freshness: Freshness) -> tuple[int, int]:
    """Return (to ask for, all) of a plan's order numbers.

    Raises:
        StorageError: The store is damaged, or the plan of a run that was killed while it was made.
    """
    with closing(Store(path, readonly=True)) as store:
        store.attach_plan(plan)
        try:
            states = store.states(freshness)
        except sqlite3.OperationalError as error:  # a plan without its tables
            raise StorageError(f"{plan}: the plan is incomplete: {error}.") from error
    return states.get(None, 0), sum(states.values())


def holder(lock: Path) -> Holder | None:
    """Return who holds a lock file, or died holding it; the file is not touched."""
    try:
        facts = json.loads(lock.with_name(f"{lock.name}.json").read_bytes())
        pid, started_at = int(facts["pid"]), float(facts["started_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Holder(
        pid=pid, started_at=started_at, alive=_is_alive(pid) if os.name == "posix" else _is_held(lock)
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def _is_held(lock: Path) -> bool:
    """Tell whether a process holds the lock, where signal 0 would end it: by taking the lock for a moment."""
    try:
        with FileLock(lock, blocking=False):
            return False
    except (Timeout, OSError):
        return True


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with (
        durable.storage_errors("reading the store", path),
        closing(sqlite3.connect(uri_to_look_at(path), uri=True)) as connection,
    ):
        yield connection
