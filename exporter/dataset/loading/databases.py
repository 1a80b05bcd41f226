"""PostgreSQL, DuckDB and SQLite, each as one connection in one transaction: SQL that all take, Arrow batches in."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exporter.dataset.changes.change_schema import literal, quoted
from exporter.dataset.loading.target import kind_of
from exporter.model.catalog import Kind
from exporter.model.errors import StorageError, UsageError

_TYPES: Final = {
    Kind.TEXT: "text",
    Kind.INTEGER: "bigint",
    Kind.DECIMAL: "numeric(20,4)",
    Kind.TIMESTAMP: "timestamp with time zone",
    Kind.BOOLEAN: "boolean",
    Kind.JSON: "json",
}
_WAIT_S = 60.0


class Database:
    """PostgreSQL, by ADBC; what the other two do otherwise is theirs. None as `schema` leaves it the choice."""

    types = _TYPES
    keys_later = True
    #: Between two rows in parentheses: is any value another, or there on one side alone?
    differs = "IS DISTINCT FROM"
    updates = True
    beginning = "SELECT pg_advisory_xact_lock(hashtext('exporter_loads'))"

    def __init__(self, target: str, schema: str | None) -> None:
        self.schema = schema
        self._connection = self._connect(target)
        self._cursor = self._connection.cursor()

    def _connect(self, target: str) -> Any:
        from adbc_driver_postgresql import dbapi

        return dbapi.connect(target)

    def begin(self) -> None:
        """Let one load at a time be at work."""
        self.run(self.beginning)
        if self.schema:
            self.run(f"CREATE SCHEMA IF NOT EXISTS {quoted(self.schema)}")

    def run(self, query: str) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows where it has any."""
        self._cursor.execute(query)
        return list(self._cursor.fetchall()) if query.lstrip().startswith(("SELECT", "PRAGMA")) else []

    def name(self, table: str) -> str:
        """Return a table's name for SQL."""
        return ".".join(map(quoted, filter(None, (self.schema, table))))

    def columns(self, table: str) -> dict[str, str]:
        """Return the type of each column; nothing where there is no table."""
        query = f"""
            SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attrelid = to_regclass({literal(self.name(table))}) AND attnum > 0 AND NOT attisdropped
            ORDER BY attnum"""
        return dict(self.run(query))

    def create(self, table: str, columns: dict[str, Kind], meanings: dict[str, str]) -> None:
        """Create a table without keys, every column with its meaning."""
        self.run(f"CREATE TABLE {self.name(table)} ({self._typed(columns)})")
        for name, meaning in meanings.items():
            self.run(f"COMMENT ON COLUMN {self.name(table)}.{quoted(name)} IS {literal(meaning)}")

    def add_key(self, table: str, keys: Iterable[str]) -> None:
        """Make columns the primary key, once the rows are there: much faster than before."""
        self.run(f"ALTER TABLE {self.name(table)} ADD PRIMARY KEY ({', '.join(map(quoted, keys))})")

    def stage(self, table: str, columns: dict[str, Kind], files: list[Path]) -> None:
        """Make Parquet files a temporary table, or what can be read as one."""
        self.run(f"CREATE TEMP TABLE {table} ({self._typed(columns)})")
        self.ingest(table, files, "pg_temp")

    def ingest(self, table: str, files: list[Path], schema: str | None = None) -> None:
        """Append the rows of Parquet files."""
        reader = pa.RecordBatchReader.from_batches(_schema(files), _batches(files))
        self._cursor.adbc_ingest(table, reader, mode="append", db_schema_name=schema or self.schema)

    def _typed(self, columns: dict[str, Kind]) -> str:
        return ", ".join(f"{quoted(name)} {self.types[kind]}" for name, kind in columns.items())

    def commit(self) -> None:
        """Make everything seen at once."""
        self._connection.commit()

    def close(self) -> None:
        """Free what is open; what was not committed never was."""
        self._cursor.close()
        self._connection.close()

    def interrupt(self) -> None:
        """Make what is under way in another thread end soon, by any error."""
        self._cursor.adbc_cancel()


class _DuckDb(Database):
    types = _TYPES | {Kind.TEXT: "VARCHAR", Kind.JSON: "VARCHAR", Kind.DECIMAL: "DECIMAL(20,4)"}
    beginning = "BEGIN"
    #: It holds all updates of a transaction in memory.
    updates = False

    def _connect(self, target: str) -> Any:
        import duckdb

        # Without the last DuckDB downloads what reads another program's file.
        return duckdb.connect(
            target.removeprefix("duckdb:"),
            config={"memory_limit": "400MB", "threads": 2, "autoinstall_known_extensions": False},
        )

    def columns(self, table: str) -> dict[str, str]:
        ours = {kind.upper(): kind for kind in self.types.values()}
        found = self.run(f"""
            SELECT column_name, data_type FROM duckdb_columns() WHERE NOT internal
            AND table_name = {literal(table)} AND schema_name = {literal(self.schema or "main")}""")
        return {name: ours.get(kind, kind) for name, kind in found}

    def stage(self, table: str, columns: dict[str, Kind], files: list[Path]) -> None:
        self.run(f"CREATE TEMP VIEW {table} AS FROM {_read_by_duckdb(files)}")

    def ingest(self, table: str, files: list[Path], schema: str | None = None) -> None:
        self.run(f"INSERT INTO {self.name(table)} BY NAME FROM {_read_by_duckdb(files)}")

    def commit(self) -> None:
        self.run("COMMIT")

    def interrupt(self) -> None:
        self._cursor.interrupt()


class _Sqlite(Database):
    types = dict.fromkeys(Kind, "TEXT") | {Kind.INTEGER: "INTEGER", Kind.BOOLEAN: "INTEGER"}
    keys_later = False
    differs = "IS NOT"
    beginning = "BEGIN IMMEDIATE"

    def _connect(self, target: str) -> Any:
        if self.schema:
            raise UsageError("SQLite has no schemas.", "Give --prefix instead.", option="schema")
        path = target.removeprefix("sqlite:")
        return sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)

    def columns(self, table: str) -> dict[str, str]:
        return {name: kind for _, name, kind, *_ in self.run(f"PRAGMA table_info({quoted(table)})")}

    def create(self, table: str, columns: dict[str, Kind], meanings: dict[str, str]) -> None:
        """Create a table with its keys, for they cannot come later; the meanings are read in its SQL."""
        named = [(f"  {quoted(name)} {self.types[kind]}", name) for name, kind in columns.items()]
        lines = [f"{column}, -- {meanings.get(name, '')}" for column, name in named]
        keys = [name for name in ("number", "order_number", "item_index") if name in columns]
        key = f"  PRIMARY KEY ({', '.join(map(quoted, keys))})" if keys else lines.pop().partition(",")[0]
        self.run("\n".join([f"CREATE TABLE {quoted(table)} (", *lines, key, ")"]))

    def ingest(self, table: str, files: list[Path], schema: str | None = None) -> None:
        names = _schema(files).names
        into = f"{quoted(table)} ({', '.join(map(quoted, names))})"
        insert = f"INSERT INTO {into} VALUES ({', '.join('?' * len(names))})"
        for batch in _batches(files):
            columns = [_for_sqlite(column).to_pylist() for column in batch.columns]
            self._cursor.executemany(insert, zip(*columns, strict=True))

    def interrupt(self) -> None:
        self._connection.interrupt()


def _schema(files: list[Path]) -> pa.Schema:
    return pq.read_schema(files[0]).remove_metadata()


def _batches(files: list[Path]) -> Iterator[pa.RecordBatch]:
    return chain.from_iterable(pq.ParquetFile(file).iter_batches(16_384) for file in files)


def _read_by_duckdb(files: list[Path]) -> str:
    return f"read_parquet([{', '.join(literal(str(file)) for file in files)}])"


def _for_sqlite(column: pa.Array) -> pa.Array:
    """Give amounts as `0000000000000016.4000`, so that text sorts as numbers do, and times as ISO 8601 with `Z`."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC")).cast(pa.string())
    if not pa.types.is_decimal(column.type):
        return column
    text = column.cast(pa.string())
    digits = pc.utf8_lpad(pc.replace_substring(text, "-", ""), width=21, padding="0")
    return pc.if_else(pc.starts_with(text, "-"), pc.binary_join_element_wise("-", digits, ""), digits)


_KINDS: Final[dict[str, type[Database]]] = {"postgresql": Database, "duckdb": _DuckDb, "sqlite": _Sqlite}


def open_database(target: str, schema: str | None) -> Database:
    """Open the database that `target` names; errors as for `kind_of`."""
    return _KINDS[kind_of(target)](target, schema)


_DRIVERS = ("adbc_driver_manager", "duckdb", "_duckdb", "sqlite3")


@contextmanager
def told_errors(target: str) -> Iterator[None]:
    """Tell what a driver refuses; only the first line, for the others may quote rows."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _DRIVERS:
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = "Nothing was loaded. Correct that, then run the same command again."
        raise StorageError(f"{target}: {first}.", hint) from None
