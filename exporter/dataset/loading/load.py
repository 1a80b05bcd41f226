"""One dataset into one database: one transaction, all or nothing, and the same dataset twice is loaded once."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from exporter.dataset.changes.change_schema import literal, quoted
from exporter.dataset.loading.databases import Database, open_database, told_errors
from exporter.dataset.local_tables import LocalDataset
from exporter.model.catalog import TABLES, Kind
from exporter.model.column_selection import KEYS
from exporter.model.errors import InputError, UsageError
from exporter.model.manifest import encode
from exporter.system import durable

_GONE = "_gone_at"
_LOADS = {
    **dict.fromkeys(("run_id", "digest", "mode"), Kind.TEXT),
    **dict.fromkeys(("orders", "order_items", "gone"), Kind.INTEGER),
    "loaded_at": Kind.TIMESTAMP,
}
_NAMES = ("orders", "order_items")
_SAME_KEY = {name: " AND ".join(f"there.{key} = here.{key}" for key in KEYS[name]) for name in _NAMES}


@dataclass(frozen=True)
class Loaded:
    """What a load did; `before` is when the same dataset was loaded before, so that nothing was to do."""

    target: str
    orders: int
    order_items: int
    gone: int = 0
    before: str | None = None

    def __str__(self) -> str:
        if self.before is not None:
            return f"Nothing to do: this dataset was loaded at {self.before} into {self.target}."
        gone = f"; {self.gone:,} orders marked as gone" if self.gone else ""
        return f"Loaded {self.orders:,} orders and {self.order_items:,} items into {self.target}{gone}."


@dataclass(kw_only=True)
class Load:
    """One load; see `exporter load`. `begun` is told of the database, to interrupt it."""

    dataset: LocalDataset
    target: str
    schema: str | None = None
    prefix: str = ""
    replace: bool = False
    mark_gone: bool = False
    begun: Callable[[Database], object] = lambda _: None

    def run(self) -> Loaded:
        """Load the dataset; a `UsageError` where a table that is there cannot take part."""
        if missing := [name for name in _NAMES if name not in self.dataset.manifest.tables]:
            what = f"expected the tables orders and order_items, got no {' and no '.join(missing)}."
            raise InputError(f"{self.dataset.place}: {what}", "Export with --tables orders,order_items.")
        with told_errors(self.target), closing(open_database(self.target, self.schema)) as self._database:
            self.begun(self._database)
            self._run, self._types = self._database.run, self._database.types
            self._files = {name: self.dataset.parquet(name) for name in _NAMES}
            self._fields = {name: pq.read_schema(files[0]) for name, files in self._files.items()}
            mode = f"{'replace' if self.replace else 'upsert'}{' mark-gone' * self.mark_gone}"
            digest = hashlib.sha256(encode(self.dataset.manifest)).hexdigest()
            self._this = self.dataset.manifest.run_id, digest, mode
            return self._loaded()

    def _loaded(self) -> Loaded:
        self._database.begin()
        before, counts = self._loaded_before(), self.dataset.manifest.counts
        told = Loaded(self.target, counts.exported, counts.order_items, before=before)
        if before is not None:
            return told
        new = [name for name in _NAMES if self._prepare(name)]
        for name in _NAMES if self.replace else ():
            self._run(f"DELETE FROM {self._name(name)}")
        if self._run(f"SELECT 1 FROM {self._name('orders')} LIMIT 1"):
            self._merge()
        else:
            for name in _NAMES:
                self._database.ingest(self.prefix + name, self._files[name])
        for name in new if self._database.keys_later else ():
            self._database.add_key(self.prefix + name, KEYS[name])
        told = replaced(told, gone=self._mark() if self.mark_gone else 0)
        self._note(told)
        self._database.commit()
        return told

    def _name(self, table: str) -> str:
        return self._database.name(self.prefix + table)

    def _loaded_before(self) -> str | None:
        if not self._database.columns(f"{self.prefix}exporter_loads"):
            self._database.create(f"{self.prefix}exporter_loads", _LOADS, {})
            return None
        loaded_at = f"CAST(loaded_at AS {self._types[Kind.TEXT]})"
        listed = f"SELECT run_id, digest, mode, {loaded_at} FROM {self._name('exporter_loads')}"
        loads = self._run(f"{listed} ORDER BY loaded_at")
        # What was replaced by a later load is no longer there: it is loaded again.
        fitting = loads[-1:] if self.replace else loads
        return next((str(at) for *load, at in fitting if tuple(load) == self._this), None)

    def _note(self, told: Loaded) -> None:
        counts = (str(getattr(told, name)) for name in (*_NAMES, "gone"))
        facts = ", ".join((*map(literal, self._this), *counts, _moment(datetime.now(UTC))))
        self._run(f"INSERT INTO {self._name('exporter_loads')} VALUES ({facts})")

    def _prepare(self, table: str) -> bool:
        """Create a table, or check it and add the columns that it lacks; tell whether it is new."""
        known = {column.name: column for column in TABLES[table]}
        columns = {name: known[name].kind for name in self._fields[table].names}
        meanings = {name: known[name].meaning for name in columns}
        if table == "orders":
            columns[_GONE] = Kind.TIMESTAMP
            meanings[_GONE] = "When a load with --mark-gone found that the API no longer has it"
        there = self._database.columns(self.prefix + table)
        if not there:
            self._database.create(self.prefix + table, columns, meanings)
            return True
        wrong = []
        for name, kind in there.items():
            if name not in columns:
                whose = "the dataset lacks it" if name in known else "it is not the exporter's"
                wrong.append(f"column {name}: {whose}")
            elif kind != (expected := self._types[columns[name]]):
                wrong.append(f"column {name}: expected {expected}, got {kind}")
        wrong += [f"its key {key} is missing" for key in KEYS[table] if key not in there]
        if wrong:
            what = f"The table {self._name(table)} is not as this dataset needs it: {'; '.join(wrong)}."
            hint = "Give another --schema or --prefix, or export the columns that the table has."
            raise UsageError(what, hint)
        for name in columns.keys() - there.keys():
            kind = self._types[columns[name]]
            self._run(f"ALTER TABLE {self._name(table)} ADD COLUMN {quoted(name)} {kind}")
        return False

    def _merge(self) -> None:
        """Put the rows in their places that are new or other than there; remove the items that orders no longer have."""
        for name in _NAMES:
            kinds = {column.name: column.kind for column in TABLES[name]}
            columns = {field: kinds[field] for field in self._fields[name].names}
            self._database.stage(f"exporter_staged_{name}", columns, self._files[name])
            self._find_changed(name)
            self._put_changed(name)

    def _find_changed(self, table: str) -> None:
        """Note the keys of the rows that are new, other or left over."""
        there, here = (", ".join(self._compared(table, side)) for side in ("there", "here"))
        rows = f"""
            exporter_staged_{table} AS here LEFT JOIN {self._name(table)} AS there ON {_SAME_KEY[table]}
            WHERE ({there}) {self._database.differs} ({here})"""
        if table == "orders":
            self._run(
                f"CREATE TEMP TABLE exporter_changed_orders AS SELECT here.number FROM {rows} OR {_GONE} IS NOT NULL"
            )
            return
        keys = "SELECT {0}.order_number, {0}.item_index FROM"
        self._run(f"CREATE TEMP TABLE exporter_changed_order_items AS {keys.format('here')} {rows}")
        self._run(f"""
            INSERT INTO exporter_changed_order_items {keys.format("there")} {self._name(table)} AS there
            LEFT JOIN exporter_staged_order_items AS here ON {_SAME_KEY[table]}
            WHERE here.order_number IS NULL AND there.order_number IN (SELECT number FROM exporter_staged_orders)""")

    def _put_changed(self, table: str) -> None:
        into, names, keys = (
            self._name(table),
            list(map(quoted, self._fields[table].names)),
            ", ".join(KEYS[table]),
        )
        changed, listed = f"({keys}) IN (SELECT {keys} FROM exporter_changed_{table})", ", ".join(names)
        insert = f"INSERT INTO {into} ({listed}) SELECT {listed} FROM exporter_staged_{table} WHERE {changed}"
        if table == "orders" and self._database.updates:
            updates = ", ".join([*(f"{name} = excluded.{name}" for name in names), f"{_GONE} = NULL"])
            self._run(f"{insert} ON CONFLICT (number) DO UPDATE SET {updates}")
        else:
            self._run(f"DELETE FROM {into} WHERE {changed}")
            self._run(insert)

    def _compared(self, table: str, side: str) -> Iterator[str]:
        json = {column.name for column in TABLES[table] if column.kind is Kind.JSON}
        for name in self._fields[table].names:
            column = f"{side}.{quoted(name)}"
            # PostgreSQL's type json has no equality.
            yield f"CAST({column} AS text)" if name in json else column

    def _mark(self) -> int:
        """Mark the orders that the API no longer has, unless they are marked already."""
        gone = [number for number, reason in self.dataset.rejects().items() if reason == "not_found"]
        file = self.dataset.scratch / "gone.parquet"
        with durable.storage_errors("writing the numbers of gone orders", file):
            pq.write_table(pa.table({"number": pa.array(gone, pa.string())}), file)
        self._database.stage("exporter_staged_gone", {"number": Kind.TEXT}, [file])
        where = f"{_GONE} IS NULL AND number IN (SELECT number FROM exporter_staged_gone)"
        (count,) = self._run(f"SELECT count(*) FROM {self._name('orders')} WHERE {where}")[0]
        at = _moment(datetime.fromisoformat(self.dataset.manifest.finished_at))
        self._run(f"UPDATE {self._name('orders')} SET {_GONE} = {at} WHERE {where}")
        return int(count)


def _moment(at: datetime) -> str:
    return literal(f"{at:%Y-%m-%d %H:%M:%S.%fZ}")
