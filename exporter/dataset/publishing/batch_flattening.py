"""Batches of payloads to the tables that are written of them: in the publishing process, or in one beside it."""

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from exporter.dataset.dataset_writer import as_written, schemas_of
from exporter.dataset.flatten import Drift, Flattener, make_lines
from exporter.dataset.publishing.publish_job import PublishJob
from exporter.model import manifest
from exporter.model.errors import ExporterError, ToldError, told
from exporter.store.order_store import Store

#: Order numbers with the frames of their payloads.
Batch = list[tuple[str, bytes]]
#: A batch comes as its length and so many bytes of MessagePack.
LENGTH_BYTES = 8
# An object takes a brace in JSON, and an item that holds nothing far more memory than its two: a whole row.
_MOST_OBJECTS = 20_000


class Flattened(NamedTuple):
    """What became of a piece of a batch: its rows, what fitted no column, and each table as far as it is written."""

    orders: int
    items: int
    drift: manifest.Drift
    tables: dict[str, pa.Table]


class Flattening:
    """Flattens batches of a job in this process; what it counts is of the batch alone."""

    def __init__(self, job: PublishJob, store: Store) -> None:
        self._schemas, self._payload = schemas_of(job), store.payload
        self._flattener = Flattener(pii=job.pii, pii_key=job.pii_key.encode() if job.pii_key else None)

    def __call__(self, batch: Batch) -> Iterator[Flattened]:
        """Flatten a batch, in more than one piece where that takes much memory."""
        for payloads in self._pieces(batch):
            self._flattener.drift = drift = Drift(hides_keys=self._flattener.drift.hides_keys)
            tables = self._tables(payloads)
            orders, items = tables["orders"].num_rows, tables["order_items"].num_rows
            yield Flattened(orders, items, drift.counts(), as_written(tables, self._schemas))

    def _pieces(self, batch: Batch) -> Iterator[list[tuple[str, bytes]]]:
        """Yield the payloads of a batch, so many at a time as may be flattened at once."""
        piece, objects = [], 0
        for number, frame in batch:
            payload = self._payload(number, frame)
            piece.append((number, payload))
            objects += payload.count(b"}")
            if objects >= _MOST_OBJECTS:
                yield piece
                piece, objects = [], 0
        if piece:
            yield piece

    def _tables(self, payloads: list[tuple[str, bytes]]) -> dict[str, pa.Table]:
        orders, items = self._flattener.flatten(payloads)
        tables = {"orders": orders, "order_items": items}
        if "order_lines" in self._schemas:
            tables["order_lines"] = make_lines([number for number, _ in payloads], orders, items)
        return tables


class Told(msgspec.Struct):
    """A line from a flattening process: of a piece, with the lengths of its tables' parts that follow; of an error; or a batch's end."""

    orders: int = 0
    items: int = 0
    drift: manifest.Drift = manifest.Drift(unmapped_paths={}, uncoerced={})
    lengths: dict[str, list[int]] = {}
    error: ToldError | None = None


def serve(job: PublishJob) -> None:
    """Flatten each batch that comes on stdin, until it ends."""
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    flattening = Flattening(job, Store(Path(job.store), readonly=True, is_checked=True))
    while length := asked.read(LENGTH_BYTES):
        batch = msgspec.msgpack.decode(asked.read(int.from_bytes(length, "big")), type=Batch)
        try:
            for orders, items, drift, tables in flattening(batch):
                parts = {
                    name: [part.serialize() for part in table.to_batches()] for name, table in tables.items()
                }
                lengths = {name: [part.size for part in of_table] for name, of_table in parts.items()}
                answers.write(msgspec.json.encode(Told(orders, items, drift, lengths)) + b"\n")
                for part in chain.from_iterable(parts.values()):
                    answers.write(part)
        except ExporterError as error:  # a damaged payload
            answers.write(msgspec.json.encode(Told(error=told(error))) + b"\n")
            return
        answers.write(msgspec.json.encode(Told()) + b"\n")
        answers.flush()
