"""Blocks of the plan to pieces of the tables that are written: in the publishing process, or in one beside it."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from exporter.dataset.dataset_writer import as_written, schemas_of
from exporter.dataset.flatten import Drift, Flattener, make_lines
from exporter.dataset.publishing.publish_job import PublishJob
from exporter.model import manifest
from exporter.model.errors import ExporterError, ToldError, told
from exporter.model.freshness import STALE
from exporter.model.options import MIB
from exporter.store.order_store import PlannedOrder, Store

#: So many numbers of the plan at most are flattened at once: the fixed cost of 0.9 ms is spread over many orders.
BLOCK = 500
#: What is read from the store at once, and so many bytes of payloads are a piece.
READ, READ_BYTES = 250, 4 * MIB
# An item that holds nothing takes far more memory than the two bytes of its JSON: a whole row.
_MOST_ITEMS = 20_000


class Share(NamedTuple):
    """Of the blocks of the plan that follow line `after`, every `of`-th, from the one at place `first` on."""

    after: int
    first: int
    of: int


class Piece(msgspec.Struct, frozen=True):
    """What a block, or a part of it, holds: numbers of the plan, and of them orders, with items and bytes of payloads."""

    numbers: int
    orders: int
    items: int
    stale: int
    #: The line of the first reject; 0 where there is none.
    rejected_from: int
    size: int
    drift: manifest.Drift


class Flattened(NamedTuple):
    """A piece, and each table as far as it is written."""

    piece: Piece
    tables: dict[str, pa.Table]


class Flattening:
    """Flattens blocks of a job in this process; what it counts is of each piece alone."""

    def __init__(self, job: PublishJob, store: Store) -> None:
        self._schemas, self._payload = schemas_of(job), store.payload
        self._flattener = Flattener(pii=job.pii, pii_key=job.pii_key.encode() if job.pii_key else None)

    def __call__(self, orders: Iterable[PlannedOrder]) -> Iterator[Flattened]:
        """Flatten a block, whose numbers are settled, as they come; in several pieces where that takes much memory."""
        flattener, taken, size = self._flattener, list[PlannedOrder](), 0
        for order in orders:
            taken.append(order)
            if order.frame is None:
                continue
            payload = self._payload(order.order_number, order.frame)
            flattener.add(order.order_number, payload)
            size += len(payload)
            if size >= READ_BYTES or flattener.items >= _MOST_ITEMS:
                yield self._flattened(taken, size)
                taken, size = [], 0
        if taken:
            yield self._flattened(taken, size)

    def _flattened(self, taken: list[PlannedOrder], size: int) -> Flattened:
        self._flattener.drift = drift = Drift(hides_keys=self._flattener.drift.hides_keys)
        orders, items = self._flattener.tables()
        tables = {"orders": orders, "order_items": items}
        if "order_lines" in self._schemas:
            numbers = [order.order_number for order in taken if order.frame is not None]
            tables["order_lines"] = make_lines(numbers, orders, items)
        piece = Piece(
            numbers=len(taken),
            orders=orders.num_rows,
            items=items.num_rows,
            stale=sum(order.state == STALE for order in taken),
            rejected_from=next((order.line for order in taken if order.frame is None), 0),
            size=size,
            drift=drift.counts(),
        )
        return Flattened(piece, as_written(tables, self._schemas))


class Told(msgspec.Struct):
    """A line from a flattening process: a piece, with the lengths of its tables' parts that follow; an error; or a block's end."""

    piece: Piece | None = None
    lengths: dict[str, list[int]] = {}
    error: ToldError | None = None


def serve(job: PublishJob, share: Share) -> None:
    """Tell of each block of a share on stdout; in the end of one without a piece."""
    answers = sys.stdout.buffer
    try:
        store = Store(Path(job.store), readonly=True)
        store.attach_plan(Path(job.plan))
        flattening = Flattening(job, store)
        for block in islice(store.blocks(share.after, BLOCK), share.first, None, share.of):
            for piece, tables in flattening(_orders(store, job, *block)):
                parts = {
                    name: [part.serialize() for part in table.to_batches()] for name, table in tables.items()
                }
                lengths = {name: [part.size for part in of_table] for name, of_table in parts.items()}
                answers.write(msgspec.json.encode(Told(piece, lengths)) + b"\n")
                for part in chain.from_iterable(parts.values()):
                    answers.write(part)
            answers.write(msgspec.json.encode(Told()) + b"\n")
            answers.flush()
        answers.write(msgspec.json.encode(Told()) + b"\n")
    except ExporterError as error:  # as of a damaged payload
        answers.write(msgspec.json.encode(Told(error=told(error))) + b"\n")


def _orders(store: Store, job: PublishJob, after: int, numbers: int) -> Iterator[PlannedOrder]:
    while numbers:
        planned = store.planned(job.freshness, after, limit=min(READ, numbers), limit_bytes=READ_BYTES)
        for order in planned:
            assert order.state is not None
            yield order
        after, numbers = planned[-1].line, numbers - len(planned)
