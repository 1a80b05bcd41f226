"""How the last run ended, as a file for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.model.errors import ExporterError, StorageError, UsageError
from exporter.model.manifest import CHANGE_COUNTS
from exporter.model.summary import Summary
from exporter.system import durable

_PREFIX = "omnitron_exporter_"
#: Kept from the former file while runs fail.
_LAST_SUCCESS = "last_success_timestamp_seconds"
Report = Callable[[Summary], None]


@contextmanager
def reported(path: str | None) -> Iterator[Report]:
    """Write to `path` how the run inside the block ended, whether it succeeds or fails.

    Yields:
        What the run's summary is handed to. A run that fails writes what it can say, keeps the time of
        the last success, and raises its own error.

    Raises:
        UsageError: The path is a directory's; nothing in the block was begun.
        StorageError: The file cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    if Path(path).is_dir():
        raise UsageError(
            "expected a file, got a directory.",
            "Give a file in it, as exporter.prom.",
            option="metrics_file",
            value=path,
        )
    began = time.monotonic()
    summaries: list[Summary] = []
    try:
        yield summaries.append
    except BaseException as error:
        exit_code = error.exit_code if isinstance(error, ExporterError) else 1
        try:
            _write(Path(path), began, exit_code, None)
        except StorageError as second:
            error.add_note(str(second))
        raise
    try:
        _write(Path(path), began, summaries[0].exit_code, summaries[0])
    except StorageError as error:
        raise StorageError(error.what, f"{error.flag_hint} The dataset stands all the same.") from error


def _write(path: Path, began: float, exit_code: int, summary: Summary | None) -> None:
    now = time.time()
    with durable.storage_errors("writing the metrics", path):
        last_success = now if summary else _former_success(path)
        lines = [
            *_gauge("last_run_timestamp_seconds", "When the last run ended.", now),
            *_gauge("last_run_exit_code", "Its exit code.", exit_code),
            *_gauge(
                "last_run_success", "1 where it published, with rejects or without.", summary is not None
            ),
            *_gauge(
                "last_run_duration_seconds",
                "From its start to its end, this try only.",
                time.monotonic() - began,
            ),
            *(_gauge(_LAST_SUCCESS, "When a run last published.", last_success) if last_success else ()),
            *(_of_summary(summary) if summary else ()),
        ]
        durable.write_lines(path, (f"{line}\n".encode() for line in lines), mode=0o644)


def _of_summary(summary: Summary) -> Iterator[str]:
    size = sum(part.bytes for part in summary.files)
    yield from _gauge("orders_requested", "Distinct order numbers of the input.", summary.requested)
    yield from _gauge("orders_exported", "Order rows of the dataset.", summary.exported)
    yield from _gauge("order_items_exported", "Item rows of the dataset.", summary.items)
    yield from _gauge("dataset_bytes", "Size of its tables.", size)
    yield from _gauge("unmapped_values", "Values that fitted no column.", sum(summary.drift.values()))
    yield from _gauge("rejects", "Lines without rows.", summary.rejects_by_reason, label="reason")
    yield from _gauge("requests", "Requests, by what they were.", summary.requests, label="kind")
    if summary.changes is not None:
        counts = {word: summary.changes[word] for word in CHANGE_COUNTS}
        yield from _gauge("changes", "Orders against the dataset before.", counts, label="change")
    what = "Answers of the last try, by HTTP status; none is no answer."
    yield from _gauge("responses", what, summary.statuses, label="status")


def _gauge(name: str, what: str, value: float | dict[str, int], label: str = "") -> Iterator[str]:
    """Yield a gauge in Prometheus' text format; every label's value is a plain word or number of ours."""
    yield f"# HELP {_PREFIX}{name} {what}"
    yield f"# TYPE {_PREFIX}{name} gauge"
    if isinstance(value, dict):
        yield from (f'{_PREFIX}{name}{{{label}="{word}"}} {float(count)}' for word, count in value.items())
    else:
        yield f"{_PREFIX}{name} {float(value)}"


def _former_success(path: Path) -> float | None:
    """Return the last success as the former file has it; None where it has none, or is not ours."""
    try:
        found = re.search(rf"^{_PREFIX}{_LAST_SUCCESS} (\S+)$", path.read_text("utf-8"), re.MULTILINE)
        return float(found[1]) if found else None
    except (FileNotFoundError, ValueError):
        return None
