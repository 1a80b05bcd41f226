"""S3 by boto3: the few requests that a dataset needs, and the one door for what they can fail with.

boto3 was chosen on 2026-11-24: whatever works for `aws s3 cp` works here, from AWS_ENDPOINT_URL to instance
roles. `obstore` is lighter (16 MiB against 36), but ignores AWS_PROFILE, ~/.aws and SSO; `s3fs` pins botocore to
a window of three releases, and keeps an event loop of its own.

Every request carries a checksum of its body, by boto3's own default, which the store compares before it
keeps a byte. AWS_REQUEST_CHECKSUM_CALCULATION=when_required switches that off for old stores.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any, NamedTuple

from exporter.model.errors import StorageError, UsageError
from exporter.system import durable
from exporter.system.proxies import proxy_for

_PARTS_AT_ONCE = 4  # of 8 MiB each, s3transfer's own choice
#: A store that is silent ends the run within a minute, by attempts of so many seconds with pauses of 15 s in all.
_SILENT_S = 8.0
_MARK = "omnitron-exporter"
#: What the environment may say instead: (variable, boto3's word, ours).
_RETRIES = (("AWS_RETRY_MODE", "mode", "standard"), ("AWS_MAX_ATTEMPTS", "total_max_attempts", 5))


class StoredObject(NamedTuple):
    """What the store says of an object: its size, our mark from its upload, its checksum where it gives one."""

    bytes: int
    mark: str | None
    crc32: str | None


class Bucket:
    """The objects of a bucket, by their keys. Requests block; `cancel` may come from another thread.

    With `none` as `proxy` there is none; else the environment decides, as for the API. Every method raises a
    `StorageError` where the store refuses or cannot be reached, and a `CancelledError` after `cancel`.
    """

    def __init__(self, name: str, proxy: str | None = None) -> None:
        self._name, self._proxy = name, proxy
        self._cancelled = False
        self._transfer: Any = None

    def read(self, key: str) -> bytes | None:
        """Return an object's bytes, None where there is none."""
        with self._request("reading it", key):
            try:
                answer: bytes = self._client.get_object(Bucket=self._name, Key=key)["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None
            return answer

    def download(self, key: str, path: Path) -> None:
        """Copy an object into a file that is made."""
        with self._request("downloading it", key):
            self._client.download_file(self._name, key, str(path))

    def look(self, key: str) -> StoredObject | None:
        """Return what the store says of an object, None where there is none."""
        with self._request("looking at it", key):
            try:
                head = self._client.head_object(Bucket=self._name, Key=key, ChecksumMode="ENABLED")
            except self._client.exceptions.ClientError as error:
                if _status(error) == 404:
                    return None
                raise
        in_parts = "-" in head["ETag"]  # `…-3`; then its checksum is made of those of three parts
        return StoredObject(
            bytes=head["ContentLength"],
            mark=head["Metadata"].get(_MARK),
            crc32=None if in_parts else head.get("ChecksumCRC32"),
        )

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, but for the empty objects that stand for folders."""
        with self._request("listing it", prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._name, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    if entry["Size"] or not entry["Key"].endswith("/"):
                        yield entry["Key"]

    def remove(self, key: str) -> None:
        """Remove an object; none there is fine."""
        with self._request("removing it", key):
            self._client.delete_object(Bucket=self._name, Key=key)

    def upload(self, path: Path, key: str, mark: str) -> None:
        """Upload a file, a large one in parts; the object appears when it is whole, with `mark` (ASCII) noted."""
        from s3transfer import manager  # type: ignore[import-untyped] # ships no types

        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        config = manager.TransferConfig(max_request_concurrency=_PARTS_AT_ONCE)
        with (
            durable.storage_errors("uploading it", path),
            self._request("uploading it", key),
            manager.TransferManager(self._client, config, executor_cls=_DaemonThreads) as transfers,
        ):
            about = {"Metadata": {_MARK: mark}, "ContentType": kind}
            self._transfer = transfers.upload(str(path), self._name, key, about)
            if self._cancelled:
                self._transfer.cancel()
            self._transfer.result()

    def cancel(self) -> None:
        """Make the upload under way, and every later request, fail."""
        self._cancelled = True
        if self._transfer is not None:
            self._transfer.cancel()

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
            raise UsageError(
                "AWS_ENDPOINT_URL: expected the address of an S3 store, got none.",
                "Give it as https://HOST, or unset it.",
            ) from None

    @contextmanager
    def _request(self, doing: str, key: str) -> Iterator[None]:
        """Turn what boto3 raises inside the block into a `StorageError`, without quoting it: it may hold secrets."""
        from botocore import exceptions  # type: ignore[import-untyped] # ships no types

        if self._cancelled:
            raise CancelledError
        try:
            yield
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            names = _names_of(error)
            what, hint = next((_FAULTS[name] for name in names if name in _FAULTS), (names[0], AGAIN))
            raise StorageError(f"s3://{self._name}/{key}: {doing} failed: {what}.", hint) from None


class _DaemonThreads(Executor):
    """Threads that do not keep the process from ending: a part may take minutes on a slow line."""

    def __init__(self, max_workers: int) -> None:
        self._free = Semaphore(max_workers)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._free.acquire()
        Thread(target=self._work, args=(future, partial(fn, *args, **kwargs)), daemon=True).start()
        return future

    def _work(self, future: Future[Any], call: Callable[[], Any]) -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._free.release()


# --- what the store refuses ---

AGAIN = "Remove the cause, then run the same command again to resume."
_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, then run the same command again to resume."
_ACCESS = (
    "Allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and"
    " s3:AbortMultipartUpload below the prefix, then run the same command again to resume."
)
_BUCKET = (
    "Create the bucket, or look for it elsewhere: AWS_ENDPOINT_URL, AWS_REGION and AWS_PROFILE say where."
)
_NETWORK = "Check the network, and AWS_ENDPOINT_URL if it is set, then run the same command again to resume."
_REGION = "Set AWS_REGION to the bucket's region, then run the same command again to resume."

# What happened, what to do, and whose names it goes by: codes of
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, HTTP statuses (an answer to HEAD has
# nothing else), and botocore's own exceptions.
_KNOWN = (
    ("no credentials were found", _CREDENTIALS, "NoCredentialsError"),
    ("the credentials are incomplete", _CREDENTIALS, "PartialCredentialsError"),
    ("the credentials could not be looked up", _CREDENTIALS, "CredentialRetrievalError"),
    ("the profile of AWS_PROFILE is not there", _CREDENTIALS, "ProfileNotFound"),
    (
        "the login by SSO has expired",
        "Run: aws sso login. Then run the same command again to resume.",
        "SSOError",
    ),
    ("the credentials are refused", _CREDENTIALS, "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken"),
    ("the credentials have expired", _CREDENTIALS, "ExpiredToken"),
    (
        "the clocks of this machine and the store differ",
        "Set this machine's clock, then run the same command again to resume.",
        "RequestTimeTooSkewed",
    ),
    ("there is no such bucket", _BUCKET, "NoSuchBucket"),
    ("access denied", _ACCESS, "AccessDenied 403"),
    ("the bucket is in another region", _REGION, "AuthorizationHeaderMalformed 301"),
    ("the store asks to slow down", AGAIN, "SlowDown"),
    ("the store is overloaded or out of order", AGAIN, "5xx"),
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
    status = _status(error)
    if status is None:
        return [kind.__name__ for kind in type(error).__mro__]
    return [error.response["Error"].get("Code", ""), str(status), f"{status // 100}xx"]


def _status(error: Any) -> int | None:
    """Return the HTTP status of an answer that is an error."""
    answer = getattr(error, "response", None) or {}  # a time-out has one that is None
    status: int | None = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
