"""Batches of payloads to the tables that are written of them: in the publishing process, or in one beside it."""

from __future__ import annotations

import sys
from typing import NamedTuple

import msgspec
import pyarrow as pa

from exporter.dataset.dataset_writer import schemas_of
from exporter.dataset.flatten import Drift, Flattener, make_lines
from exporter.dataset.publishing.publish_job import PublishJob
from exporter.model import manifest

#: Order numbers with their payloads.
Batch = list[tuple[str, bytes]]
#: A batch comes as its length and so many bytes of MessagePack.
LENGTH_BYTES = 8


class Flattened(NamedTuple):
    """What became of a batch: its rows, what fitted no column, and each table as far as it is written."""

    orders: int
    items: int
    drift: manifest.Drift
    tables: dict[str, pa.Table]


class Flattening:
    """Flattens batches of a job in this process; what it counts is of the batch alone."""

    def __init__(self, job: PublishJob) -> None:
        self._schemas = schemas_of(job)
        self._flattener = Flattener(pii=job.pii, pii_key=job.pii_key.encode() if job.pii_key else None)

    def __call__(self, batch: Batch) -> Flattened:
        """Flatten a batch."""
        self._flattener.drift = drift = Drift(hides_keys=self._flattener.drift.hides_keys)
        orders, items = self._flattener.flatten(batch)
        tables = {"orders": orders, "order_items": items}
        if "order_lines" in self._schemas:
            tables["order_lines"] = make_lines([number for number, _ in batch], orders, items)
        written = {
            name: tables[name].select(schema.names).cast(schema) for name, schema in self._schemas.items()
        }
        return Flattened(orders.num_rows, items.num_rows, drift.counts(), written)


class Told(msgspec.Struct):
    """A line from a flattening process: what became of a batch, and the lengths of its tables' pieces that follow."""

    orders: int
    items: int
    drift: manifest.Drift
    lengths: dict[str, list[int]]


def serve(job: PublishJob) -> None:
    """Flatten each batch that comes on stdin, until it ends."""
    flattening, asked, answers = Flattening(job), sys.stdin.buffer, sys.stdout.buffer
    while length := asked.read(LENGTH_BYTES):
        batch = msgspec.msgpack.decode(asked.read(int.from_bytes(length, "big")), type=Batch)
        orders, items, drift, tables = flattening(batch)
        pieces = {name: [piece.serialize() for piece in table.to_batches()] for name, table in tables.items()}
        lengths = {name: [piece.size for piece in of_table] for name, of_table in pieces.items()}
        answers.write(msgspec.json.encode(Told(orders, items, drift, lengths)) + b"\n")
        for piece in (piece for of_table in pieces.values() for piece in of_table):
            answers.write(piece)
        answers.flush()
