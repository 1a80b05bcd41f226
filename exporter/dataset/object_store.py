"""A prefix of an object store as the place of a dataset: `s3://BUCKET/PREFIX`.

A prefix has no rename that takes a whole dataset, so here the manifest is what makes one: it goes up last.
Where an old dataset is replaced, its manifest goes first, then come the new files, then those go that only the
old one had. Meanwhile there is none to be read; to avoid that, give `{date}` or `{time}` in the prefix.

What is not ours is neither replaced nor removed. Ours is what the old manifest names, and what we have uploaded:
it carries a mark, so that the leftovers of an upload that was killed are recognised, on another machine too. The
mark holds the file's SHA-256, by which a file that is there already is not uploaded again, and its name in the
dataset, by which another dataset further below is no leftover of this one. Only one machine at a time may write
to a prefix; the lock is this machine's.

With boto3, whatever works for `aws s3 cp` works here, from AWS_ENDPOINT_URL to instance roles. Every request carries a
checksum of its body, which the store compares before it keeps a byte; AWS_REQUEST_CHECKSUM_CALCULATION=when_required
switches that off for old stores.
"""

import base64
import hashlib
import mimetypes
import os
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from threading import Semaphore
from typing import Any, NamedTuple

from exporter.model.errors import InputError, StorageError, UsageError
from exporter.model.manifest import MANIFEST_FILE, REPORT_FILE, Manifest, decode
from exporter.model.units import size_text
from exporter.system import durable
from exporter.system.extras import need_extra
from exporter.system.log import log
from exporter.system.proxies import proxy_for
from exporter.system.stopping import in_thread

_BLOCK_BYTES = 1024 * 1024
_MOVE = "Move it away; the same command then publishes without new requests."
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^/\x00-\x1f][^\x00-\x1f]*)?)?"
)
_PARTS_AT_ONCE = 4  # of 8 MiB each, s3transfer's own choice
#: A store that is silent ends the run within a minute, by attempts of so many seconds with pauses of 15 s in all.
_SILENT_S = 8.0
_MARK = "omnitron-exporter"
#: What the environment may say instead: (variable, boto3's word, ours).
_RETRIES = (("AWS_RETRY_MODE", "mode", "standard"), ("AWS_MAX_ATTEMPTS", "total_max_attempts", 5))


class StoredObject(NamedTuple):
    """What the store says of an object: its size, our mark from its upload, its checksum where it gives one."""

    bytes: int
    mark: str
    crc32: str | None


class ObjectStore:
    """The objects below one prefix, without slashes around it, as a place; see `Directory`. Empty is the bucket.

    With `none` as `proxy` there is none; else the environment decides, as for the API. Every method raises a
    `StorageError` where the store refuses or cannot be reached, and a `CancelledError` after `interrupt`, which may
    come from another thread.
    """

    def __init__(self, bucket: str, prefix: str = "", proxy: str | None = None) -> None:
        self._bucket, self._proxy = bucket, proxy
        self._below = f"{prefix}/" if prefix else ""
        self._url = f"s3://{bucket}/{self._below}"
        self._old: frozenset[str] = frozenset()
        self._cancelled = False
        self._transfer: Any = None

    def standing(self) -> Manifest | None:
        """Return the manifest of the finished dataset that is there; a `UsageError` where something else is."""
        text = self.read(MANIFEST_FILE)
        if text is not None:
            return self._decoded(text)
        for name in self.names():
            if not self._is_ours(name, self._look(name)):
                what = f"expected a free prefix, got one with {name}, which is not ours."
                raise UsageError(what, "Give another --out.", option="out", value=self._url.rstrip("/"))
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
            paths = [path for path in staged.rglob("*") if path.is_file()]
            files = {path.relative_to(staged).as_posix(): path for path in paths}
            size = sum(path.stat().st_size for path in files.values())
        log.info("Uploading %d files, %s, to %s", len(files), size_text(size), self._url)
        self._retire(retired)
        manifest = files.pop(MANIFEST_FILE)
        for name, path in sorted(files.items()):
            self._put_file(path, name)
        for name in sorted(self._old - files.keys() - {MANIFEST_FILE}):
            self._remove(name)
        self._put_file(manifest, MANIFEST_FILE)

    def download(self, folder: Path, *, whatever: bool = False) -> None:
        """Copy the dataset that is there into a folder, or `whatever` is there; an `InputError` where none is."""
        if whatever:
            names = self.names()
        elif text := self.read(MANIFEST_FILE):
            names = iter(self._decoded(text).names - {REPORT_FILE})
        else:
            what = f"{self._url}: expected a finished dataset, got none."
            raise InputError(what, "Give the --out of a run.")
        with durable.storage_errors("copying the dataset", folder):
            for name in names:
                path = (folder / name).resolve()
                if not path.is_relative_to(folder.resolve()):
                    what = f"{self._url}: expected the files of a dataset, got {self._below + name!r}."
                    raise InputError(what)
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._request("downloading it", name):
                    self._client.download_file(self._bucket, self._below + name, str(path))

    def interrupt(self) -> None:
        """Make what is under way in another thread end soon, by any error."""
        self._cancelled = True
        if self._transfer is not None:
            self._transfer.cancel()

    def _decoded(self, text: bytes) -> Manifest:
        return decode(text, f"{self._url}{MANIFEST_FILE}")

    def _retire(self, retired: Path) -> None:
        """Take the old manifest away, but keep it here: it names what is to be replaced."""
        text = self.read(MANIFEST_FILE)
        if text is None:
            return
        try:
            self._old = self._decoded(text).names
        except InputError as error:  # it came a moment ago; as a UsageError it would end the work directory
            raise StorageError(error.what, _MOVE) from None
        with durable.storage_errors("keeping the old manifest", retired):
            durable.write_bytes(retired, text)
        self._remove(MANIFEST_FILE)

    def _put_file(self, path: Path, name: str) -> None:
        """Upload one file, unless it is there already, and see that it has arrived whole."""
        whole, there = _as_stored(path, name), self._look(name)
        if not self._is_ours(name, there):
            raise StorageError(f"{self._url}{name} is not ours; it is not replaced.", _MOVE)
        if not _is_same(there, whole):
            self._upload(path, name, whole.mark)
            if not _is_same(self._look(name), whole):
                what = f"{self._url}{name} is not what was uploaded: its size or checksum differs."
                raise StorageError(what, _AGAIN)
        durable.step("upload")

    def _is_ours(self, name: str, there: StoredObject | None) -> bool:
        return there is None or name in self._old or there.mark.endswith(f" {name}")

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, None where there is none."""
        with self._request("reading it", name):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._below + name)
            except self._client.exceptions.NoSuchKey:
                return None
            return bytes(answer["Body"].read())

    def names(self, begin: str = "") -> Iterator[str]:
        """Yield the names that begin so, but for the empty objects that stand for folders."""
        with self._request("listing it", begin):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._below + begin):
                for entry in page.get("Contents", ()):
                    if entry["Size"] or not entry["Key"].endswith("/"):
                        yield entry["Key"].removeprefix(self._below)

    def _look(self, name: str) -> StoredObject | None:
        place = {"Bucket": self._bucket, "Key": self._below + name}
        with self._request("looking at it", name):
            try:
                head = self._client.head_object(**place, ChecksumMode="ENABLED")
            except self._client.exceptions.ClientError as error:
                if "404" in _names_of(error):
                    return None
                raise
        in_parts = "-" in head["ETag"]  # `…-3`; then its checksum is made of those of three parts
        checksum = None if in_parts else head.get("ChecksumCRC32")
        return StoredObject(head["ContentLength"], head["Metadata"].get(_MARK, ""), checksum)

    def _remove(self, name: str) -> None:
        with self._request("removing it", name):
            self._client.delete_object(Bucket=self._bucket, Key=self._below + name)
        durable.step("remove")

    def _upload(self, path: Path, name: str, mark: str) -> None:
        """Upload a file, a large one in parts; the object appears when it is whole, with `mark` (ASCII) noted."""
        from s3transfer import manager  # type: ignore[import-untyped] # ships no types

        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        config = manager.TransferConfig(max_request_concurrency=_PARTS_AT_ONCE)
        with (
            durable.storage_errors("uploading it", path),
            self._request("uploading it", name),
            manager.TransferManager(self._client, config, executor_cls=_DaemonThreads) as transfers,
        ):
            about = {"Metadata": {_MARK: mark}, "ContentType": kind}
            self._transfer = transfers.upload(str(path), self._bucket, self._below + name, about)
            if self._cancelled:
                self._transfer.cancel()
            self._transfer.result()

    @cached_property
    def _client(self) -> Any:
        """The client: built when first used, for it reads files and may ask for credentials."""
        from boto3.session import Session  # type: ignore[import-untyped] # ships no types
        from botocore.config import Config  # type: ignore[import-untyped] # ships no types

        retries = {word: ours for variable, word, ours in _RETRIES if variable not in os.environ}
        config = Config(connect_timeout=_SILENT_S, read_timeout=_SILENT_S, retries=retries)
        try:
            session = Session()
            endpoint = session.client("s3", config=config).meta.endpoint_url
            proxy = proxy_for(endpoint, self._proxy)
            proxies = {"http": proxy, "https": proxy} if proxy else {}
            return session.client("s3", config=config.merge(Config(proxies=proxies)))
        except ValueError:
            what = "AWS_ENDPOINT_URL: expected the address of an S3 store, got none."
            raise UsageError(what, "Give it as https://HOST, or unset it.") from None

    @contextmanager
    def _request(self, doing: str, name: str) -> Iterator[None]:
        """Turn what boto3 raises inside the block into a `StorageError`, without quoting it: it may hold secrets."""
        from botocore import exceptions  # type: ignore[import-untyped] # ships no types

        if self._cancelled:
            raise CancelledError
        try:
            yield
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            names = _names_of(error)
            what, hint = next((_FAULTS[one] for one in names if one in _FAULTS), (names[0], _AGAIN))
            raise StorageError(f"{self._url}{name}: {doing} failed: {what}.", hint) from None


class _DaemonThreads(Executor):
    """Threads that do not keep the process from ending: a part may take minutes on a slow line."""

    def __init__(self, max_workers: int) -> None:
        self._free = Semaphore(max_workers)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._free.acquire()
        future = in_thread(partial(fn, *args, **kwargs))
        future.add_done_callback(lambda _: self._free.release())
        return future


def _as_stored(path: Path, name: str) -> StoredObject:
    """Read a file once, and return what the store says of it when it is there whole."""
    size, sha256, crc32 = 0, hashlib.sha256(), 0
    with durable.storage_errors("reading it", path), path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            size += len(block)
            sha256.update(block)
            crc32 = zlib.crc32(block, crc32)
    checksum = base64.b64encode(crc32.to_bytes(4, "big")).decode()
    return StoredObject(size, f"{sha256.hexdigest()} {name}", checksum)


def _is_same(there: StoredObject | None, whole: StoredObject) -> bool:
    """Tell whether the store has this file, as far as it says: it need not give a checksum."""
    return there is not None and there._replace(crc32=there.crc32 or whole.crc32) == whole


def newest_in_store(pattern: str, shape: str) -> str | None:
    """Return the URL of the newest finished dataset whose URL fits `shape`; None where there is none.

    `pattern` is `--out` as given, perhaps with `{date}` or `{time}`; `shape` is it as a regular expression.
    """
    bucket, _, prefix = pattern.removeprefix("s3://").partition("/")
    store, found = ObjectStore(bucket), []
    for key in store.names(prefix.partition("{")[0].rstrip("/")):
        url, _, name = f"s3://{bucket}/{key}".rpartition("/")
        if name == MANIFEST_FILE and re.fullmatch(shape, url) and (text := store.read(key)):
            manifest = decode(text, f"s3://{bucket}/{key}")
            found += [(manifest.finished_at, url)] if not manifest.is_comparison else []
    return max(found, default=("", None))[1]


def object_store(url: str, proxy: str | None = None) -> ObjectStore:
    """Return the destination that `s3://BUCKET` or `s3://BUCKET/PREFIX` names."""
    found = _URL.fullmatch(url)
    if found is None:  # it is not quoted: people put credentials into URLs
        expected = (
            "a directory, or s3://BUCKET/PREFIX with a bucket of 3 to 63 small letters, digits, dots, hyphens"
        )
        hint = "Give one of these; credentials come from the environment or ~/.aws."
        raise UsageError(f"expected {expected}; got {url.partition('://')[0]}://….", hint, option="out")
    need_extra("--out s3://…", "s3", "boto3")
    return ObjectStore(found["bucket"], (found["prefix"] or "").rstrip("/"), proxy)


_RESUME = "run the same command again to resume."
_AGAIN = f"Remove the cause, then {_RESUME}"
_CREDENTIALS = f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, then {_RESUME}"
_ACCESS = (
    "Allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and"
    f" s3:AbortMultipartUpload below the prefix, then {_RESUME}"
)
_BUCKET = (
    "Create the bucket, or look for it elsewhere: AWS_ENDPOINT_URL, AWS_REGION and AWS_PROFILE say where."
)
_NETWORK = f"Check the network, and AWS_ENDPOINT_URL if it is set, then {_RESUME}"
_REGION = f"Set AWS_REGION to the bucket's region, then {_RESUME}"
_CLOCK = f"Set this machine's clock, then {_RESUME}"

# What happened, what to do, and whose names it goes by: codes of
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, HTTP statuses (an answer to HEAD has
# nothing else), and botocore's own exceptions.
_KNOWN = (
    ("no credentials were found", _CREDENTIALS, "NoCredentialsError"),
    ("the credentials are incomplete", _CREDENTIALS, "PartialCredentialsError"),
    ("the credentials could not be looked up", _CREDENTIALS, "CredentialRetrievalError"),
    ("the profile of AWS_PROFILE is not there", _CREDENTIALS, "ProfileNotFound"),
    ("the login by SSO has expired", f"Run: aws sso login. Then {_RESUME}", "SSOError"),
    ("the credentials are refused", _CREDENTIALS, "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken"),
    ("the credentials have expired", _CREDENTIALS, "ExpiredToken"),
    ("the clocks of this machine and the store differ", _CLOCK, "RequestTimeTooSkewed"),
    ("there is no such bucket", _BUCKET, "NoSuchBucket"),
    ("access denied", _ACCESS, "AccessDenied 403"),
    ("the bucket is in another region", _REGION, "AuthorizationHeaderMalformed 301"),
    ("the store asks to slow down", _AGAIN, "SlowDown"),
    ("the store is overloaded or out of order", _AGAIN, "5xx"),
    ("its certificate is refused", "Set AWS_CA_BUNDLE to the authority that signed it.", "SSLError"),
    ("the store cannot be reached", _NETWORK, "ConnectTimeoutError ConnectionError"),
    ("the proxy cannot be reached", "Check HTTPS_PROXY and NO_PROXY.", "ProxyConnectionError"),
    ("the store did not answer in time", _NETWORK, "ReadTimeoutError"),
    ("the store closed the connection", _NETWORK, "ConnectionClosedError"),
    ("the connection failed", _NETWORK, "HTTPClientError"),
)
_FAULTS = {name: (what, hint) for what, hint, names in _KNOWN for name in names.split()}


def _names_of(error: Any) -> list[str]:
    """Return what a fault may stand under in the table, the most exact name first."""
    answer = getattr(error, "response", None) or {}  # a time-out has one that is None
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status is None:
        return [kind.__name__ for kind in type(error).__mro__]
    return [answer["Error"].get("Code", ""), str(status), f"{status // 100}xx"]
