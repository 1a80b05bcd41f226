"""Is a dataset what its manifest says? Files, counts, and every item with its order.

Memory does not grow with the dataset: files are hashed and read a batch at a time, orders and items side by
side, for they are in the same order. Only that no order number comes twice needs all of them at once;
those go into a temporary SQLite database, which spills to the disk.
"""

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from exporter.dataset.table_reading import part_reader
from exporter.model.column_selection import KEYS
from exporter.model.errors import InputError
from exporter.model.manifest import (
    MANIFEST_FILE,
    REJECTS_FILE,
    STALE_FILE,
    Counts,
    Manifest,
    by_format,
    decode,
)
from exporter.model.records import PartFile
from exporter.system import durable

_MOST_OF_A_KIND = 10
#: Tables of a comparison: their rows are counted, by a column of each.
_COUNTED = {"changes": ("order_number",), "changed_orders": ("number",)}
_Differences = Iterator[tuple[str, str]]  # each with its kind and its sentence
_Rows = Iterator[tuple[object, ...]]


def verify(out: Path) -> Iterator[str]:
    """Yield, in a sentence each, how the dataset differs from its manifest; nothing where it does not."""
    with durable.storage_errors("verifying the dataset", out):
        try:
            manifest = decode((out / MANIFEST_FILE).read_bytes(), MANIFEST_FILE)
        except FileNotFoundError:
            yield f"{MANIFEST_FILE}: missing; this is no finished dataset."
            return
        except InputError as error:
            yield error.what
            return
        counts: Counter[str] = Counter()
        for kind, sentence in _differences(out, manifest):
            counts[kind] += 1
            if counts[kind] <= _MOST_OF_A_KIND:
                yield sentence
        for kind, count in counts.items():
            if count > _MOST_OF_A_KIND:
                yield f"And {count - _MOST_OF_A_KIND:,} more like these: {kind}."


def wrong_files(out: Path, manifest: Manifest) -> Iterator[str]:
    """Yield how the files and counts of a dataset differ from its manifest, without reading rows."""
    found = chain(_wrong_sums(manifest), _wrong_bytes(out, manifest), _wrong_lists(out, manifest))
    return (sentence for _, sentence in found)


def _differences(out: Path, manifest: Manifest) -> _Differences:
    yield from _wrong_sums(manifest)
    yield from _strangers(out, manifest)
    damaged = list(_wrong_bytes(out, manifest))
    yield from damaged
    yield from _wrong_lists(out, manifest)
    if not damaged:
        yield from _wrong_rows(out, manifest)


def _wrong_sums(manifest: Manifest) -> _Differences:
    lines, counts, tables = manifest.input, manifest.counts, manifest.tables
    parts = lines.blank + lines.invalid + lines.duplicates + counts.requested
    invalid = manifest.rejects_by_reason.get("invalid_order_number", 0)
    sums = [
        ("lines = blank + invalid + duplicates + requested", lines.lines, parts),
        ("requested = exported + rejected", counts.requested, counts.exported + counts.rejected),
        ("rejects_by_reason = rejected + invalid", manifest.rejects, counts.rejected + lines.invalid),
        ("rejects_by_reason.invalid_order_number = invalid", invalid, lines.invalid),
    ]
    if not tables:
        yield "sum", f"{MANIFEST_FILE}: it names no table."
    expected = {"orders": counts.exported, "order_items": counts.order_items}
    for name, table in tables.items():
        sums.append((f"rows of {name} = its count", table.rows, expected.get(name, table.rows)))
        for ending, files in by_format(table.files).items():
            rows = sum(part.rows for part in files)
            sums.append((f"rows of {name}.{ending} = rows of its files", table.rows, rows))
    for rule, left, right in sums:
        if left != right:
            yield "sum", f"{MANIFEST_FILE}: {rule} does not hold: {left:,} is not {right:,}."


def _strangers(out: Path, manifest: Manifest) -> _Differences:
    folders = {name.split("/")[0] for name in manifest.names if "/" in name}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_symlink():
            yield "file", f"{name}: a link; expected none in a dataset."
        elif name not in manifest.names | folders:
            yield "file", f"{name}: the manifest does not name it."


def _wrong_bytes(out: Path, manifest: Manifest) -> _Differences:
    for part in (part for table in manifest.tables.values() for part in table.files):
        path = out / part.path
        if not path.is_file():
            yield "file", f"{part.path}: missing."
        elif (size := path.stat().st_size) != part.bytes:
            yield "file", f"{part.path}: expected {part.bytes:,} bytes, got {size:,}."
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != part.sha256:
                yield "file", f"{part.path}: its SHA-256 is not the manifest's."


def _wrong_lists(out: Path, manifest: Manifest) -> _Differences:
    if not manifest.is_comparison:
        yield from _wrong_list(out, REJECTS_FILE, manifest.rejects_by_reason)
    if manifest.stale_by_reason:
        yield from _wrong_list(out, STALE_FILE, manifest.stale_by_reason)


def _wrong_list(out: Path, name: str, by_reason: Mapping[str, int]) -> _Differences:
    path = out / name
    if not path.is_file():
        yield "file", f"{name}: missing."
        return
    reasons: Counter[str] = Counter()
    before = 0
    with path.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            try:
                reject = json.loads(line)
                reasons[reject["reason"]] += 1
                if before >= reject["line"]:
                    yield "reject", f"{name}:{line_number}: not in the input's order."
                before = reject["line"]
            except (ValueError, KeyError, TypeError):
                yield "reject", f"{name}:{line_number}: expected a reject as a JSON object."
    for reason in sorted(reasons.keys() | by_reason.keys()):
        expected = by_reason.get(reason, 0)
        if reasons[reason] != expected:
            yield "reject", f"{name}: expected {expected:,} × {reason}, got {reasons[reason]:,}."


def _wrong_rows(out: Path, manifest: Manifest) -> _Differences:
    formats: defaultdict[str, dict[str, list[PartFile]]] = defaultdict(dict)
    for name, table in manifest.tables.items():
        for ending, parts in by_format(table.files).items():
            formats[ending][name] = parts
    formats.pop("xlsx", None)  # its digest was right, and reading it takes the memory of a whole workbook
    for ending, tables in formats.items():
        counts: Counter[str] = Counter()
        rows = {name: _rows(out, parts, (KEYS | _COUNTED)[name], counts) for name, parts in tables.items()}
        try:
            yield from _wrong_tables(rows, manifest.counts, ending)
        except InputError as error:
            yield "file", error.problem
            continue
        for part in chain.from_iterable(tables.values()):
            if counts[part.path] != part.rows:
                yield "file", f"{part.path}: expected {part.rows:,} rows, got {counts[part.path]:,}."


def _rows(out: Path, parts: list[PartFile], columns: tuple[str, ...], counts: Counter[str]) -> _Rows:
    """Yield the rows of some columns of a table, over all of its part files, and count those of each."""
    for part in parts:
        try:
            for batch in part_reader(out / part.path).batches(columns):
                counts[part.path] += len(batch)
                yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)
        except (pa.ArrowException, KeyError) as error:
            raise InputError(f"{part.path}: it cannot be read: {str(error).splitlines()[0]}.") from None


class _Seen:
    """Every order number that came by, to find those that come twice."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self.close = self._database.close
        table = "CREATE TABLE seen(number TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID"
        self._database.executescript(f"PRAGMA cache_size = -65536; BEGIN; {table}")

    def note(self, number: str) -> str:
        more = "INSERT INTO seen VALUES (?, 1) ON CONFLICT(number) DO UPDATE SET times = times + 1"
        self._database.execute(more, (number,))
        return number

    def twice(self, table: str) -> _Differences:
        query = "SELECT number, times FROM seen WHERE times > 1 ORDER BY number"
        for number, times in self._database.execute(query):
            yield "order", f"{table}: order {number} is there {times} times."


def _wrong_tables(tables: dict[str, _Rows], counts: Counts, ending: str) -> _Differences:
    with closing(_Seen()) as seen:
        orders = map(seen.note, (str(number) for (number,) in tables.get("orders", ())))
        items = _by_order(tables.get("order_items", ()))
        yield from _wrong_items(items, orders if "orders" in tables else None, f"order_items.{ending}")
        yield from seen.twice(f"orders.{ending}")
    for name in _COUNTED.keys() & tables.keys():
        deque(tables[name], maxlen=0)
    if "order_lines" in tables:
        with closing(_Seen()) as seen:
            yield from _wrong_lines(_by_order(tables["order_lines"]), counts, seen, f"order_lines.{ending}")
            yield from seen.twice(f"order_lines.{ending}")


def _by_order(rows: _Rows | tuple[()]) -> Iterator[tuple[str, list[object]]]:
    """Yield each order number with the `item_index` of its rows, which are together."""
    for number, group in groupby(rows, key=itemgetter(0)):
        yield str(number), [index for _, index in group]


def _wrong_items(
    items: Iterator[tuple[str, list[object]]], orders: Iterator[str] | None, table: str
) -> _Differences:
    """Walk orders and items side by side: items are in the order of their orders. None has no such table."""
    lost = orders is None
    for number, indexes in items:
        yield from _wrong_indexes(number, indexes, table)
        if not lost and number not in (orders or ()):
            lost = True  # the walk cannot find its place again; what follows is counted only
            yield "item", f"{table}: the items of order {number} have no order at their place."
    deque(orders or (), maxlen=0)


def _wrong_lines(
    lines: Iterator[tuple[str, list[object]]], counts: Counts, seen: _Seen, table: str
) -> _Differences:
    """Check that each order's lines are together: its items from 0, or one line without an item."""
    orders = items = 0
    for number, indexes in lines:
        seen.note(number)
        orders += 1
        if indexes != [None]:
            items += len(indexes)
            yield from _wrong_indexes(number, indexes, table)
    for what, expected, found in (("orders", counts.exported, orders), ("items", counts.order_items, items)):
        if expected != found:
            yield "line", f"{table}: expected lines of {expected:,} {what}, got {found:,}."


def _wrong_indexes(number: str, indexes: list[object], table: str) -> _Differences:
    if indexes != list(range(len(indexes))):
        some = ", ".join(map(str, indexes[:_MOST_OF_A_KIND])) + (" …" if indexes[_MOST_OF_A_KIND:] else "")
        what = f"expected item_index 0 to {len(indexes) - 1}, got {some}"
        yield "item_index", f"{table}: order {number}: {what}."
