"""What a caller, a person or a script is told at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

import msgspec

from exporter.model.errors import UsageError
from exporter.model.manifest import Manifest
from exporter.model.records import PartFile

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True, repr=False)
class Summary:
    """What one export brought.

    Attributes:
        out: Where the dataset is.
        run_id: Names the run, in the manifest too.
        started_at: The run's start, kept over its tries: ISO 8601, UTC.
        finished_at: Its end.
        duration_s: Seconds between the two.
        resumed: Whether an earlier try of this run had been stopped.
        requested: Distinct order numbers.
        exported: Order rows.
        items: Item rows.
        rejected: Order numbers without rows.
        rejects_by_reason: Their reasons, invalid lines included.
        lines: The input: `lines`, `blank`, `invalid` and `duplicates`.
        read: How the input was read: its format, encoding, column and the like, as far as they are known.
        requests: `sent`, `retried` and `throttled`, over all tries of the run.
        statuses: How often each HTTP status came in the last try; `none` is no answer.
        files: Every file of every table.
        drift: Paths that fitted no column, with counts.
        removed: Older datasets that `keep` has removed.
        changes: What differs from the dataset before, in counts; None where it was not compared.
        stale_by_reason: Orders that could not be had and are exported in an older version, by what was answered.
        sources: Exported orders by where their payloads came from: `detail`, or the API's own `list`.
    """

    out: str
    run_id: str
    started_at: str
    finished_at: str
    duration_s: float
    resumed: bool
    requested: int
    exported: int
    items: int
    rejected: int
    rejects_by_reason: dict[str, int]
    lines: dict[str, int]
    read: dict[str, Any]
    requests: dict[str, int]
    statuses: dict[str, int]
    files: tuple[PartFile, ...]
    drift: dict[str, int]
    removed: tuple[str, ...] = ()
    changes: dict[str, Any] | None = None
    stale_by_reason: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 where every line has its row, 3 where some were rejected."""
        return 3 if self.rejects_by_reason else 0

    def __repr__(self) -> str:
        return f"Summary({', '.join(f'{name}={value!r}' for name, value in self._told().items())})"

    def _repr_html_(self) -> str:
        told = self._told().items()
        rows = (f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in told)
        return f"<table>{''.join(rows)}</table>"

    def _told(self) -> dict[str, Any]:
        names = ("out", "exported", "items", "rejected", "duration_s")
        return {name: getattr(self, name) for name in names} | self.rejects_by_reason

    def orders(self) -> pa.Table:
        """Return the order rows as an Arrow table.

        Raises:
            UsageError: The dataset has no Parquet files of them.
        """
        return self._table("orders")

    def order_items(self) -> pa.Table:
        """Return the item rows as an Arrow table."""
        return self._table("order_items")

    def _table(self, name: str) -> pa.Table:
        import pyarrow as pa
        from pyarrow import parquet

        paths = (part.path for part in self.files if part.path.endswith(".parquet"))
        parts = [f"{self.out}/{path}" for path in paths if path.partition("/")[0].partition(".")[0] == name]
        if not parts:
            what = f"{self.out}: expected {name} as Parquet, got none."
            raise UsageError(what, "Give parquet and the table.", option="formats")
        return pa.concat_tables(parquet.read_table(part, partitioning=None) for part in parts)


def summary_of(
    manifest: Manifest, out: str, *, resumed: bool = False, removed: tuple[str, ...] = ()
) -> Summary:
    """Return what `manifest`, of the dataset at `out`, has to tell."""
    counts = manifest.counts
    return Summary(
        out=out,
        run_id=manifest.run_id,
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        duration_s=manifest.duration_s,
        resumed=resumed,
        requested=counts.requested,
        exported=counts.exported,
        items=counts.order_items,
        rejected=counts.rejected,
        rejects_by_reason=dict(manifest.rejects_by_reason),
        lines={name: getattr(manifest.input, name) for name in ("lines", "blank", "invalid", "duplicates")},
        read=manifest.input.read,
        requests=msgspec.structs.asdict(manifest.requests),
        statuses=dict(manifest.statistics.get("statuses", {})),
        files=files_of(manifest),
        drift=manifest.drift.unmapped_paths | manifest.drift.uncoerced,
        removed=removed,
        changes=None if manifest.changes is None else msgspec.to_builtins(manifest.changes),
        stale_by_reason=dict(manifest.stale_by_reason),
        sources=dict(manifest.sources),
    )


def files_of(manifest: Manifest) -> tuple[PartFile, ...]:
    """Return each file once; a workbook has the rows of all its sheets."""
    files: dict[str, PartFile] = {}
    for part in (part for table in manifest.tables.values() for part in table.files):
        before = files.get(part.path)
        files[part.path] = replace(part, rows=part.rows + before.rows) if before else part
    return tuple(files.values())
