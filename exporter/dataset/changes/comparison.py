"""Two datasets compared by DuckDB: which orders differ, then what differs in them, column by column.

A first pass reads every column once and keeps of each order its place and a 64-bit hash of its row and of its
items; where the hashes are the same, the order is taken for the same (of a million changed orders, one is
missed with a chance of 1 in 10^13). Only what differs is read again, some thousand orders at a time, and
compared value by value. What does not fit in memory goes to the disk.
"""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from exporter.dataset.changes.change_schema import (
    CHANGE_TYPE,
    CHANGES_SCHEMA,
    GATHERED,
    SELECT_CHANGES,
    column_changes,
    literal,
    quoted,
)
from exporter.dataset.dataset_writer import DatasetWriter
from exporter.dataset.flatten.arrow_schema import SCHEMAS
from exporter.dataset.local_tables import LocalDataset, fields_of
from exporter.model import manifest
from exporter.model.catalog import TABLES, Kind
from exporter.model.column_selection import KEYS
from exporter.model.errors import InputError, StorageError
from exporter.model.manifest import Changes, Manifest, TableFiles
from exporter.model.options import TableOptions, part_of
from exporter.model.records import PartFile

_MEMORY = "192MB"
#: Orders that differ, read and compared at a time.
_AT_ONCE = 20_000
_BATCH = 50_000
_SIDES = ("old", "new")


class Comparison(AbstractContextManager["Comparison"]):
    """A comparison of two datasets, with `only` of this order alone; without an older one, nothing has changed.

    What does not fit in memory goes into the folder `scratch`. An `InputError` where a dataset has no orders.
    """

    def __init__(
        self, old: LocalDataset | None, new: LocalDataset, scratch: Path, only: str | None = None
    ) -> None:
        self._old, self._new, self._only = old, new, only
        spilled = {"memory_limit": _MEMORY, "temp_directory": str(scratch / "spilled")}
        self._database = duckdb.connect(config={**spilled, "threads": 2, "preserve_insertion_order": False})
        self._do, self.interrupt = self._database.execute, self._database.interrupt
        self._types: dict[str, dict[str, dict[str, str]]] = {}
        self._common: dict[str, list[str]] = {}  # of each table the columns to compare, the keys apart
        self._left_out: dict[str, list[str]] = {}
        self._by_position = 0

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def run(self) -> Changes:
        """Compare, and return what differs in counts; the rows can be read then."""
        try:
            self._do(GATHERED)
            if self._old is not None:
                self._compare(self._old)
            return self._counts()
        except duckdb.OutOfMemoryException as error:
            what = f"Comparing {self._new.place} needs more memory or more room for temporary files: {error}."
            raise StorageError(what, "Make room, then run: exporter changes.") from None

    def write(self, folder: Path, options: TableOptions, *, full: bool) -> dict[str, TableFiles]:
        """Write what differs into a folder, with `full` the whole rows too; return the files of each table."""
        tables = {"changes": (CHANGES_SCHEMA, self.rows())}
        if full:
            tables["changed_orders"] = self._whole_rows()
        options = TableOptions(**part_of(options, TableOptions) | {"rows_per_file": None})
        files: dict[str, list[PartFile]] = {}
        for name, (schema, rows) in tables.items():
            with DatasetWriter(folder, {name: schema}, options, {}, name) as writer:
                for table in rows:
                    writer.add({name: table})
                    writer.end_row_group()
                files |= writer.close({})
        return {name: manifest.table_of(parts) for name, parts in files.items()}

    def rows(self) -> Iterator[pa.Table]:
        """Yield the table of changes, a batch at a time: changed and gone orders as they stood, then new ones."""
        *names, before, after = CHANGES_SCHEMA.names
        since = literal(self._old.manifest.started_at) if self._old else "NULL"
        until = literal(self._new.manifest.finished_at) if self._old else "NULL"
        seen = f"{since}::TIMESTAMPTZ AS {before}, {until}::TIMESTAMPTZ AS {after}"
        rows = f"({SELECT_CHANGES}) ORDER BY part, seq, item, place"
        return self._tables(f"SELECT {_listed(names)}, {seen} FROM {rows}", CHANGES_SCHEMA)

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return self._database.sql(query).fetchall()

    def _tables(self, query: str, schema: pa.Schema) -> Iterator[pa.Table]:
        for batch in self._database.sql(query).to_arrow_reader(_BATCH):
            yield pa.Table.from_batches([batch]).cast(schema)

    def _open(self, side: str, dataset: LocalDataset) -> None:
        self._types[side] = {}
        for table in ("orders", "order_items"):
            if files := dataset.parquet(table):
                rows = f"FROM read_parquet([{', '.join(literal(str(path)) for path in files)}])"
                one = f"WHERE {KEYS[table][0]} = {literal(self._only)}" if self._only is not None else ""
                places = "file_index::BIGINT AS file_index, file_row_number"
                self._do(f"CREATE VIEW {side}_{table} AS SELECT *, {places} {rows} {one}")
                described = self._all(f"DESCRIBE SELECT * {rows}")
                self._types[side][table] = {name: kind for name, kind, *_ in described}
            elif table == "orders":
                what = f"{dataset.place}: expected the table orders, got a dataset without it."
                raise InputError(what, "Export with --tables orders,order_items.")
        rejects = dataset.rejects()
        texts = [pa.array(each, pa.string()) for each in (list(rejects), list(rejects.values()))]
        self._database.register("handed", pa.table(texts, ["number", "reason"]))
        self._do(f"CREATE TEMP TABLE {side}_rejects AS SELECT * FROM handed")

    def _compare(self, old: LocalDataset) -> None:
        self._open("old", old)
        self._open("new", self._new)
        hidden = _hidden(old.manifest, self._new.manifest)
        for table in (table for table in self._types["old"] if table in self._types["new"]):
            before, now, keys = self._types["old"][table], self._types["new"][table], KEYS[table]
            common = [n for n, kind in now.items() if before.get(n) == kind and (table, n) not in hidden]
            self._left_out[table] = sorted({*before, *now} - {*common, *keys})
            self._common[table] = [name for name in common if name not in keys]
        self._with_items = "order_items" in self._common
        self._with_ids = self._with_items and "id" in self._common["order_items"]
        self._look_through()
        for first in range(0, self._count("pairs"), _AT_ONCE):
            self._compare_some(first)
        self._gather_alone()

    def _look_through(self) -> None:
        """Note each order's place and hash, and find the orders that differ."""
        for side in _SIDES:
            columns = _listed(["number", *self._common["orders"]])
            self._do(f"""
                CREATE TEMP TABLE {side}_seen AS
                SELECT number, file_index AS file, file_row_number AS place, hash({columns}) AS h FROM {side}_orders""")
            items = f"SELECT *, file AS last_file, place AS last_place FROM {side}_seen WHERE false"
            if self._with_items:
                place = "CASE WHEN id IS NULL THEN item_index END" if self._with_ids else "item_index"
                items = f"""
                    SELECT order_number AS number, sum(hash({_listed([*self._common["order_items"]])}, {place})) AS h,
                        min(file_index) AS file, max(file_index) AS last_file,
                        min(file_row_number) AS place, max(file_row_number) AS last_place
                    FROM {side}_order_items GROUP BY order_number"""
            self._do(f"CREATE TEMP TABLE {side}_items_seen AS {items}")
        places = [f"{side}_i.{each} AS {side}_items_{each}" for side in _SIDES for each in _ITEM_PLACES]
        self._do(f"""
            CREATE TEMP TABLE pairs AS
            SELECT row_number() OVER (ORDER BY o.file, o.place) - 1 AS seq, o.number,
                o.file AS old_file, o.place AS old_place, n.file AS new_file, n.place AS new_place,
                old_i.h IS DISTINCT FROM new_i.h AS items_differ, {", ".join(places)}
            FROM old_seen AS o JOIN new_seen AS n USING (number)
                LEFT JOIN old_items_seen AS old_i ON old_i.number = o.number
                LEFT JOIN new_items_seen AS new_i ON new_i.number = o.number
            WHERE o.h <> n.h OR items_differ""")

    def _compare_some(self, first: int) -> None:
        self._do(f"""
            CREATE OR REPLACE TEMP TABLE batch AS
            SELECT * FROM pairs WHERE seq BETWEEN {first} AND {first + _AT_ONCE - 1}""")
        for side in _SIDES:
            self._read_some(side, "orders", "batch", f"{side}_", "")
        self._do(f"""
            CREATE OR REPLACE TEMP TABLE joined AS
            SELECT seq, -1 AS item, number AS order_number, NULL::BIGINT AS item_id, {self._both_columns("orders")}
            FROM batch JOIN old_batch_orders AS o USING (number) JOIN new_batch_orders AS n USING (number)""")
        self._gather_columns("orders", "currency")
        if self._with_items:
            self._compare_items()

    def _read_some(self, side: str, table: str, orders: str, of: str, last: str) -> None:
        """Read the rows of some orders; their places let DuckDB pass over most of the files."""
        places = f"min({of}file), max({of}{last}file), min({of}place), max({of}{last}place)"
        ((low_file, high_file, low, high),) = self._all(f"SELECT {places} FROM {orders}")
        where = f"file_index BETWEEN {low_file} AND {high_file} AND file_row_number BETWEEN {low} AND {high}"
        self._do(f"""
            CREATE OR REPLACE TEMP TABLE {side}_batch_{table} AS SELECT * FROM {side}_{table}
            WHERE {"false" if low is None else where} AND {KEYS[table][0]} IN (SELECT number FROM {orders})""")

    def _compare_items(self) -> None:
        for side in _SIDES:
            self._read_some(side, "order_items", "(FROM batch WHERE items_differ)", f"{side}_items_", "last_")
        item_id = "id" if self._with_ids else "NULL::BIGINT"
        columns = _listed(["order_number", *self._common["order_items"]])
        for side in _SIDES:
            # Of items with one id, those that are the same on both sides are no change, wherever they stand.
            self._do(f"""
                CREATE OR REPLACE TEMP TABLE {side}_numbered AS
                SELECT *, {item_id} AS item_id, CASE WHEN item_id IS NOT NULL THEN hash({columns}) END AS h,
                    row_number() OVER (PARTITION BY order_number, item_id, h ORDER BY item_index) AS same
                FROM {side}_batch_order_items""")
        for side, other in (_SIDES, _SIDES[::-1]):
            self._do(f"""
                CREATE OR REPLACE TEMP TABLE {side}_left AS
                SELECT *, row_number() OVER (PARTITION BY order_number, item_id ORDER BY item_index) AS turn
                FROM {side}_numbered AS one WHERE NOT EXISTS (
                    SELECT 1 FROM {other}_numbered AS other WHERE other.order_number = one.order_number
                    AND other.item_id = one.item_id AND other.h = one.h AND other.same = one.same)""")
        self._do(f"""
            CREATE OR REPLACE TEMP TABLE joined AS
            SELECT seq, coalesce(n.item_index, o.item_index) AS item, batch.number AS order_number,
                coalesce(n.item_id, o.item_id) AS item_id, o.item_index IS NULL AS added,
                n.item_index IS NULL AS removed, {self._both_columns("order_items")}
            FROM old_left AS o FULL JOIN new_left AS n ON o.order_number = n.order_number
                AND o.item_id IS NOT DISTINCT FROM n.item_id AND o.turn = n.turn
            JOIN batch ON batch.number = coalesce(n.order_number, o.order_number)""")
        self._by_position += self._count("(SELECT DISTINCT order_number FROM joined WHERE item_id IS NULL)")
        self._gather_whole_items()
        self._do("DELETE FROM joined WHERE added OR removed")
        self._gather_columns("order_items", "price_currency")

    def _both_columns(self, table: str) -> str:
        return ", ".join(
            f"{row}.{quoted(name)} AS {quoted(f'{side}.{name}')}"
            for row, side in zip("on", _SIDES, strict=True)
            for name in self._common[table] or KEYS[table][:1]
        )

    def _gather_columns(self, table: str, currency: str) -> None:
        types, names = self._types["new"][table], self._common[table]
        of = currency if currency in names else None
        queries = [column_changes(table, at, name, types[name], of) for at, name in enumerate(names)]
        if queries:
            self._do(f"INSERT INTO gathered {' UNION ALL '.join(queries)}")

    def _gather_whole_items(self) -> None:
        for side, change in (("old", "removed"), ("new", "added")):
            have = [f"{side}.{name}" for name in self._common["order_items"]]
            amounts, currency = _amounts(side, have, f"{side}.price", f"{side}.price_currency")
            self._do(f"""
                INSERT INTO gathered
                SELECT 0, seq, item, -1, order_number, item_id, 'order', 'item_{change}', CASE WHEN item_id IS NULL
                    THEN format('order_items[{{}}]', item) END, NULL, NULL, {amounts}, {currency}, {currency}
                FROM joined WHERE {change}""")

    def _gather_alone(self) -> None:
        """Gather the orders that one side alone has rows of, as far as the other tells why."""
        for part, side, other, whole, unknown in (
            (1, "old", "new", "gone", "NULL"),
            (2, "new", "old", "returned", "'new'"),
        ):
            amounts, currency = _amounts(side, self._types[side]["orders"], "amount", "currency")
            self._do(f"""
                CREATE TEMP TABLE {side}_alone AS
                SELECT row_number() OVER (ORDER BY file, place) AS seq, number, reason,
                    CASE WHEN reason = 'not_found' THEN '{whole}' WHEN reason IS NULL THEN {unknown} END AS change
                FROM (SELECT * FROM {side}_seen ANTI JOIN {other}_seen USING (number))
                LEFT JOIN {other}_rejects USING (number)""")
            self._do(f"""
                INSERT INTO gathered
                SELECT {part}, seq, -1, -1, number, NULL, 'order', change, NULL, NULL, NULL, {amounts},
                    {currency}, {currency}
                FROM {side}_alone JOIN {side}_orders USING (number) WHERE change IS NOT NULL""")

    def _counts(self) -> Changes:
        if self._old is None:
            return Changes()
        orders = self._counted("""
            SELECT CASE WHEN change IN ('new', 'gone', 'returned') THEN change ELSE 'changed' END AS what,
                count(DISTINCT order_number) FROM gathered GROUP BY what""")
        not_compared = self._counted("""
            SELECT coalesce(reason, 'not_asked_for') AS why, count(*)
            FROM (FROM old_alone UNION ALL FROM new_alone) WHERE change IS NULL GROUP BY why ORDER BY why""")
        older = self._old.manifest
        return Changes(
            compared_with=manifest.ComparedWith(
                run_id=older.run_id, place=self._old.place, finished_at=older.finished_at
            ),
            compared=self._count("old_seen SEMI JOIN new_seen USING (number)"),
            **{name: orders.get(name, 0) for name in ("new", "changed", "gone", "returned")},
            not_compared=sum(not_compared.values()),
            not_compared_reasons=not_compared,
            items_added=self._count("gathered WHERE change = 'item_added'"),
            items_removed=self._count("gathered WHERE change = 'item_removed'"),
            matched_by_position=self._by_position,
            statuses=self._nested("""
                SELECT coalesce(old, ''), coalesce(new, ''), count(*) FROM gathered
                WHERE item = -1 AND "column" = 'status' AND change = 'changed' GROUP BY ALL ORDER BY ALL"""),
            # The sums of the orders' own amounts and refunds by currency, and those of whole orders.
            deltas=self._nested(f"""
                SELECT coalesce(currency, ''), coalesce("column", change), sum(delta)::VARCHAR
                FROM ({SELECT_CHANGES}) WHERE item = -1 AND delta IS NOT NULL
                AND (kind = 'refund' OR "column" = 'amount' OR "column" IS NULL) GROUP BY ALL ORDER BY ALL"""),
            columns=self._counted("""
                SELECT CASE WHEN item = -1 THEN 'orders.' ELSE 'order_items.' END
                    || regexp_replace("column", '^order_items\\[\\d+\\]\\.', '') AS name, count(*)
                FROM gathered WHERE change = 'changed' GROUP BY name ORDER BY count(*) DESC, name"""),
            columns_not_compared={table: names for table, names in self._left_out.items() if names},
        )

    def _count(self, of: str) -> int:
        return int(self._all(f"SELECT count(*) FROM {of}")[0][0])

    def _counted(self, query: str) -> dict[str, int]:
        return dict(self._all(query))

    def _nested(self, query: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for outer, inner, value in self._all(query):
            found.setdefault(outer, {})[inner] = value
        return found

    def _whole_rows(self) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """Return the schema and the rows of every order that differs, as they were and as they are."""
        if self._old is None:
            return pa.schema([CHANGE_TYPE, *SCHEMAS["orders"]]), iter(())
        old, new = (self._types[side]["orders"] for side in _SIDES)
        was = ", ".join(quoted(name) if name in old else f"NULL AS {quoted(name)}" for name in new)
        found = "(SELECT DISTINCT part, seq, order_number AS number FROM gathered)"
        query = f"""
            SELECT if(part = 0, 'update_preimage', 'delete') AS _change_type, {was}, part, seq, 0 AS turn
            FROM old_orders JOIN {found} USING (number) WHERE part < 2 UNION ALL
            SELECT if(part = 0, 'update_postimage', 'insert'), {_listed([*new])}, part, seq, 1
            FROM new_orders JOIN {found} USING (number) WHERE part <> 1"""
        schema = pa.schema([CHANGE_TYPE, *fields_of("orders", new)])
        listed = _listed(schema.names)
        return schema, self._tables(f"SELECT {listed} FROM ({query}) ORDER BY part, seq, turn", schema)


_ITEM_PLACES = ("file", "last_file", "place", "last_place")


def _amounts(side: str, have: Collection[str], *names: str) -> tuple[str, str]:
    """Return the SQL of old and new amount of what one side alone has, and that of its currency."""
    amount, currency = (quoted(name) if name in have else "NULL" for name in names)
    return f"{amount}, NULL" if side == "old" else f"NULL, {amount}", currency


def _listed(names: list[str]) -> str:
    return ", ".join(map(quoted, names))


def _hidden(old: Manifest, new: Manifest) -> frozenset[tuple[str, str]]:
    """Return the columns that `--pii` has made unlike on the two sides, as (table, column)."""
    if old.pii.mode == new.pii.mode == "keep":
        return frozenset()
    same_key = old.pii == new.pii and old.pii.mode == "hash"
    return frozenset(
        (table, column.name)
        for table, columns in TABLES.items()
        for column in columns
        if column.kind is Kind.JSON or (column.personal and not same_key)
    )
