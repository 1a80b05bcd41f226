"""Small datasets written by the exporter's own writers, without a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from exporter.dataset.flatten import Flattener
from exporter.dataset.table_files import TableWriter
from exporter.demo.orders import order_numbers, order_payload
from exporter.model import manifest
from exporter.model.column_selection import choose_columns
from exporter.model.options import CsvDialect, FileFormat, Pii
from exporter.model.records import PartFile

#: A run of 20 s at 40/s: a pause at 3 s that two answers told of, retries, and a slow tail.
STATISTICS: dict[str, Any] = {
    "step_s": 1,
    "answers": [38, 40, 40, 12, 2, *[31 + n for n in range(8)], *[40] * 6, 9],
    "permitted_per_s": [40.0, 40.0, 40.0, 20.0, 20.0, *[30.0 + n for n in range(8)], *[40.0] * 7],
    "pauses": [
        {"at_s": 3.1, "seconds": 1.5, "why": "429"},
        {"at_s": 3.2, "seconds": 1.6, "why": "429"},
    ],
    "latency_ms": {"edges": [10, 20, 50, 100, 200], "counts": [0, 300, 260, 40, 9, 2]},
    "statuses": {"200": 560, "404": 2, "429": 9, "502": 30, "none": 10},
    "failures": {
        "throttled": 9,
        "the API answered 502": 30,
        "the connection was closed before an answer came": 10,
    },
}


def demo_payloads(count: int) -> list[dict[str, Any]]:
    """The demo's orders, some of them of a currency and a status of their own."""
    payloads = [order_payload(number) for number in order_numbers(count)]
    for at, payload in enumerate(payloads):
        payload["currency"] = ("try", "eur", "usd")[at % 5 % 3]
    return payloads


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """How to write one.

    Args:
        payloads: The orders.
        formats: See `Options`; so are the next five.
        rejects: Reasons with counts.
        statistics: As the manifest keeps them.
        unmapped: More undeclared paths than the payloads have.
    """

    payloads: Sequence[Mapping[str, Any]]
    formats: tuple[FileFormat, ...] = ("parquet",)
    rows_per_file: int | None = None
    csv_dialect: CsvDialect = "standard"
    pii: Pii = "keep"
    select: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    rejects: Mapping[str, int] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    unmapped: Mapping[str, int] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write it into a folder that is made, and return the folder."""
        folder.mkdir(parents=True)
        flattener = Flattener(pii=self.pii)
        flat = flattener.flatten([(str(p.get("number")), json.dumps(p).encode()) for p in self.payloads])
        chosen = choose_columns(self.select, self.drop)
        tables = {
            name: manifest.TableFiles(
                rows=table.num_rows, files=self._write(folder, name, table.select(chosen[name]))
            )
            for name, table in zip(("orders", "order_items"), flat, strict=True)
        }
        made = self._manifest(tables, flattener)
        (folder / manifest.MANIFEST_FILE).write_bytes(manifest.encode(made))
        return folder

    def _write(self, folder: Path, name: str, table: pa.Table) -> list[PartFile]:
        return [
            part for file_format in self.formats for part in self._parts(folder, name, table, file_format)
        ]

    def _parts(self, folder: Path, name: str, table: pa.Table, file_format: FileFormat) -> list[PartFile]:
        with TableWriter(
            folder,
            name,
            file_format,
            table.schema,
            rows_per_file=self.rows_per_file,
            csv_dialect=self.csv_dialect,
        ) as writer:
            writer.write(table)
            return writer.close()

    def _manifest(self, tables: dict[str, manifest.TableFiles], flattener: Flattener) -> manifest.Manifest:
        rejected = sum(self.rejects.values())
        invalid = self.rejects.get("invalid_order_number", 0)
        exported = tables["orders"].rows
        requested = exported + rejected - invalid
        return manifest.Manifest(
            manifest_version=manifest.MANIFEST_VERSION,
            exporter_version="1.2.3",
            run_id="0123456789abcdef",
            started_at="2026-11-23T18:30:00.000Z",
            finished_at="2026-11-23T18:30:20.500Z",
            api_url="https://shop.example.com",
            input=manifest.Input(
                path="/home/somebody/orders.txt",
                sha256="0" * 64,
                lines=requested + invalid,
                blank=0,
                invalid=invalid,
                duplicates=0,
            ),
            counts=manifest.Counts(
                requested=requested,
                exported=exported,
                rejected=rejected - invalid,
                order_items=tables["order_items"].rows,
            ),
            rejects_by_reason=dict(self.rejects),
            requests=manifest.Requests(sent=611, retried=40, throttled=9),
            tables=tables,
            drift=manifest.Drift(
                unmapped_paths={**flattener.drift.unmapped_paths, **self.unmapped},
                uncoerced=dict(flattener.drift.uncoerced),
            ),
            statistics=dict(self.statistics),
        )
