"""A finished dataset as other programs can read it here: its files checked, its tables as plain Parquet.

A prefix of an object store is copied to this machine; CSV and Parquet's JSON type become plain Parquet.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from exporter.dataset.destination import destination_of
from exporter.dataset.flatten.arrow_schema import SCHEMAS
from exporter.dataset.object_store import ObjectStore
from exporter.dataset.table_reading import part_reader, readable
from exporter.dataset.verification import wrong_files
from exporter.model.errors import InputError
from exporter.model.manifest import MANIFEST_FILE, REJECTS_FILE, Manifest, decode
from exporter.system import durable

_OF_ORDER = ("number", "status", "amount", "currency")


@dataclass(frozen=True, kw_only=True)
class LocalDataset:
    """A dataset with its files in a folder of this machine; `scratch` is one for what must be rewritten."""

    place: str
    folder: Path
    manifest: Manifest
    scratch: Path

    def parquet(self, table: str) -> list[Path]:
        """Return a table's files as plain Parquet, in order; none where the dataset lacks the table.

        An `InputError` where its only files are for spreadsheets, which hold no exact values.
        """
        if (files := self.manifest.tables.get(table)) is None:
            return []
        paths = [self.folder / path for path in readable(files)]
        if paths and all(map(_is_plain, paths)):
            return paths
        return [self._rewritten(table, paths)]

    def order(self, number: str) -> dict[str, Any] | None:
        """Return the state and the money of an order; None where it has no row."""
        for path in self.parquet("orders"):
            wanted = [name for name in _OF_ORDER if name in pq.read_schema(path).names]
            rows = pq.read_table(path, columns=wanted, filters=[("number", "==", number)])
            if rows.num_rows:
                return dict(rows.to_pylist()[0])
        return None

    def rejects(self) -> dict[str, str]:
        """Return the reason of each order number that was asked for for nothing."""
        with durable.storage_errors("reading the rejects", self.folder / REJECTS_FILE):
            lines = (self.folder / REJECTS_FILE).read_bytes().splitlines()
        pairs = ((each["order_number"], each["reason"]) for each in map(json.loads, lines))
        return {number: reason for number, reason in pairs if reason != "invalid_order_number"}

    def _rewritten(self, table: str, exact: list[Path]) -> Path:
        with durable.storage_errors("reading the dataset", self.folder):
            readers = [part_reader(path, self.manifest.timezone) for path in exact]
        if not readers or readers[0].for_spreadsheets:
            what = "Parquet or CSV, got files for spreadsheets, which hold no exact values."
            raise InputError(f"{self.place}: expected {table} as {what}", "Export with --format parquet.")
        names = readers[0].columns()
        schema = pa.schema(fields_of(table, names))
        target = self.scratch / f"{table}.parquet"
        with durable.storage_errors("copying the table", target), pq.ParquetWriter(target, schema) as writer:
            for batch in (batch for reader in readers for batch in reader.batches(names)):
                columns = [getattr(column, "storage", column) for column in batch.columns]
                writer.write_batch(pa.record_batch(columns, names=names).cast(schema))
        return target


def fields_of(table: str, names: Iterable[str]) -> list[pa.Field]:
    """Return the fields of a table's columns; what the catalogue does not know is text."""
    known = SCHEMAS[table]
    return [known.field(name) if name in known.names else pa.field(name, pa.string()) for name in names]


def _is_plain(path: Path) -> bool:
    fields = pq.read_schema(path) if path.suffix == ".parquet" else None
    return fields is not None and not any(isinstance(each.type, pa.BaseExtensionType) for each in fields)


def local_dataset(place: str, scratch: Path) -> LocalDataset:
    """Return the finished dataset at a place, a directory or `s3://…`, its files checked against its manifest.

    `scratch` is made, for what must be copied or rewritten. An `InputError` where there is none, or where it is
    not what its manifest says.
    """
    destination = destination_of(place)
    with durable.storage_errors("preparing a place for copies", scratch):
        scratch.mkdir(parents=True)
    folder = Path(place)
    if isinstance(destination, ObjectStore):
        folder = scratch / "dataset"
        destination.download(folder)
    manifest = folder / MANIFEST_FILE
    with durable.storage_errors("reading the dataset", manifest):
        if not manifest.is_file():
            raise InputError(f"{place}: expected a finished dataset, got none.", "Give the --out of a run.")
        record = decode(manifest.read_bytes(), str(manifest))
        for difference in wrong_files(folder, record):
            what = f"{place}: it is not what its manifest says: {difference}"
            raise InputError(what, f"Run: exporter verify {place}")
    return LocalDataset(place=place, folder=folder, manifest=record, scratch=scratch)
