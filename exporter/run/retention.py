"""Older datasets make room for newer ones, and nothing else ever does.

What is removed is a finished dataset of ours whose name fits the pattern of `out`, that holds nothing but
what its manifest names, that no run is at work on, and that is older than those kept. Links are neither
followed nor removed. A dataset first gets a hidden name, so that nobody reads one that is half gone; what
a kill leaves under such a name goes with the next run.
"""

import re
from pathlib import Path

from exporter.dataset.destination import manifest_in, remove_dataset, stranger_in
from exporter.dataset.object_store import newest_in_store
from exporter.fetch.work_directory import discard, place_of
from exporter.model.errors import ExporterError, StorageError
from exporter.model.manifest import time_text
from exporter.model.options import PLACEHOLDERS
from exporter.system import durable
from exporter.system.log import log

_SHAPES = dict(zip(PLACEHOLDERS, (r"\d{4}-\d{2}-\d{2}", r"\d{6}b?"), strict=True))
_GOING = re.compile(r"\.(.+)\.removed")
_UNFINISHED = "%s: an unfinished run of another --out; remove it if nobody wants to resume it."


def remove_older(pattern: str, out: str, keep: int) -> tuple[str, ...]:
    """Remove the datasets that fit `pattern`, but for the newest `keep`, and return what was removed.

    The pattern is `--out` as given, with `{date}` or `{time}`; `out` is the same, filled in: the dataset that was just
    finished, one of those that stay. What could not be removed is told in the log: the run has succeeded all the same.
    """
    path, own, removed = Path(pattern).absolute(), Path(out).absolute(), []
    try:
        with durable.storage_errors("removing older datasets", own.parent):
            candidates = _fitting(path)
            for old in candidates:
                if _GOING.fullmatch(old.name):
                    _remove(old)
            others = sorted((at, old) for old in candidates if old != own and (at := _finished_at(old)))
            for _, old in others[: max(0, len(others) - (keep - 1))]:
                going = old.with_name(f".{old.name}.removed")
                durable.rename(old, going)
                _remove(going)
                removed.append(str(old))
            return tuple(removed)
    except StorageError as error:
        log.warning("--keep: older datasets could not be removed: %s", error)
        return ()


def newest(pattern: str) -> str | None:
    """Return the newest finished dataset whose place fits an `--out` as it was given; None where there is none."""
    if "://" in pattern:
        return newest_in_store(pattern, _shape(pattern.rstrip("/")))
    with durable.storage_errors("looking for older datasets", Path(pattern)):
        path = Path(pattern).absolute()
        found = _fitting(path) if any(place in pattern for place in PLACEHOLDERS) else [path]
        datasets = [
            (manifest.finished_at, str(path))
            for path in found
            if not _GOING.fullmatch(path.name)
            and (manifest := manifest_in(path))
            and not manifest.is_comparison
        ]
    return max(datasets, default=("", None))[1]


def tell_unfinished(pattern: str, out: str, *, remove: bool) -> None:
    """Name the work directories of other runs whose `--out` fits `pattern`, for they hold orders and nothing uses them.

    With `remove` those go that are older than every finished dataset that fits.
    """
    if "://" in pattern or not any(place in pattern for place in PLACEHOLDERS):
        return
    try:
        with durable.storage_errors("looking for unfinished runs", Path(pattern)):
            path = Path(pattern).absolute()
            finished = [at for one in _fitting(path) if (at := _finished_at(one))]
            for old in _fitting(path.with_name(f"{path.name}.partial")):
                if _GOING.fullmatch(old.name) or old == place_of(out) or not (old / "lock").is_file():
                    continue
                used_at = max(entry.stat().st_mtime for entry in (old, *old.iterdir()))
                if remove and time_text(used_at) < min(finished, default=""):
                    discard(str(old).removesuffix(".partial"))
                    log.info("Removed an unfinished run, older than --keep allows: %s", old)
                else:
                    log.warning(_UNFINISHED, old)
    except ExporterError as error:
        log.warning("Unfinished runs: %s", error)


def _remove(going: Path) -> None:
    stranger = remove_dataset(going)
    if stranger is not None:
        log.warning("--keep: %s stays: it holds %s, which is not ours.", going, stranger)


def _fitting(pattern: Path) -> list[Path]:
    """Return the directories whose path fits, and those that are on their way out; links are none."""
    first = next(i for i, name in enumerate(pattern.parts) if any(place in name for place in PLACEHOLDERS))
    *folders, last = map(_shape, pattern.parts[first:])
    found = [Path(*pattern.parts[:first])]
    for shape in (*folders, rf"(?P<going>\.)?{last}(?(going)\.removed)"):
        inside = (child for folder in found for child in sorted(folder.iterdir()))
        named = (child for child in inside if re.fullmatch(shape, child.name))
        found = [child for child in named if child.is_dir() and not child.is_symlink()]
    return found


def _shape(name: str) -> str:
    text = re.escape(name)
    for place, shape in _SHAPES.items():
        text = text.replace(re.escape(place), shape)
    return text


def _finished_at(path: Path) -> str | None:
    """Return when the dataset at `path` was finished, if it is ours and untouched by anybody; else None."""
    manifest = manifest_in(path)
    if manifest is None or _GOING.fullmatch(path.name) or place_of(str(path)).exists():
        return None
    stranger = stranger_in(path, manifest)
    if stranger is not None:
        log.warning("--keep: %s stays: it holds %s, which is not ours.", path, stranger)
        return None
    return manifest.finished_at
