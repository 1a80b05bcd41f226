"""Where the finished dataset will be: what is there now, and how the new one gets there."""

import os
from pathlib import Path, PurePosixPath

from exporter.dataset.object_store import ObjectStore, object_store
from exporter.model.errors import InputError, StorageError, UsageError
from exporter.model.manifest import MANIFEST_FILE, Manifest, decode
from exporter.system import durable


class Directory:
    """A directory of this machine as the place of a dataset."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: str | None = None

    def standing(self) -> Manifest | None:
        """Return the manifest of the dataset that is there, None for nothing; a `UsageError` for anything else."""
        file, self._seen = self._path / MANIFEST_FILE, None
        with durable.storage_errors("looking at it", self._path):
            if file.is_file():
                manifest = decode(file.read_bytes(), str(file))
                self._seen = manifest.run_id
                return manifest
            empty = not self._path.exists() or (self._path.is_dir() and not any(self._path.iterdir()))
        if empty and not self._path.is_symlink():
            return None
        what = "something that the exporter did not make is already there."
        raise self._refusal(what, "Give another --out.")

    def refuse_strangers(self, standing: Manifest) -> None:
        """Raise a `UsageError` where what is not ours would be lost with a dataset, or the place is a link."""
        if self._path.is_symlink():
            hint = f"Give the directory itself: {self._path.resolve()}"
            raise self._refusal("expected a directory, got a link to one.", hint)
        with durable.storage_errors("looking at it", self._path):
            stranger = stranger_in(self._path, standing)
        if stranger is not None:
            what = f"expected nothing beside the dataset there, got {stranger}, which is not ours."
            raise self._refusal(what, "Move it away, or give another --out.")

    def repair(self, retired: Path) -> None:
        """Put back the old dataset where a kill came while it was being replaced; `retired` is that of `put`."""
        with durable.storage_errors("putting the old dataset back", self._path):
            durable.repair(self._path, retired)

    def put(self, staged: Path, retired: Path) -> None:
        """Put the complete staged dataset, every file synced, in place of one that is there, all or nothing.

        `retired` is a free name for the old one. After a `StorageError`, what was there is still there.
        """
        with durable.storage_errors("publishing the dataset", self._path):
            replaced = durable.put_in_place(staged, self._path, retired)
            if replaced is None:
                return
            try:
                # What came between the last look and the exchange is not ours to remove.
                old = Directory(replaced)
                if (standing := old.standing()) is not None:
                    if standing.run_id != self._seen:
                        raise self._refusal("another dataset is there.", "")
                    old.refuse_strangers(standing)
            except UsageError as error:
                durable.put_in_place(replaced, self._path, staged)
                raise came_in_mid_run(error) from None
            remove_dataset(replaced)

    def interrupt(self) -> None:
        """Make what is under way in another thread end soon: a rename is over at once."""

    def _refusal(self, problem: str, hint: str) -> UsageError:
        return UsageError(problem, hint, option="out", value=self._path)


Destination = Directory | ObjectStore


def destination_of(out: str, proxy: str | None = None) -> Destination:
    """Return the destination that `out` names; with `none` as `proxy`, S3 is reached directly."""
    if "://" in out:
        return object_store(out, proxy)
    name, _, ending = out.rpartition(".")
    if ending.lower() in ("xlsx", "csv") and name:
        what = f"OUT is a directory; expected its name, got that of a .{ending} file."
        raise UsageError(what, f"Give --format {ending.lower()} --out {name}", option="out", value=out)
    return Directory(Path(out).absolute())


def stranger_in(folder: Path, manifest: Manifest) -> str | None:
    """Return the name of something in a dataset's directory that is not ours; None where there is nothing."""
    folders = {str(parent) for name in manifest.names for parent in PurePosixPath(name).parents}
    known = manifest.names | folders
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return next((name for name in names if name not in known), None)


def came_in_mid_run(error: UsageError) -> StorageError:
    """Return the error for what may not be replaced and was not there when the run began."""
    what = f"{error.problem} It appeared during the run."
    hint = "Move it away; the same command then publishes without new requests."
    return StorageError(what, hint, option=error.option, value=error.value)


def manifest_in(folder: Path) -> Manifest | None:
    """Return the manifest of the dataset in a folder; None where there is none of ours."""
    file = folder / MANIFEST_FILE
    if file.is_symlink() or not file.is_file():
        return None
    try:
        return decode(file.read_bytes(), str(file))
    except InputError:
        return None


def remove_dataset(folder: Path) -> str | None:
    """Remove a dataset: what its manifest names, the manifest last, and nothing else.

    No reader looks at the folder's name; it may be half removed already. Return what in it is not ours: then all
    of it stays.
    """
    manifest = manifest_in(folder)
    others = (path.name for path in folder.iterdir())
    stranger = next(others, None) if manifest is None else stranger_in(folder, manifest)
    if stranger is not None:
        return stranger
    for inner, _, files in os.walk(folder, topdown=False):
        for name in set(files) - {MANIFEST_FILE}:
            Path(inner, name).unlink()
        if Path(inner) != folder:
            Path(inner).rmdir()
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    durable.step("remove")
    folder.rmdir()
    durable.step("remove")
    durable.sync_folder(folder.parent)
    return None
