"""How the last run ended, as a file for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.model.errors import ExporterError, StorageError, UsageError
from exporter.model.summary import Summary
from exporter.system import durable

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PREFIX = "omnitron_exporter_"
#: Kept from the former file while runs fail.
_LAST_SUCCESS = f"{_PREFIX}last_success_timestamp_seconds"
Report = Callable[[Summary], None]


@contextmanager
def reported(path: str | None) -> Iterator[Report]:
    """Write to `path` how the run inside the block ended, whether it succeeds or fails.

    Args:
        path: The file, best with the ending `.prom`; None for none.

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
    began = time.time()
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
        raise StorageError(error.what, f"{error.hint} The dataset stands all the same.") from error


def _write(path: Path, began: float, exit_code: int, summary: Summary | None) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    now = time.time()
    _gauge(registry, "last_run_timestamp_seconds", "When the last run ended.", now)
    _gauge(registry, "last_run_exit_code", "Its exit code.", exit_code)
    _gauge(
        registry, "last_run_success", "1 where it published, with rejects or without.", summary is not None
    )
    _gauge(registry, "last_run_duration_seconds", "From its start to its end, this try only.", now - began)
    with durable.storage_errors("writing the metrics", path):
        last_success = now if summary else _former_success(path)
        if last_success:
            what = "When a run last published."
            _gauge(registry, _LAST_SUCCESS.removeprefix(_PREFIX), what, last_success)
        if summary:
            _add_summary(registry, summary)
        durable.write_bytes(path, generate_latest(registry), mode=0o644)


def _add_summary(registry: CollectorRegistry, summary: Summary) -> None:
    counts = {
        "orders_requested": ("Distinct order numbers of the input.", summary.requested),
        "orders_exported": ("Order rows of the dataset.", summary.exported),
        "order_items_exported": ("Item rows of the dataset.", summary.order_items),
        "dataset_bytes": ("Size of its tables.", sum(part.bytes for part in summary.files)),
        "unmapped_values": ("Values that fitted no column.", sum(summary.drift.values())),
    }
    for name, (what, count) in counts.items():
        _gauge(registry, name, what, count)
    _labelled(registry, "rejects", "Lines without rows.", "reason", summary.rejects_by_reason)
    _labelled(registry, "requests", "Requests, by what they were.", "kind", summary.requests)
    _labelled(
        registry,
        "responses",
        "Answers of the last try, by HTTP status; none is no answer.",
        "status",
        summary.statuses,
    )


def _gauge(registry: CollectorRegistry, name: str, what: str, value: float) -> None:
    from prometheus_client import Gauge

    Gauge(_PREFIX + name, what, registry=registry).set(value)


def _labelled(registry: CollectorRegistry, name: str, what: str, label: str, values: dict[str, int]) -> None:
    from prometheus_client import Gauge

    gauge = Gauge(_PREFIX + name, what, [label], registry=registry)
    for word, value in values.items():
        gauge.labels(word).set(value)


def _former_success(path: Path) -> float | None:
    """Return the last success as the former file has it; None where it has none, or is not ours."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families(path.read_text("utf-8")))
    except (FileNotFoundError, ValueError):
        return None
    samples = [sample for family in families for sample in family.samples if sample.name == _LAST_SUCCESS]
    return samples[0].value if samples else None
