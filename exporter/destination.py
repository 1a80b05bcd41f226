"""Where the finished dataset will stand: what stands there now, and how the new one gets there."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from exporter import durable
from exporter.errors import UsageError
from exporter.manifest import MANIFEST_FILE, Manifest, decode
from exporter.object_store import object_store


class Destination(Protocol):
    """A place for one dataset."""

    def standing(self) -> Manifest | None:
        """Return the manifest of the finished dataset that stands there; None where nothing does.

        Raises:
            UsageError: Something that is no dataset of ours stands there.
        """

    def repair(self, retired: Path) -> None:
        """Put back the old dataset where a kill came while it was being replaced.

        Args:
            retired: Where `put` lets it wait.
        """

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
    """A directory of this machine.

    Args:
        path: The directory.
    """

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
                f"--out {self._path}: expected a free name, got something that is no dataset of ours.",
                "Give another --out.",
            )
        return None

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
        UsageError: It is a URL of a kind that we do not know, or that needs an extra.
    """
    if "://" in out:
        return object_store(out)
    return Directory(Path(out).absolute())
