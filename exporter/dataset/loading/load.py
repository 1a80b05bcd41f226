"""One dataset into one database: one transaction, all or nothing, and the same dataset twice is loaded once."""

from __future__ import annotations

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
from exporter.model.catalog import TABLES, Column, Kind
from exporter.model.column_selection import KEYS
from exporter.model.errors import InputError, UsageError
from exporter.model.manifest import encode

_GONE = "_gone_at"
_LOADS = {
    **dict.fromkeys(("run_id", "digest", "mode"), Kind.TEXT),
    **dict.fromkeys(("orders", "order_items", "gone"), Kind.INTEGER),
    "loaded_at": Kind.TIMESTAMP,
}
_NAMES = ("orders", "order_items")


@dataclass(frozen=True, kw_only=True)
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


def load(
    dataset: LocalDataset,
    target: str,
    *,
    schema: str | None = None,
    prefix: str = "",
    replace: bool = False,
    mark_gone: bool = False,
    begun: Callable[[Database], object] = lambda _: None,
) -> Loaded:
    """Load a dataset; see `exporter load`. A `UsageError` where a table that is there cannot take part."""
    missing = [name for name in _NAMES if name not in dataset.manifest.tables]
    if missing:
        raise InputError(
            f"{dataset.place}: expected the tables orders and order_items, got no {' and no '.join(missing)}.",
            "Export with --tables orders,order_items.",
        )
    with told_errors(target), closing(open_database(target, schema)) as database:
        begun(database)
        return _Load(database, dataset, prefix, replace=replace, mark_gone=mark_gone).run(target)


class _Load:
    def __init__(
        self, database: Database, dataset: LocalDataset, prefix: str, *, replace: bool, mark_gone: bool
    ) -> None:
        self._database, self._dataset, self._prefix = database, dataset, prefix
        self._run, self._types = database.run, database.types
        self._replace, self._mark_gone = replace, mark_gone
        self._files = {name: dataset.parquet(name) for name in _NAMES}
        self._fields = {name: pq.read_schema(files[0]) for name, files in self._files.items()}
        mode = " ".join(filter(None, ("replace" if replace else "upsert", "mark-gone" * mark_gone)))
        self._this = dataset.manifest.run_id, hashlib.sha256(encode(dataset.manifest)).hexdigest(), mode

    def run(self, target: str) -> Loaded:
        self._database.begin()
        before, counts = self._loaded_before(), self._dataset.manifest.counts
        told = Loaded(target=target, orders=counts.exported, order_items=counts.order_items, before=before)
        if before is not None:
            return told
        new = [name for name in _NAMES if self._prepare(name)]
        if self._replace:
            for name in _NAMES:
                self._run(f"DELETE FROM {self._name(name)}")
        if self._run(f"SELECT 1 FROM {self._name('orders')} LIMIT 1"):
            self._merge()
        else:
            for name in _NAMES:
                self._ingest(self._prefix + name, name)
        for name in new if self._database.keys_later else ():
            self._database.add_key(self._prefix + name, KEYS[name])
        told = replaced(told, gone=self._mark() if self._mark_gone else 0)
        self._note(told)
        self._database.commit()
        return told

    def _name(self, table: str) -> str:
        return self._database.name(self._prefix + table)

    def _loaded_before(self) -> str | None:
        if not self._database.columns(f"{self._prefix}exporter_loads"):
            self._database.create(f"{self._prefix}exporter_loads", _LOADS, {})
            return None
        loads = self._run(
            f"SELECT run_id, digest, mode, CAST(loaded_at AS {self._types[Kind.TEXT]})"
            f" FROM {self._name('exporter_loads')} ORDER BY loaded_at"
        )
        # What was replaced by a later load is no longer there: it is loaded anew.
        fitting = loads[-1:] if self._replace else loads
        return next((str(at) for *load, at in fitting if tuple(load) == self._this), None)

    def _note(self, told: Loaded) -> None:
        facts = ", ".join(
            (*map(literal, self._this), *(str(getattr(told, name)) for name in (*_NAMES, "gone")))
        )
        self._run(
            f"INSERT INTO {self._name('exporter_loads')} VALUES ({facts}, {_moment(datetime.now(UTC))})"
        )

    def _prepare(self, table: str) -> bool:
        """Create a table, or check it and add the columns that it lacks; tell whether it is new."""
        known = {column.name: column for column in TABLES[table]}
        columns = {name: known[name].kind for name in self._fields[table].names}
        meanings = {name: known[name].meaning for name in columns}
        if table == "orders":
            columns[_GONE] = Kind.TIMESTAMP
            meanings[_GONE] = "When a load with --mark-gone found that the API no longer has it"
        there = self._database.columns(self._prefix + table)
        if not there:
            self._database.create(self._prefix + table, columns, meanings)
            return True
        wrong = list(self._wrong(there, columns, known))
        wrong += [f"its key {key} is missing" for key in KEYS[table] if key not in there]
        if wrong:
            raise UsageError(
                f"The table {self._name(table)} is not as this dataset needs it: {'; '.join(wrong)}.",
                "Give another --schema or --prefix, or export the columns that the table has.",
            )
        for name in columns.keys() - there.keys():
            kind = self._types[columns[name]]
            self._run(f"ALTER TABLE {self._name(table)} ADD COLUMN {quoted(name)} {kind}")
        return False

    def _wrong(
        self, there: dict[str, str], columns: dict[str, Kind], known: dict[str, Column]
    ) -> Iterator[str]:
        for name, kind in there.items():
            if name not in columns:
                whose = "the dataset lacks it" if name in known else "it is not the exporter's"
                yield f"column {name}: {whose}"
            elif kind != (expected := self._types[columns[name]]):
                yield f"column {name}: expected {expected}, got {kind}"

    def _ingest(self, into: str, table: str) -> None:
        batches = (
            batch for path in self._files[table] for batch in pq.ParquetFile(path).iter_batches(16_384)
        )
        self._database.ingest(into, self._fields[table].remove_metadata(), batches)

    def _merge(self) -> None:
        """Put the rows beside the tables first, then in their places: orders by number, their items as a whole."""
        for name in _NAMES:
            kinds = {column.name: self._types[column.kind] for column in TABLES[name]}
            listed = ", ".join(f"{quoted(field)} {kinds[field]}" for field in self._fields[name].names)
            self._run(f"CREATE TEMP TABLE exporter_staged_{name} ({listed})")
            self._ingest(f"exporter_staged_{name}", name)
        orders, items = (", ".join(map(quoted, self._fields[name].names)) for name in _NAMES)
        others = map(quoted, (name for name in self._fields["orders"].names if name != "number"))
        changes = ", ".join([*(f"{name} = excluded.{name}" for name in others), f"{_GONE} = NULL"])
        self._run(
            f"INSERT INTO {self._name('orders')} ({orders}) SELECT {orders}"
            f" FROM exporter_staged_orders WHERE true ON CONFLICT (number) DO UPDATE SET {changes}"
        )
        into = self._name("order_items")
        self._run(f"DELETE FROM {into} WHERE order_number IN (SELECT number FROM exporter_staged_orders)")
        self._run(f"INSERT INTO {into} ({items}) SELECT {items} FROM exporter_staged_order_items")

    def _mark(self) -> int:
        """Mark the orders that the API no longer has, unless they are marked already."""
        gone = [number for number, reason in self._dataset.rejects().items() if reason == "not_found"]
        self._run(f"CREATE TEMP TABLE exporter_staged_gone (number {self._types[Kind.TEXT]})")
        numbers = pa.record_batch([pa.array(gone, pa.string())], names=["number"])
        self._database.ingest("exporter_staged_gone", numbers.schema, [numbers])
        where = f"{_GONE} IS NULL AND number IN (SELECT number FROM exporter_staged_gone)"
        (count,) = self._run(f"SELECT count(*) FROM {self._name('orders')} WHERE {where}")[0]
        at = _moment(datetime.fromisoformat(self._dataset.manifest.finished_at))
        self._run(f"UPDATE {self._name('orders')} SET {_GONE} = {at} WHERE {where}")
        return int(count)


def _moment(at: datetime) -> str:
    return literal(f"{at:%Y-%m-%d %H:%M:%S.%fZ}")
