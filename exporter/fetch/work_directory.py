"""The work directory: its place, its lock, and what a dead run has left in it."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from exporter.model.errors import LockedError, UsageError
from exporter.model.units import local_time
from exporter.system import durable, private_files

_LOCK = "lock"
_MARKER = "publishing"
_NAMED_WITHIN_S = 1.0
_STILL_OPEN = (".nfs", ".fuse_hidden")


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """The process that holds a lock since `started_at`; a dead process's lock is none."""

    pid: int
    started_at: float
    alive: bool


class WorkDirectory:
    """The files of an unfinished run; the directory `path` exists, and its lock is held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "store.db"
        self.plan = path / "plan.db"
        self.listing = path / "listed.db"  # how far the API's own list was read, and its order numbers
        self.listed = path / "listed.jsonl"
        self.ranges = path / "ranges"  # where a run that is spread over a cluster keeps all that is fetched
        # A new name for each try: what a dying process of an earlier one still writes is not in it.
        self.staged = path / f"dataset-{os.urandom(4).hex()}"
        self.retired = path / "retired"
        self.keeps_lock = False  # whether its lock could not be removed while it was held

    def fresh_staged(self) -> Path:
        """Return the folder for staged files, emptied of what a dead try has left."""
        with durable.storage_errors("preparing the work directory", self.path):
            for old in self.path.glob("dataset*"):
                durable.remove_tree(old)
            self.staged.mkdir()
        return self.staged

    def mark(self, run_id: str) -> None:
        """Note, before the dataset is put in its place, which run's dataset that will be."""
        with durable.storage_errors("writing to the work directory", self.path):
            durable.write_bytes(self.path / _MARKER, run_id.encode())

    def marked(self) -> str | None:
        """Return the run that a dead try was about to publish, or had published."""
        with durable.storage_errors("reading the work directory", self.path):
            marker = self.path / _MARKER
            return marker.read_text() if marker.exists() else None

    def remove(self) -> None:
        """Remove everything, the marker last: until then the next run knows that nothing is left to do."""
        with durable.storage_errors("removing the work directory", self.path):
            for entry in self.path.iterdir():
                if entry.name != _MARKER and not entry.name.startswith(_LOCK):
                    durable.remove_tree(entry)
            (self.path / f"{_LOCK}.json").unlink(missing_ok=True)
            try:
                (self.path / _LOCK).unlink(missing_ok=True)
            except OSError:
                self.keeps_lock = True  # Windows and some file systems remove no file that is open
            (self.path / _MARKER).unlink(missing_ok=True)
            try:
                self.path.rmdir()
            except OSError:
                # NFS and FUSE keep the name of an open file, here the lock, until it is closed.
                if not all(entry.name.startswith((_LOCK, *_STILL_OPEN)) for entry in self.path.iterdir()):
                    raise
            durable.step("remove")


def place_of(out: str) -> Path:
    """Return where the work directory of `out` is: beside it, or in the state folder for a URL."""
    if "://" not in out:
        path = Path(out).absolute()
        if path.name in ("", ".."):
            problem = "expected a directory with a name."
            raise UsageError(problem, "Give another --out.", option="out", value=out)
        return path.with_name(f"{path.name}.partial")
    return private_files.state_folder() / hashlib.sha256(out.rstrip("/").encode()).hexdigest()[:32]


def name_of(out: str, *, kept: bool) -> str:
    """Return how a store calls the run into `out`, however that is spelled; a store of its own knows no other.

    >>> name_of("./orders/", kept=False), name_of("s3://bucket/orders/", kept=True)
    ('orders', 's3://bucket/orders')
    """
    if "://" in out:
        return out.rstrip("/")
    path = Path(out).absolute()
    # The last part as it is: a link there is what a dataset replaces.
    return str(Path(os.path.realpath(path.parent), path.name)) if kept else path.name


@contextmanager
def work_directory(out: str) -> Iterator[WorkDirectory]:
    """Hold the work directory of `out`, made with mode 0700 where it is missing.

    A `UsageError`, as where something that no run has made has its name, leaves nothing behind that was not there
    before. Else errors are those of `locked`; a `StorageError` also where something in it is not this user's alone.
    """
    path = place_of(out)
    with durable.storage_errors("making the work directory", path):
        # The innermost first.
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        _refuse_strangers(path)
    try:
        work = WorkDirectory(path)
        with locked(path / _LOCK, str(path)):
            yield work
            made = []
        with suppress(OSError):  # see `WorkDirectory.remove`; an unfinished run's is not empty
            if work.keeps_lock:  # and whoever holds it now keeps it in the same way
                (path / _LOCK).unlink()
            path.rmdir()
    except UsageError:
        # Nothing but locks is left by a process that died while it removed a finished run's work directory.
        if path in made or all(entry.name.startswith(_LOCK) for entry in path.iterdir()):
            durable.remove_tree(path)
            for folder in made[1:]:
                folder.rmdir()
        raise


def _refuse_strangers(path: Path) -> None:
    """Refuse a folder that no run of ours has made: all that is in it would go when the run is over."""
    private_files.refuse_foreign(path)
    entries = list(path.iterdir())
    if entries and {entry.name for entry in entries}.isdisjoint({_LOCK, _MARKER}):
        what = f"{path}: expected a free name for the work directory, got something that is not ours."
        raise UsageError(what, "Move it away, or give another --out.")
    for entry in entries:
        # Staged folders have the mode that their dataset will have.
        private_files.refuse_foreign(entry, forbidden=0 if entry.is_dir() else private_files.OTHERS_WRITE)


def discard(out: str) -> None:
    """Remove the work directory of `out`, where there is one and nobody holds it, so that its run starts over."""
    path = place_of(out)
    if path.exists():
        with durable.storage_errors("removing the work directory", path):
            _refuse_strangers(path)
        with locked(path / _LOCK, str(path)):
            WorkDirectory(path).remove()


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`, which dies with its process; it locks `what`, for the message.

    A `LockedError` where another process holds it; a `StorageError` where it cannot be made, or is not this user's alone.
    """
    lock = FileLock(path, mode=0o600)
    facts_file = path.with_name(f"{path.name}.json")
    try:
        with durable.storage_errors("locking", path):
            private_files.claim(path)
            lock.acquire(blocking=False)
            facts_file.unlink(missing_ok=True)  # a dead process's: better nobody is named than a wrong one
            facts = {"pid": os.getpid(), "started_at": time.time()}
            durable.write_bytes(facts_file, json.dumps(facts).encode())
    except Timeout:
        used = f"{what} is in use by {_describe(path, facts_file)}."
        raise LockedError(used, "Wait for it to end, or stop it, then try again.") from None
    try:
        yield
    finally:
        with suppress(OSError):  # on a file system that fails now; the lock is what counts
            facts_file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def locked_store(path: Path) -> Iterator[None]:
    """Hold the lock of a kept store, as `locked` does; a `UsageError` inside leaves no store that is new."""
    lock = path.with_name(f"{path.name}.{_LOCK}")
    new = not path.exists()
    try:
        with locked(lock, f"The store {path}"):
            yield
    except UsageError:
        if new:
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        raise


def _describe(lock: Path, facts_file: Path) -> str:
    deadline = time.monotonic() + _NAMED_WITHIN_S
    while not facts_file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)  # it has taken the lock in this very moment and will say who it is
    found = holder(lock)
    if found is None:
        return "another process"
    return f"process {found.pid}, started {local_time(found.started_at):%Y-%m-%d %H:%M:%S}"


def holder(lock: Path) -> Holder | None:
    """Return who holds a lock file, or died holding it; the file is not touched."""
    try:
        facts = json.loads(lock.with_name(f"{lock.name}.json").read_bytes())
        pid, started_at = int(facts["pid"]), float(facts["started_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    alive = _is_alive(pid) if os.name == "posix" else _is_held(lock)
    return Holder(pid=pid, started_at=started_at, alive=alive)


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
