"""What was exported, counted and hashed: the record that names every file of a dataset."""

import hmac
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from exporter.model.errors import InputError
from exporter.model.records import PartFile

MANIFEST_FILE = "manifest.json"
REJECTS_FILE = "rejects.jsonl"
STALE_FILE = "stale.jsonl"
REPORT_FILE = "report.html"
MANIFEST_VERSION = 1


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """The input file: `lines = blank + invalid + duplicates + requested`; `read` says how it was read."""

    path: str
    sha256: str
    lines: int
    blank: int
    invalid: int
    duplicates: int
    read: dict[str, Any] = {}

    @property
    def requested(self) -> int:
        """Distinct order numbers."""
        return self.lines - self.blank - self.invalid - self.duplicates


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
    """One table: its rows, and its files in every format; a workbook is listed with each table in it."""

    rows: int
    files: list[PartFile]


def by_format(files: list[PartFile]) -> dict[str, list[PartFile]]:
    """Return a table's files by their ending, such as `parquet`."""
    formats: defaultdict[str, list[PartFile]] = defaultdict(list)
    for part in files:
        formats[part.path.rpartition(".")[2]].append(part)
    return formats


def table_of(files: list[PartFile]) -> TableFiles:
    """Return the record of a table that every format holds in whole."""
    whole = next(iter(by_format(files).values()))
    return TableFiles(rows=sum(part.rows for part in whole), files=files)


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What fitted no column: undeclared paths, and declared ones whose value did not fit, with counts."""

    unmapped_paths: dict[str, int]
    uncoerced: dict[str, int]


class Pii(msgspec.Struct, frozen=True, kw_only=True):
    """What became of personal columns; `key` tells whether two datasets were hashed by one key, and nothing of it."""

    mode: str = "keep"
    key: str | None = None


def pii_of(mode: str, key: str | None) -> Pii:
    """Return the record of `--pii`, with a keyed fingerprint of the key that `hash` has."""
    if mode != "hash" or key is None:
        return Pii(mode=mode)
    return Pii(mode=mode, key=hmac.digest(key.encode(), b"omnitron-exporter: which key", "sha256").hex()[:32])


CHANGE_COUNTS = ("new", "changed", "gone", "returned", "not_compared")  # the counts of orders in `Changes`


class ComparedWith(msgspec.Struct, frozen=True, kw_only=True):
    """The older dataset of a comparison."""

    run_id: str
    place: str
    finished_at: str


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between a dataset and an older one; `compared_with` is None where there was none."""

    compared_with: ComparedWith | None = None
    compared: int = 0
    new: int = 0  # orders, as the four that follow
    changed: int = 0
    gone: int = 0
    returned: int = 0
    not_compared: int = 0
    not_compared_reasons: dict[str, int] = {}
    items_added: int = 0
    items_removed: int = 0
    matched_by_position: int = 0
    statuses: dict[str, dict[str, int]] = {}  # changed orders by their status before and after
    #: By currency: what amounts and refunds of changed orders grew by, and what whole orders brought or took away.
    deltas: dict[str, dict[str, str]] = {}
    columns: dict[str, int] = {}
    columns_not_compared: dict[str, list[str]] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of one dataset, as `manifest.json` holds it; `sources` counts orders by where their payloads came from."""

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
    pii: Pii = Pii()
    changes: Changes | None = None
    stale_by_reason: dict[str, int] = {}
    sources: dict[str, int] = {}

    @property
    def duration_s(self) -> float:
        """Seconds from the run's start, over all its tries, to its end."""
        began, ended = map(datetime.fromisoformat, (self.started_at, self.finished_at))
        return (ended - began).total_seconds()

    @property
    def is_comparison(self) -> bool:
        """Whether it is not of a dataset but of a comparison of two."""
        return "changes" in self.tables and self.tables.keys() <= {"changes", "changed_orders"}

    @property
    def rejects(self) -> int:
        """Lines that have no row: rejected order numbers and invalid lines."""
        return sum(self.rejects_by_reason.values())

    @property
    def names(self) -> frozenset[str]:
        """Every file that the dataset may hold, relative to it, with forward slashes."""
        parts = {part.path for table in self.tables.values() for part in table.files}
        stale = {STALE_FILE} if self.stale_by_reason else set()
        return frozenset(parts | stale | {MANIFEST_FILE, REJECTS_FILE, REPORT_FILE})


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
    """Read a manifest back; an `InputError` where it is none of a version that we know."""
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise InputError(f"{name}: expected a manifest of this program: {error}.") from None
    if (version := manifest.manifest_version) != MANIFEST_VERSION:
        raise InputError(f"{name}: expected manifest version {MANIFEST_VERSION}, got {version}.")
    return manifest


def part_name(index: int, suffix: str) -> str:
    """Return the name of a table's part file, as `part-00017.parquet`."""
    return f"part-{index:05}{suffix}"
