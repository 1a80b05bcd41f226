"""What was exported, counted and hashed: the record that names every file of a dataset."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from exporter.model.errors import InputError
from exporter.model.records import PartFile, PlanCounts

MANIFEST_FILE = "manifest.json"
REJECTS_FILE = "rejects.jsonl"
REPORT_FILE = "report.html"
MANIFEST_VERSION = 1


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """The input file: `lines = blank + invalid + duplicates + requested`."""

    path: str
    sha256: str
    lines: int
    blank: int
    invalid: int
    duplicates: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Order numbers and rows: `requested = exported + rejected`."""

    requested: int
    exported: int
    rejected: int
    order_items: int


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that reached the wire, over all tries of the run, as far as committed; `sent` has redirects too."""

    sent: int
    retried: int
    throttled: int


class TableFiles(msgspec.Struct, frozen=True, kw_only=True):
    """One table: its rows, and its files in every format; a workbook stands with each table in it."""

    rows: int
    files: list[PartFile]


def table_of(files: list[PartFile]) -> TableFiles:
    """Return the record of a table that every format holds in whole."""
    endings = [part.path.rpartition(".")[2] for part in files]
    rows = sum(part.rows for part, ending in zip(files, endings, strict=True) if ending == endings[0])
    return TableFiles(rows=rows, files=files)


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What fitted no column: undeclared paths, and declared ones whose value did not fit, with counts."""

    unmapped_paths: dict[str, int]
    uncoerced: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of one dataset, as `manifest.json` holds it."""

    manifest_version: int
    exporter_version: str
    run_id: str
    started_at: str
    finished_at: str
    api_url: str
    input: Input
    counts: Counts
    rejects_by_reason: dict[str, int]
    requests: Requests
    tables: dict[str, TableFiles]
    drift: Drift
    statistics: dict[str, Any] = {}
    timezone: str = "UTC"

    @property
    def duration_s(self) -> float:
        """Seconds from the run's start, over all its tries, to its end."""
        return (
            datetime.fromisoformat(self.finished_at) - datetime.fromisoformat(self.started_at)
        ).total_seconds()

    @property
    def rejects(self) -> int:
        """Lines that have no row: rejected order numbers and invalid lines."""
        return sum(self.rejects_by_reason.values())

    @property
    def names(self) -> frozenset[str]:
        """Every file that the dataset may hold, relative to it, with forward slashes."""
        parts = {part.path for table in self.tables.values() for part in table.files}
        return frozenset(parts | {MANIFEST_FILE, REJECTS_FILE, REPORT_FILE})


def input_of(path: str, sha256: str, counts: PlanCounts) -> Input:
    """Return the input's record from the plan's counts."""
    return Input(
        path=path,
        sha256=sha256,
        lines=counts.lines,
        blank=counts.blank,
        invalid=counts.invalid,
        duplicates=counts.duplicates,
    )


def time_text(epoch_s: float) -> str:
    """Return a time as the manifest writes it.

    >>> time_text(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(text: bytes, name: str) -> Manifest:
    """Read a manifest back.

    Raises:
        InputError: It is no manifest of a version that we know.
    """
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise InputError(f"{name}: expected a manifest of this program: {error}.") from None
    if manifest.manifest_version != MANIFEST_VERSION:
        raise InputError(
            f"{name}: expected manifest version {MANIFEST_VERSION}, got {manifest.manifest_version}."
        )
    return manifest


def part_name(index: int, suffix: str) -> str:
    """Return the name of a table's part file.

    >>> part_name(17, ".parquet")
    'part-00017.parquet'
    """
    return f"part-{index:05}{suffix}"
