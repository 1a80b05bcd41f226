"""How a run goes and how the last one ended, as a file for the textfile collector of Prometheus' node exporter."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from exporter.dataset.summary import Summary
from exporter.model.errors import ExporterError, StorageError, UsageError
from exporter.model.manifest import CHANGE_COUNTS
from exporter.model.progress import Progress
from exporter.model.records import REJECT_REASONS
from exporter.system import durable

_PREFIX = "omnitron_exporter_"
_EVERY_S = 15.0


class Metrics:
    """What is told of one run: how far it is, and its summary once it has published."""

    progress: Progress | None = None
    summary: Summary | None = None

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path is not None else None
        self._started_at, self._began = time.time(), time.monotonic()
        self._ended = Event()
        self._heart = Thread(target=self._beat, name="metrics", daemon=True)

    def begin(self) -> None:
        """Say that a run continues, now and every 15 seconds, so that a killed one shows."""
        if self._path is not None:
            self.write(None)
            self._heart.start()

    def _beat(self) -> None:
        while not self._ended.wait(_EVERY_S):
            with suppress(StorageError):  # the last write tells
                self.write(None)

    def end(self, exit_code: int) -> None:
        """Say how the run ended."""
        self._ended.set()
        if self._heart.is_alive():
            self._heart.join()
        self.write(exit_code)

    def write(self, exit_code: int | None) -> None:
        """Write the file; without an exit code the run continues. What is not known now keeps its last value."""
        if self._path is None:
            return
        with durable.storage_errors("writing the metrics", self._path):
            families = _families(self._path) | dict(self._of_run(exit_code))
            if exit_code is not None and self.summary is not None:
                families |= dict(_of_summary(self.summary))
            lines = (f"{line}\n".encode() for family in families.values() for line in family)
            durable.write_lines(self._path, lines, mode=0o644)

    def _of_run(self, exit_code: int | None) -> Iterator[tuple[str, list[str]]]:
        now = time.time()
        yield _gauge("run_in_progress", "1 while a run is active.", exit_code is None)
        yield _gauge("run_started_timestamp_seconds", "When the last run began.", self._started_at)
        yield _gauge("run_heartbeat_timestamp_seconds", "When it last wrote this.", now)
        if self.progress is not None:
            yield _gauge("run_orders", "Distinct order numbers of its input.", self.progress.total)
            yield _gauge("run_orders_done", "Those that need no more requests.", self.progress.done)
        if exit_code is not None:
            yield _gauge("last_run_timestamp_seconds", "When the last run ended.", now)
            yield _gauge("last_run_exit_code", "Its exit code.", exit_code)
            published = self.summary is not None
            yield _gauge("last_run_success", "1 where it published, with rejects or without.", published)
            duration_s = time.monotonic() - self._began
            yield _gauge("last_run_duration_seconds", "From its start to its end, this try only.", duration_s)
            if published:
                yield _gauge("last_success_timestamp_seconds", "When a run last published.", now)


@contextmanager
def reported(path: str | None) -> Iterator[Metrics]:
    """Write to `path`, if any, how the run inside the block ended; a `StorageError` where that fails."""
    if path is not None and Path(path).is_dir():
        hint = "Give a file in it, as exporter.prom."
        raise UsageError("expected a file, got a directory.", hint, option="metrics_file", value=path)
    metrics = Metrics(path)
    try:
        yield metrics
    except BaseException as error:
        try:
            metrics.end(error.exit_code if isinstance(error, ExporterError) else 1)
        except StorageError as second:
            error.add_note(str(second))
        raise
    try:
        metrics.end(metrics.summary.exit_code if metrics.summary else 0)
    except StorageError as error:
        raise StorageError(error.what, f"{error.flag_hint} The dataset is published all the same.") from error


def _of_summary(summary: Summary) -> Iterator[tuple[str, list[str]]]:
    size = sum(part.bytes for part in summary.files)
    rejects = dict.fromkeys(REJECT_REASONS, 0) | summary.rejects_by_reason
    yield _gauge("orders_requested", "Distinct order numbers of the input.", summary.requested)
    yield _gauge("orders_exported", "Order rows of the dataset.", summary.exported)
    yield _gauge("order_items_exported", "Item rows of the dataset.", summary.items)
    yield _gauge("dataset_bytes", "Size of its tables.", size)
    yield _gauge("unmapped_values", "Values that fitted no column.", sum(summary.drift.values()))
    yield _gauge("rejects", "Lines without rows.", rejects, label="reason")
    yield _gauge("requests", "Requests, by what they were.", summary.requests, label="kind")
    if summary.changes is not None:
        counts = {word: summary.changes[word] for word in CHANGE_COUNTS}
        yield _gauge("changes", "Orders against the dataset before.", counts, label="change")
    what = "Answers of the last try, by HTTP status; none is no answer."
    yield _gauge("responses", what, summary.statuses, label="status")


def _gauge(name: str, what: str, value: float | dict[str, int], label: str = "") -> tuple[str, list[str]]:
    """Return a gauge in Prometheus' text format; every label's value is a plain word or number of ours."""
    name = _PREFIX + name
    lines = [f"# HELP {name} {what}", f"# TYPE {name} gauge"]
    if isinstance(value, dict):
        return name, lines + [f'{name}{{{label}="{word}"}} {float(count)}' for word, count in value.items()]
    return name, [*lines, f"{name} {float(value)}"]


def _families(path: Path) -> dict[str, list[str]]:
    """Return the lines of each gauge as the former file has them; nothing of a file that is not ours."""
    families: dict[str, list[str]] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (FileNotFoundError, ValueError):
        return {}
    for line in lines:
        name = line.split(" ")[2 if line.startswith("# ") else 0 : 3][:1]
        if name and name[0].startswith(_PREFIX):
            families.setdefault(name[0].partition("{")[0], []).append(line)
    return families
