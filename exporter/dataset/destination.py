"""Where the finished dataset will stand: what stands there now, and how the new one gets there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from exporter.dataset.object_store import object_store
from exporter.model.errors import UsageError
from exporter.model.manifest import MANIFEST_FILE, Manifest, decode
from exporter.system import durable


class Destination(Protocol):
    """A place for one dataset."""

    def standing(self) -> Manifest | None:
        """Return the manifest of the finished dataset that stands there; None where nothing does.

        Raises:
            UsageError: Something that is no dataset of ours stands there.
        """

    def refuse_strangers(self, standing: Manifest) -> None:
        """Refuse to replace a dataset where something that is not ours would be lost with it.

        Raises:
            UsageError: There is more than `standing` names, or the place is a link.
        """

    def repair(self, retired: Path) -> None:
        """Put back the old dataset where a kill came while it was being replaced; `retired` is that of `put`."""

    def put(self, staged: Path, retired: Path) -> None:
        """Put the complete staged dataset there, all or nothing, in place of one that stands there.

        Args:
            staged: The dataset, its manifest included, every file synced.
            retired: A free name beside `staged`, for the dataset that is replaced.

        Raises:
            StorageError: The place refuses; what stood there stands there still (for an object store see there).
        """

    def interrupt(self) -> None:
        """Make what is under way in another thread end soon, by any error."""


class Directory:
    """A directory of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def standing(self) -> Manifest | None:
        """See `Destination`."""
        manifest = self._path / MANIFEST_FILE
        with durable.storage_errors("looking at it", self._path):
            if manifest.is_file():
                return decode(manifest.read_bytes(), str(manifest))
            empty = not self._path.exists() or (self._path.is_dir() and not any(self._path.iterdir()))
        if not empty or self._path.is_symlink():
            raise UsageError(
                "expected a free name, got something that is no dataset of ours.",
                "Give another --out.",
                option="out",
                value=self._path,
            )
        return None

    def refuse_strangers(self, standing: Manifest) -> None:
        """See `Destination`."""
        if self._path.is_symlink():
            raise UsageError(
                "expected a directory, got a link to one.",
                f"Give the directory itself: {self._path.resolve()}",
                option="out",
                value=self._path,
            )
        with durable.storage_errors("looking at it", self._path):
            stranger = stranger_in(self._path, standing)
        if stranger is not None:
            raise UsageError(
                f"expected nothing beside the dataset there, got {stranger}, which is not ours.",
                "Move it away, or give another --out.",
                option="out",
                value=self._path,
            )

    def repair(self, retired: Path) -> None:
        """See `Destination`."""
        with durable.storage_errors("putting the old dataset back", self._path):
            durable.repair(self._path, retired)

    def put(self, staged: Path, retired: Path) -> None:
        """See `Destination`."""
        with durable.storage_errors("putting the dataset in its place", self._path):
            replaced = durable.put_in_place(staged, self._path, replace=True, retired=retired)
            if replaced is not None:
                durable.remove_tree(replaced)

    def interrupt(self) -> None:
        """See `Destination`; a rename is over at once."""


def destination_of(out: str) -> Destination:
    """Return the destination that `out` names.

    Raises:
        UsageError: It is a URL of a kind that we do not know, or that needs an extra; or a file's name.
    """
    if "://" in out:
        return object_store(out)
    name, _, ending = out.rpartition(".")
    if ending.lower() in ("xlsx", "csv") and name:
        raise UsageError(
            f"OUT is a directory; expected its name, got that of a .{ending} file.",
            f"Give --format {ending.lower()} --out {name}",
            option="out",
            value=out,
        )
    return Directory(Path(out).absolute())


def stranger_in(folder: Path, manifest: Manifest) -> str | None:
    """Return the name of something in a dataset's directory that is not ours; None where there is nothing."""
    names = (path.relative_to(folder).as_posix() for path in _below(folder))
    return next((name for name in names if name not in manifest.names), None)


def _below(folder: Path) -> Iterator[Path]:
    """Yield every file, link and empty folder below."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            yield from _below(path)
        else:
            yield path
