"""A store's SQLite file: made where it is missing, opened, and refused where it is not ours or not whole."""

import sqlite3
from contextlib import closing
from pathlib import Path, PurePath
from urllib.parse import quote

from exporter.model.errors import StorageError, UsageError
from exporter.store.migration import migrate
from exporter.system import durable, private_files

STORE_VERSION = 2
_APPLICATION_ID = 0x4F4D4E45  # "OMNE": tells our store from any other SQLite file
#: The columns after `crc` are of the last good payload: a refusal that comes later leaves them as they are.
#: `source` says where it came from, `detail` or `list`; `list_digest` is that of its entry in the order list.
_CHANGED_TABLES = """
CREATE TABLE orders(
  id INTEGER PRIMARY KEY,
  number TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL,
  settled_at REAL NOT NULL,
  attempts INTEGER NOT NULL,
  http_status INTEGER,
  detail TEXT,
  crc INTEGER NOT NULL,
  order_status TEXT,
  fetched_at REAL,
  source TEXT,
  list_digest TEXT,
  payload_crc INTEGER
);
CREATE TABLE runs(
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL UNIQUE,
  out TEXT NOT NULL,
  started_at REAL NOT NULL,
  crc INTEGER NOT NULL,
  finished_at REAL,
  sent INTEGER NOT NULL DEFAULT 0,
  retried INTEGER NOT NULL DEFAULT 0,
  throttled INTEGER NOT NULL DEFAULT 0,
  redirected INTEGER NOT NULL DEFAULT 0,
  answered_at REAL
);
"""
_SET_VERSION = f"PRAGMA user_version = {STORE_VERSION};"
_SCHEMA = f"""
{_CHANGED_TABLES}
CREATE TABLE payloads(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE meta(key TEXT PRIMARY KEY, value);
PRAGMA application_id = {_APPLICATION_ID};
{_SET_VERSION}
"""
#: FULL: a commit survives a power cut, not only a killed process; a few fsyncs a second cost nothing. On macOS an fsync
#: alone leaves the bytes in the disk's cache. Random order numbers touch a thousand pages of their index with each
#: commit: let four commits share a checkpoint. At 600,000 orders it saves a tenth of a commit's CPU and a seventh of
#: its time (2026-11-24). The limit is so many pages of SQLite's own size.
_SET_UP = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 16384000;
"""
_PATIENCE_S = 90.0  # a copy of the store, or a look into it, may hold it for a minute
_TABLES = {"orders", "payloads", "runs", "meta"}


class StoreFile:
    """An open file that is a store; arguments and errors are those of `exporter.store.order_store.Store`."""

    def __init__(self, path: Path, api_url: str | None = None, *, readonly: bool = False) -> None:
        self.path = path
        with durable.storage_errors("opening the store", path):
            self.connection = _connect(path, readonly=readonly)
            try:
                self._identity = _identity(path)
                self._check_ours()
                if not readonly:
                    self.connection.executescript(_SET_UP)
                    if self._is_empty():
                        # One transaction: a kill in between leaves an empty file, which the next run fills again.
                        self._make(f"BEGIN IMMEDIATE; {_SCHEMA}", api_url)
                self._check_version(readonly=readonly)
                if api_url is not None and self.meta("api_url") != api_url:
                    self._change_hands(api_url, readonly=readonly)
                if not readonly:
                    _refuse_foreign(path)  # now with what SQLite has opened beside it
            except BaseException:
                self.connection.close()
                raise

    def set_meta(self, key: str, value: object) -> None:
        """Remember a fact about the whole store."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def meta(self, key: str) -> object:
        """Return a fact about the whole store; None where it has none of that name."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_dictionary(self, dictionary: bytes, learnt_from: str) -> None:
        """Remember the dictionary of its payloads, and the orders that it was learnt from, as JSON."""
        self.set_meta("learnt_from", learnt_from)
        self.set_meta("dictionary", dictionary)

    def check_place(self) -> None:
        """Raise where the file was moved or removed: SQLite would keep writing to what nobody finds again."""
        if _identity(self.path) != self._identity:
            what = f"{self.path}: the store was moved or removed during the run."
            raise StorageError(what, "Put it back, then run the same command again to resume.")

    def corrupt(self, how: str) -> StorageError:
        """Return the error that names this store, how it is broken, and what to do."""
        return StorageError(f"{self.path}: the store is corrupt: {how}.", f"{durable.BROKEN} Check the disk.")

    def _check_version(self, *, readonly: bool) -> None:
        version = self._pragma("user_version")
        if version == STORE_VERSION:
            return
        if readonly and version < STORE_VERSION:
            what = f"{self.path}: a store of version {version}, which the next run brings to {STORE_VERSION}."
            raise UsageError(what, "Run the exporter with it first.")
        if not migrate(self.connection, version, _CHANGED_TABLES, _SET_VERSION):
            what = f"{self.path}: expected store version {STORE_VERSION} or older, got {version}."
            raise UsageError(what, "Use the exporter that wrote it, or a newer one.")
        durable.step("commit")

    def _change_hands(self, api_url: str, *, readonly: bool) -> None:
        """Take a store over for another API, where nothing in it came from the one before."""
        if self.connection.execute("SELECT 1 FROM payloads").fetchone():
            what = f"{self.path}: this store belongs to {self.meta('api_url')}, got {api_url}."
            raise UsageError(what, "Give the API it belongs to, or another --store or --out.")
        if not readonly:
            self._make("BEGIN IMMEDIATE; DELETE FROM orders; DELETE FROM runs;", api_url)

    def _check_ours(self) -> None:
        """Refuse somebody else's database before a byte of it changes."""
        if self._pragma("application_id") != _APPLICATION_ID and not self._is_empty():
            what = f"{self.path}: expected a store of this program, got another SQLite file."
            raise UsageError(what, "Give another --store path.")

    def check(self) -> None:
        """Raise where it is damaged; see `exporter.store.order_store.Store.check`."""
        tables = dict(self.connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        if tables.keys() != _TABLES or any(sql not in _SCHEMA for sql in tables.values()):
            raise self.corrupt("its tables are not as they were made")
        (problem,) = self.connection.execute("PRAGMA quick_check('orders')").fetchone()
        if problem != "ok":
            raise self.corrupt(problem.rstrip("."))
        if self.meta("dictionary") is None and self.connection.execute("SELECT 1 FROM payloads").fetchone():
            raise self.corrupt("the dictionary of its payloads is missing")

    def _is_empty(self) -> bool:
        return bool(self.connection.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])

    def _pragma(self, name: str) -> int:
        return int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _make(self, script: str, api_url: str | None) -> None:
        self.connection.executescript(script)
        self.set_meta("api_url", api_url)
        self.connection.execute("COMMIT")
        durable.step("commit")


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells this file from another of the same name."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    if not readonly:
        private_files.claim(path)
        _refuse_foreign(path)
    # `check_same_thread` is off because one worker thread owns it after the main thread opened it.
    return sqlite3.connect(
        uri_to_look_at(path) if readonly else f"{file_uri(path.absolute())}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_PATIENCE_S,
    )


def _refuse_foreign(path: Path) -> None:
    """Refuse what somebody else made beside a store: SQLite would believe it, and write payloads into it."""
    for ending in ("-journal", "-wal", "-shm"):
        private_files.refuse_foreign(Path(f"{path}{ending}"))


def is_begun(path: Path) -> bool:
    """Return whether a store is there whose tables are made: a run may have been killed before that."""
    if not path.is_file():
        return False
    with (
        durable.storage_errors("opening the store", path),
        closing(sqlite3.connect(uri_to_look_at(path), uri=True)) as connection,
    ):
        return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def uri_to_look_at(path: Path) -> str:
    """Return the URI that opens a store for looking only, and leaves no file beside it."""
    at_work = path.with_name(f"{path.name}-wal").exists()
    # At rest it cannot change: without this, SQLite makes a -wal and a -shm, and may not remove them.
    return f"{file_uri(path.absolute())}?mode=ro{'' if at_work else '&immutable=1'}"


def file_uri(path: PurePath) -> str:
    """Return the URI that SQLite opens a file by; a Windows share has two slashes more than `as_uri` gives it.

    >>> from pathlib import PureWindowsPath
    >>> file_uri(PureWindowsPath(r"\\\\server\\share\\a b.db"))
    'file:////server/share/a%20b.db'
    """
    return f"file://{'' if path.as_posix().startswith('/') else '/'}{quote(path.as_posix())}"
