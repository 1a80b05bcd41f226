"""A prefix of an object store as the place of a dataset: `s3://BUCKET/PREFIX`.

A prefix has no rename that takes a whole dataset, so here the manifest is what makes one: it goes up last.
Where an old dataset is replaced, its manifest goes first, then come the new files, then those go that only the
old one had. Meanwhile there is none to be read; who cannot bear that gives `{date}` or `{time}` in the prefix.

What is not ours is neither replaced nor removed. Ours is what the old manifest names, and what we have uploaded:
it carries a mark, so that the leftovers of an upload that was killed are recognised, on another machine too. The
mark holds the file's SHA-256, by which a file that is there already is not uploaded again, and its name in the
dataset, by which another dataset further below is no leftover of this one. Only one machine at a time may write
to a prefix; the lock is this machine's.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import zlib
from importlib.util import find_spec
from pathlib import Path

from exporter.dataset.s3 import AGAIN, Bucket, StoredObject
from exporter.model.errors import InputError, StorageError, UsageError, missing_extra
from exporter.model.manifest import MANIFEST_FILE, REPORT_FILE, Manifest, decode
from exporter.model.units import size_text
from exporter.system import durable

log = logging.getLogger("exporter")

_BLOCK_BYTES = 1024 * 1024
_MOVE = "Move it away; the same command then publishes without new requests."
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^/\x00-\x1f][^\x00-\x1f]*)?)?"
)


class ObjectStore:
    """The objects below one prefix, without slashes around it, as a place; see `Directory`. Empty is the bucket."""

    def __init__(self, bucket: str, prefix: str, proxy: str | None) -> None:
        self._bucket = Bucket(bucket, proxy)
        self._below = f"{prefix}/" if prefix else ""
        self._url = f"s3://{bucket}/{self._below}"
        self._old: frozenset[str] = frozenset()

    def standing(self) -> Manifest | None:
        """Return the manifest of the finished dataset that is there; a `UsageError` where something else is."""
        text = self._manifest()
        if text is not None:
            return self._decoded(text)
        for key in self._bucket.keys(self._below):
            name = key.removeprefix(self._below)
            if not self._is_ours(name, self._bucket.look(key)):
                raise UsageError(
                    f"expected a free prefix, got one with {name}, which is not ours.",
                    "Give another --out.",
                    option="out",
                    value=self._url.rstrip("/"),
                )
        return None

    def refuse_strangers(self, standing: Manifest) -> None:
        """Refuse nothing: what the old manifest does not name stays where it is."""

    def repair(self, retired: Path) -> None:
        """Remember what of the old dataset, whose manifest is `retired`, a kill has left: `put` takes it away."""
        with durable.storage_errors("reading the old manifest", retired):
            if retired.is_file():
                self._old = decode(retired.read_bytes(), str(retired)).names

    def put(self, staged: Path, retired: Path) -> None:
        """Upload the staged dataset, its manifest last; `retired` is for the old manifest.

        After a `StorageError`, there is no manifest, or still the old one.
        """
        with durable.storage_errors("reading the staged dataset", staged):
            files = {
                path.relative_to(staged).as_posix(): path for path in staged.rglob("*") if path.is_file()
            }
            size = sum(path.stat().st_size for path in files.values())
        log.info("Uploading %d files, %s, to %s", len(files), size_text(size), self._url)
        self._retire(retired)
        manifest = files.pop(MANIFEST_FILE)
        for name, path in sorted(files.items()):
            self._upload(path, name)
        for name in sorted(self._old - files.keys() - {MANIFEST_FILE}):
            self._remove(name)
        self._upload(manifest, MANIFEST_FILE)

    def download_all(self, folder: Path) -> None:
        """Copy whatever is below the prefix into a folder."""
        with durable.storage_errors("copying the dataset", folder):
            for key in self._bucket.keys(self._below):
                path = (folder / key.removeprefix(self._below)).resolve()
                if not path.is_relative_to(folder.resolve()):
                    raise InputError(f"{self._url}: expected the files of a dataset, got {key!r}.")
                path.parent.mkdir(parents=True, exist_ok=True)
                self._bucket.download(key, path)

    def download(self, folder: Path) -> None:
        """Copy the dataset that is there into a folder that is made; an `InputError` where none is."""
        text = self._manifest()
        if text is None:
            raise InputError(
                f"{self._url}: expected a finished dataset, got none.", "Give the --out of a run."
            )
        with durable.storage_errors("copying the dataset", folder):
            for name in self._decoded(text).names - {MANIFEST_FILE, REPORT_FILE}:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                self._bucket.download(self._below + name, folder / name)
            (folder / MANIFEST_FILE).write_bytes(text)

    def interrupt(self) -> None:
        """Make what is under way in another thread end soon, by any error."""
        self._bucket.cancel()

    def _manifest(self) -> bytes | None:
        return self._bucket.read(self._below + MANIFEST_FILE)

    def _decoded(self, text: bytes) -> Manifest:
        return decode(text, f"{self._url}{MANIFEST_FILE}")

    def _retire(self, retired: Path) -> None:
        """Take the old manifest away, but keep it here: it names what is to be replaced."""
        text = self._manifest()
        if text is None:
            return
        try:
            self._old = self._decoded(text).names
        except InputError as error:  # it came a moment ago; as a UsageError it would end the work directory
            raise StorageError(error.what, _MOVE) from None
        with durable.storage_errors("keeping the old manifest", retired):
            durable.write_bytes(retired, text)
        self._remove(MANIFEST_FILE)

    def _remove(self, name: str) -> None:
        self._bucket.remove(self._below + name)
        durable.step("remove")

    def _upload(self, path: Path, name: str) -> None:
        """Upload one file, unless it is there already, and see that it has arrived whole."""
        key = self._below + name
        whole = _as_stored(path, name)
        there = self._bucket.look(key)
        if there is not None and not self._is_ours(name, there):
            raise StorageError(f"{self._url}{name} is not ours; it is not replaced.", _MOVE)
        if not _is_same(there, whole):
            self._bucket.upload(path, key, whole.mark or "")
            if not _is_same(self._bucket.look(key), whole):
                raise StorageError(
                    f"{self._url}{name} is not what was uploaded: its size or checksum differs.", AGAIN
                )
        durable.step("upload")

    def _is_ours(self, name: str, there: StoredObject | None) -> bool:
        return there is None or name in self._old or (there.mark or "").endswith(f" {name}")


def _as_stored(path: Path, name: str) -> StoredObject:
    """Read a file once, and return what the store says of it when it is there whole."""
    size, sha256, crc32 = 0, hashlib.sha256(), 0
    with durable.storage_errors("reading it", path), path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            size += len(block)
            sha256.update(block)
            crc32 = zlib.crc32(block, crc32)
    return StoredObject(
        bytes=size,
        mark=f"{sha256.hexdigest()} {name}",
        crc32=base64.b64encode(crc32.to_bytes(4, "big")).decode(),
    )


def newest_in_store(pattern: str, shape: str) -> str | None:
    """Return the URL of the newest finished dataset whose URL fits `shape`; None where there is none.

    `pattern` is `--out` as given, perhaps with `{date}` or `{time}`; `shape` is it as a regular expression.
    """
    bucket_name, _, prefix = pattern.removeprefix("s3://").partition("/")
    bucket = Bucket(bucket_name)
    found = []
    for key in bucket.keys(prefix.partition("{")[0].rstrip("/")):
        url, _, name = f"s3://{bucket_name}/{key}".rpartition("/")
        if name == MANIFEST_FILE and re.fullmatch(shape, url) and (text := bucket.read(key)):
            manifest = decode(text, f"s3://{bucket_name}/{key}")
            found += [(manifest.finished_at, url)] if not manifest.is_comparison else []
    return max(found, default=("", None))[1]


def _is_same(there: StoredObject | None, whole: StoredObject) -> bool:
    """Tell whether the store has this file, as far as it says: it need not give a checksum."""
    return there is not None and there._replace(crc32=there.crc32 or whole.crc32) == whole


def object_store(url: str, proxy: str | None = None) -> ObjectStore:
    """Return the destination that `s3://BUCKET` or `s3://BUCKET/PREFIX` names; see `Bucket` for `proxy`."""
    found = _URL.fullmatch(url)
    if found is None:  # it is not quoted: people put credentials into URLs
        raise UsageError(
            "expected a directory, or s3://BUCKET/PREFIX with a bucket of small letters, digits, dots"
            f" and hyphens; got {url.partition('://')[0]}://….",
            "Give one of these; credentials come from the environment or ~/.aws.",
            option="out",
        )
    if find_spec("boto3") is None:
        raise missing_extra("--out s3://…", "s3")
    return ObjectStore(found["bucket"], (found["prefix"] or "").rstrip("/"), proxy)
