"""What a caller, a person or a script is told at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.manifest import Manifest
from exporter.records import PartFile


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one export brought.

    Attributes:
        out: Where the dataset stands.
        run_id: Names the run, in the manifest too.
        requested: Distinct order numbers.
        exported: Order rows.
        order_items: Item rows.
        rejected: Order numbers without rows.
        rejects_by_reason: Their reasons, invalid lines included.
        requests: `sent`, `retried` and `throttled`, over all tries of the run.
        files: Every file of every table.
        drift: Paths that fitted no column, with counts.
        duration_s: Seconds from the run's start to its end.
    """

    out: str
    run_id: str
    requested: int
    exported: int
    order_items: int
    rejected: int
    rejects_by_reason: dict[str, int]
    requests: dict[str, int]
    files: tuple[PartFile, ...]
    drift: dict[str, int]
    duration_s: float

    @property
    def exit_code(self) -> int:
        """0 where every line has its row, 3 where some were rejected."""
        return 3 if self.rejects_by_reason else 0


def summary_of(manifest: Manifest, out: str) -> Summary:
    """Return what `manifest`, of the dataset at `out`, has to tell."""
    counts, requests = manifest.counts, manifest.requests
    return Summary(
        out=out,
        run_id=manifest.run_id,
        requested=counts.requested,
        exported=counts.exported,
        order_items=counts.order_items,
        rejected=counts.rejected,
        rejects_by_reason=dict(manifest.rejects_by_reason),
        requests={"sent": requests.sent, "retried": requests.retried, "throttled": requests.throttled},
        files=tuple(part for table in manifest.tables.values() for part in table.files),
        drift=manifest.drift.unmapped_paths | manifest.drift.uncoerced,
        duration_s=manifest.duration_s,
    )
