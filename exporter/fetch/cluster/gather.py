"""The finished ranges put together: files become parts of one dataset, rejects follow in line order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from exporter.dataset.publishing.publish_job import PublishResult
from exporter.fetch.cluster.messages import RangeResult
from exporter.model.manifest import REJECTS_FILE, part_name
from exporter.model.options import FileFormat
from exporter.model.records import PartFile
from exporter.system import durable


def gather(
    staged: Path, ranges: Sequence[tuple[Path, RangeResult]], formats: Sequence[FileFormat]
) -> PublishResult:
    """Move the files of finished ranges, given in the plan's order, into the empty staged folder; say what is there."""
    with durable.storage_errors("gathering the ranges", staged):
        files = {
            name: [part for each in formats for part in _parts(staged, ranges, name, f".{each}")]
            for name in {name: None for _, done in ranges if done.result for name in done.result.files}
        }
        rejects = (folder / done.staged / REJECTS_FILE for folder, done in ranges)
        durable.write_lines(staged / REJECTS_FILE, _lines(rejects), mode=None)
    results = [done.result for _, done in ranges if done.result is not None]
    return PublishResult(
        exported=sum(result.exported for result in results),
        order_items=sum(result.order_items for result in results),
        rejects_by_reason=_sum(result.rejects_by_reason for result in results),
        files=files,
        unmapped_paths=_sum(result.unmapped_paths for result in results),
        uncoerced=_sum(result.uncoerced for result in results),
    )


def _parts(
    staged: Path, ranges: Sequence[tuple[Path, RangeResult]], name: str, suffix: str
) -> Iterator[PartFile]:
    """Move one table's files of one format; yield them under their new names."""
    found = [
        (folder / done.staged / part.path, part)
        for folder, done in ranges
        if done.result is not None
        for part in done.result.files[name]
        if part.path.endswith(suffix)
    ]
    table = staged / f"{'orders' if suffix == '.xlsx' else name}{suffix}"
    single = len(found) == 1 and "/" not in found[0][1].path
    if not single:
        table.mkdir(exist_ok=True)
    for index, (source, part) in enumerate(found):
        target = table if single else table / part_name(index, suffix)
        if source.exists():  # a workbook came with the table before
            source.replace(target)
        yield replace(part, path=target.relative_to(staged).as_posix())
    durable.sync_folder(table if table.is_dir() else staged)


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        with file.open("rb") as lines:
            yield from lines


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))
