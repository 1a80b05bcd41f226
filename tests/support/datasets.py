"""Small datasets written by the exporter's own writers, without a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from exporter.dataset.flatten import Flattener
from exporter.dataset.flatten.unmapped import Drift
from exporter.dataset.table_files import table_writer
from exporter.demo.orders import order_numbers, order_payload
from exporter.model import manifest
from exporter.model.column_selection import choose_columns
from exporter.model.options import CsvDialect, FileFormat, JsonType, Pii, TableOptions
from exporter.model.records import PartFile

#: A run of 20 s at 40/s: a pause at 3 s that two answers told of, retries, and a slow tail.
STATISTICS: dict[str, Any] = {
    "step_s": 1,
    "answers": [38, 40, 40, 12, 2, *[31 + n for n in range(8)], *[40] * 6, 9],
    "permitted_per_s": [40.0, 40.0, 40.0, 20.0, 20.0, *[30.0 + n for n in range(8)], *[40.0] * 7],
    "pauses": [{"at_s": 3.1, "seconds": 1.7, "why": "429"}],
    "latency_ms": {"edges": [10, 20, 50, 100, 200], "counts": [0, 300, 260, 40, 9, 2]},
    "statuses": {"200": 560, "404": 2, "429": 9, "502": 30, "none": 10},
    "failures": {
        "throttled": 9,
        "the API answered 502": 30,
        "the connection was closed before an answer came": 10,
    },
}

PII_KEY = "k" * 32


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
        rejected: The reason of each order number without rows, for `rejects.jsonl`.
        started_at: See the manifest; so are the next two.
        json_type: See `Options`.
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
    rejected: Mapping[str, str] = field(default_factory=dict)
    started_at: str = "2026-11-23T18:30:00.000Z"
    finished_at: str = "2026-11-23T18:30:20.500Z"
    run_id: str = "0123456789abcdef"
    json_type: JsonType = "text"

    def write(self, folder: Path) -> Path:
        """Write it into a folder that is made, and return the folder."""
        folder.mkdir(parents=True)
        if self.rejected and not self.rejects:
            return replace(self, rejects=Counter(self.rejected.values())).write_into(folder)
        return self.write_into(folder)

    def write_into(self, folder: Path) -> Path:
        """Write it into an empty folder."""
        flattener = Flattener(pii=self.pii, pii_key=PII_KEY.encode() if self.pii == "hash" else None)
        flat = flattener.flatten([(str(p.get("number")), json.dumps(p).encode()) for p in self.payloads])
        chosen = choose_columns(self.select, self.drop)
        tables = {
            name: manifest.TableFiles(
                rows=table.num_rows, files=self._write(folder, name, table.select(chosen[name]))
            )
            for name, table in zip(("orders", "order_items"), flat, strict=True)
        }
        (folder / manifest.REJECTS_FILE).write_text(self.reject_lines(), "utf-8")
        made = self.manifest_of(tables, flattener.drift)
        (folder / manifest.MANIFEST_FILE).write_bytes(manifest.encode(made))
        return folder

    def reject_lines(self) -> str:
        """Return `rejects.jsonl`."""
        rejects = [
            {"order_number": number, "line": at, "reason": reason}
            for at, (number, reason) in enumerate(self.rejected.items(), start=1)
        ]
        return "".join(f"{json.dumps(reject)}\n" for reject in rejects)

    def _write(self, folder: Path, name: str, table: pa.Table) -> list[PartFile]:
        return [
            part for file_format in self.formats for part in self._parts(folder, name, table, file_format)
        ]

    def _parts(self, folder: Path, name: str, table: pa.Table, file_format: FileFormat) -> list[PartFile]:
        options = TableOptions(
            rows_per_file=self.rows_per_file, csv_dialect=self.csv_dialect, json_type=self.json_type
        )
        with table_writer(folder, name, file_format, table.schema, options) as writer:
            writer.write({name: table})
            return writer.close()[name]

    def manifest_of(
        self, tables: dict[str, manifest.TableFiles], drift: Drift | None = None
    ) -> manifest.Manifest:
        """Return the manifest of these tables."""
        drift = drift or Drift()
        rejected = sum(self.rejects.values())
        invalid = self.rejects.get("invalid_order_number", 0)
        exported = tables["orders"].rows
        requested = exported + rejected - invalid
        return manifest.Manifest(
            manifest_version=manifest.MANIFEST_VERSION,
            exporter_version="1.2.3",
            run_id=self.run_id,
            started_at=self.started_at,
            finished_at=self.finished_at,
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
                unmapped_paths={**drift.unmapped_paths, **self.unmapped}, uncoerced=dict(drift.uncoerced)
            ),
            statistics=dict(self.statistics),
            pii=manifest.pii_of(self.pii, PII_KEY),
        )
