"""Datasets in an object store: whole or without a manifest, whatever happens, and nothing else touched."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import socket
import string
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import boto3  # type: ignore[import-untyped] # ships no types
import pytest
from botocore import exceptions  # type: ignore[import-untyped] # ships no types

from exporter.dataset import object_store
from exporter.dataset.destination import destination_of
from exporter.model.errors import StorageError, UsageError
from tests.support.datasets import Dataset, demo_payloads
from tests.support.processes import Api, Exporter
from tests.support.putting import peak_bytes, put, putting
from tests.support.servers.object_store import Asked, Gate, Refusal, gate_before, s3_server
from tests.support.standing import contents

MIB = 1024 * 1024
BOTH = ("--format", "parquet", "--format", "csv")
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI-bPxRfiCYEXAMPLEKEY"


@dataclass(frozen=True, kw_only=True)
class Lake:
    """A bucket of its own for a test, seen by another client than the exporter's.

    Args:
        client: Talks to the store without the gate.
        name: The bucket.
        out: Where the test's dataset goes.
    """

    client: Any
    name: str
    out: str

    def objects(self, prefix: str = "orders") -> dict[str, str]:
        """Return the digest of every object below a prefix, by its name there."""
        return {
            key.removeprefix(f"{prefix}/"): hashlib.sha256(self.read(key)).hexdigest()
            for key in self.keys(f"{prefix}/")
        }

    def tables(self) -> dict[str, str]:
        """Return the same of a dataset without its manifest, and see that the manifest names all."""
        found = self.objects()
        del found["manifest.json"]
        manifest = json.loads(self.read("orders/manifest.json"))
        parts = [part for table in manifest["tables"].values() for part in table["files"]]
        assert {part["path"]: part["sha256"] for part in parts} | {
            "rejects.jsonl": found["rejects.jsonl"]
        } == found
        return found

    def keys(self, prefix: str = "") -> list[str]:
        answer = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for entry in answer.get("Contents", ())]

    def read(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def fill(self, prefix: str, folder: Path) -> None:
        """Copy a folder's files there, as any tool would."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.write(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def unfinished(self) -> list[Any]:
        """Return the multipart uploads that were neither completed nor aborted."""
        uploads: list[Any] = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return uploads


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an S3-speaking server."""
    with s3_server() as url:
        yield url


@pytest.fixture
def gate(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gate]:
    """What the exporter takes for the store: in this process and in those that are started."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with gate_before(store) as gate:
        settings = {
            "AWS_ENDPOINT_URL": gate.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "aws"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "aws-credentials"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield gate


@pytest.fixture
def lake(store: str, gate: Gate, tmp_path: Path) -> Iterator[Lake]:
    """An empty bucket."""
    client = boto3.client("s3", endpoint_url=store, region_name="us-east-1")
    name = f"lake-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    client.create_bucket(Bucket=name)
    yield Lake(client=client, name=name, out=f"s3://{name}/orders")
    client.close()


@pytest.fixture
def exporter(lake: Lake, api: Api, tmp_path: Path) -> Exporter:
    """An exporter that knows the store."""
    return api.exporter(tmp_path, api.numbers[:60])


def dataset_in(folder: Path, orders: int, *, rows_per_file: int | None = None) -> Path:
    """Stage a dataset in a folder that is made."""
    Dataset(payloads=demo_payloads(orders), rows_per_file=rows_per_file).write(folder)
    (folder / "rejects.jsonl").touch()
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a folder, by its name there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


# --- whole runs


@pytest.mark.extra
def test_a_run_brings_the_files_of_a_local_one(
    lake: Lake, gate: Gate, api: Api, exporter: Exporter, tmp_path: Path
) -> None:
    """The same bytes stand in the bucket as on a disk; the process ends; the next is refused and changes nothing."""
    assert exporter.run(*BOTH, out="local").code == 0
    with exporter.run_started(*BOTH, out=f"{lake.out}/") as running:
        ended = running.end()
    assert (ended.code, SECRET in ended.err + ended.out) == (0, False), ended.err
    assert lake.tables() == contents(tmp_path / "local")
    assert list((tmp_path / "state" / "omnitron-exporter").iterdir()) == []
    asked, before = api.asked(), lake.objects()
    gate.asked.clear()
    exporter.run(out=lake.out).said(2, lake.out, "a finished dataset", "--overwrite")
    assert (api.asked(), lake.objects(), gate.writes()) == (asked, before, [])
    assert list((tmp_path / "state" / "omnitron-exporter").iterdir()) == []


def test_a_run_overwrites_what_it_may_and_nothing_else(
    lake: Lake, exporter: Exporter, tmp_path: Path
) -> None:
    """With --overwrite the old files go, and what somebody else has put below the prefix stays."""
    out = f"s3://{lake.name}/{{date}}"
    assert exporter.run("--rows-per-file", 25, out=out).code == 0
    date = lake.keys()[0].split("/")[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    lake.write(f"{date}/notes/mine.txt", b"not yours")
    lake.write(f"{date}-2/orders.parquet", b"not yours either")
    assert exporter.run("--format", "csv", "--overwrite", out=out).code == 0
    names = {"manifest.json", "order_items.csv", "orders.csv", "rejects.jsonl", "notes/mine.txt"}
    assert set(lake.objects(date)) == names
    assert lake.read(f"{date}/notes/mine.txt") == b"not yours"
    assert lake.read(f"{date}-2/orders.parquet") == b"not yours either"


# --- killed and stopped


def test_killed_and_stopped_in_mid_upload(
    lake: Lake, gate: Gate, api: Api, exporter: Exporter, tmp_path: Path
) -> None:
    """There is no manifest then; SIGTERM ends the run within ten seconds; the same command asks for nothing again."""
    assert exporter.run(*BOTH, out="local").code == 0
    asked = api.asked()
    for name, number in (
        ("order_items.csv", signal.SIGKILL),
        ("orders.parquet", signal.SIGTERM),
        ("manifest.json", signal.SIGKILL),
    ):
        reached, over = threading.Event(), threading.Event()

        def hold(request: Asked, name: str = name, reached: Event = reached, over: Event = over) -> bool:
            if (request.method, request.key) != ("PUT", f"orders/{name}"):
                return False
            reached.set()
            return over.wait(30)

        gate.hold = hold
        with exporter.run_started(*BOTH, out=lake.out) as running:
            assert reached.wait(30)
            began = time.monotonic()
            running.signal(number)
            ended = running.end()
            assert time.monotonic() - began < 10
        over.set()
        assert "manifest.json" not in lake.objects()
        if number == signal.SIGTERM:
            ended.said(143, "Stopped by a signal")
        assert api.asked() - asked == 60
    gate.hold = lambda _: False
    assert exporter.run(*BOTH, out=lake.out).code == 0
    assert api.asked() - asked == 60
    assert lake.tables() == contents(tmp_path / "local")


@pytest.mark.parametrize("old", [False, True], ids=["free prefix", "overwriting"])
def test_killed_after_each_durable_step(
    old: bool, store: str, lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No manifest ever stands beside files that it does not name; the next try completes, from whatever was left."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    before = dataset_in(tmp_path / "before", 4, rows_per_file=4) if old else None
    staged = dataset_in(tmp_path / "staged", 5)
    deaths = []
    with putting() as killed_after:
        for step in count(1):
            prefix, retired = f"orders-{step}", tmp_path / f"retired-{step}"
            if before is not None:
                lake.fill(prefix, before)
            deaths.append(killed_after(step, f"s3://{lake.name}/{prefix}", staged, retired))
            found = lake.objects(prefix)
            if "manifest.json" in found:
                assert found in (digests(staged), None if before is None else digests(before))
            if deaths[-1] is None:
                break
            put(f"s3://{lake.name}/{prefix}", staged, retired)
            assert lake.objects(prefix) == digests(staged)
    assert deaths[-2] == "upload"
    assert deaths.count("upload") == 4
    assert deaths.count("remove") == (6 if old else 0)


def test_leftovers_are_recognised_without_the_work_directory(lake: Lake, gate: Gate, tmp_path: Path) -> None:
    """What another machine's killed run has uploaded is gone on from, and not uploaded again."""
    staged = dataset_in(tmp_path / "staged", 30)
    gate.refuse = refusing("PUT", "manifest.json", Refusal(status=403, code="AccessDenied"))
    with pytest.raises(StorageError):
        put(lake.out, staged, tmp_path / "retired")
    gate.refuse = lambda _: None
    gate.asked.clear()
    put(lake.out, staged, tmp_path / "elsewhere")
    assert gate.writes() == [("PUT", "orders/manifest.json")]
    assert lake.objects() == digests(staged)


def refusing(
    method: str, name: str, refusal: Refusal, times: int = 1_000
) -> Callable[[Asked], Refusal | None]:
    """Return a gate's rule that refuses a method for a key's end, so many times."""
    left = itertools.count(-times)

    def rule(asked: Asked) -> Refusal | None:
        return refusal if asked.method == method and asked.key.endswith(name) and next(left) < 0 else None

    return rule


# --- what is replaced, in which order, and what never is


def test_the_old_manifest_goes_first_and_the_new_one_comes_last(
    lake: Lake, gate: Gate, tmp_path: Path
) -> None:
    """In between there is no manifest; identical files are not uploaded again."""
    before = dataset_in(tmp_path / "before", 20, rows_per_file=8)
    staged = dataset_in(tmp_path / "staged", 20)
    put(lake.out, before, tmp_path / "retired")
    gate.asked.clear()
    put(lake.out, staged, tmp_path / "retired")
    methods = [(method, key.removeprefix("orders/")) for method, key in gate.writes()]
    assert methods[0] == ("DELETE", "manifest.json")
    assert methods[-1] == ("PUT", "manifest.json")
    assert methods[1:3] == [
        ("PUT", "order_items.parquet"),
        ("PUT", "orders.parquet"),
    ]  # rejects.jsonl is the same
    assert {method for method, _ in methods[3:-1]} == {"DELETE"}
    assert lake.objects() == digests(staged)


@pytest.mark.parametrize(
    "key",
    ["orders/mine.txt", "orders/orders.parquet", "orders/day/orders.parquet", "orders/day/manifest.json"],
)
def test_a_prefix_that_holds_something_else_is_refused(key: str, lake: Lake, gate: Gate) -> None:
    """An object that is not ours makes the prefix another's; nothing is written."""
    lake.write(key, b"{}")
    name = key.removeprefix("orders/")
    with pytest.raises(UsageError, match=re.escape(f"one with {name}, which is not ours")):
        destination_of(lake.out).standing()
    assert gate.writes() == []


def test_a_dataset_further_below_is_no_leftover(lake: Lake, tmp_path: Path) -> None:
    """A finished dataset of ours below the prefix is refused like anything else."""
    put(f"{lake.out}/day", dataset_in(tmp_path / "staged", 3), tmp_path / "retired")
    with pytest.raises(UsageError, match="not ours"):
        destination_of(lake.out).standing()


def test_a_file_that_came_in_mid_run_is_not_replaced(lake: Lake, tmp_path: Path) -> None:
    """What is not ours stays, even under a name of ours; there is no manifest then."""
    lake.write("orders/orders.parquet", b"mine")
    with pytest.raises(StorageError, match=r"orders\.parquet is not ours"):
        destination_of(lake.out).put(dataset_in(tmp_path / "staged", 3), tmp_path / "retired")
    assert lake.read("orders/orders.parquet") == b"mine"
    assert "manifest.json" not in lake.objects()


def test_a_manifest_that_came_in_mid_run_is_not_removed(lake: Lake, tmp_path: Path) -> None:
    """Somebody else's manifest.json stays; the error is none that would end the work directory."""
    lake.write("orders/manifest.json", b"{}")
    with pytest.raises(StorageError, match=r"manifest\.json"):
        destination_of(lake.out).put(dataset_in(tmp_path / "staged", 3), tmp_path / "retired")
    assert lake.objects() == {"manifest.json": hashlib.sha256(b"{}").hexdigest()}


def test_a_dataset_that_others_have_copied_there_can_be_overwritten(lake: Lake, tmp_path: Path) -> None:
    """What the manifest names is ours, whoever has uploaded it; empty folders of a console are nothing."""
    lake.write("orders/", b"")
    assert destination_of(lake.out).standing() is None
    before, staged = dataset_in(tmp_path / "before", 5), dataset_in(tmp_path / "staged", 6)
    lake.fill("orders", before)
    put(lake.out, staged, tmp_path / "retired")
    assert lake.objects() == digests(staged) | {"": hashlib.sha256().hexdigest()}


# --- faults


@pytest.mark.parametrize(
    ("env", "refusal", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, None, "no credentials were found"),
        ({"AWS_PROFILE": "nightly"}, None, "AWS_PROFILE is not there"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, None, "cannot be reached"),
        ({}, Refusal(status=404, code="NoSuchBucket"), "no such bucket"),
        ({}, Refusal(status=403, code="AccessDenied"), "s3:PutObject"),
        ({}, Refusal(status=403, code="SignatureDoesNotMatch"), "the credentials are refused"),
        ({}, Refusal(status=400, code="ExpiredToken"), "have expired"),
        ({}, Refusal(status=503, code="SlowDown"), "to slow down"),
        ({}, Refusal(status=500, code="InternalError"), "out of order"),
        ({}, Refusal(status=418, code="Teapot"), "Teapot"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_is_one_sentence(
    env: dict[str, str],
    refusal: Refusal | None,
    words: str,
    lake: Lake,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says what and where and what to do, and never the credentials."""
    for name, value in (env | {"AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(name, value)
    gate.refuse = lambda _: refusal
    with pytest.raises(StorageError) as caught:
        destination_of(lake.out).standing()
    said = str(caught.value)
    assert caught.value.what.startswith(f"{lake.out}/manifest.json: reading it failed: ")
    assert (words in said, KEY in said, SECRET in said) == (True, False, False)
    assert caught.value.hint.endswith(".")


def test_an_unknown_bucket_stops_the_run_before_it_asks(lake: Lake, api: Api, exporter: Exporter) -> None:
    """Exit 7 with the bucket's name, before the first request; a wrong address is a usage error."""
    asked = api.asked()
    exporter.run(out="s3://no-such-lake/orders").said(7, "s3://no-such-lake/orders", "no such bucket")
    exporter.run(out=lake.out, AWS_ENDPOINT_URL="nonsense").said(2, "AWS_ENDPOINT_URL")
    assert api.asked() == asked


def test_the_proxy_of_the_environment_is_for_the_store_too(
    lake: Lake, gate: Gate, exporter: Exporter
) -> None:
    """As for the API: this machine is reached directly, `--proxy none` says no, and the log names the proxy."""
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    assert exporter.run(out=lake.out, **proxy).code == 0
    elsewhere = {
        "AWS_ENDPOINT_URL": gate.url.replace("127.0.0.1", "0.0.0.0"),
        "ALL_PROXY": "http://127.0.0.1:9",
    }
    ended = exporter.run(out=lake.out + "-2", **(proxy | elsewhere | {"HTTP_PROXY": ""}))
    ended.said(7, "the proxy cannot be reached", "go through the proxy 127.0.0.1:9 (ALL_PROXY)")
    assert exporter.run("--proxy", "none", out=lake.out + "-2", **(proxy | elsewhere)).code == 0


def test_a_store_that_asks_to_slow_down_is_asked_again(lake: Lake, gate: Gate, tmp_path: Path) -> None:
    """Passing refusals are the client's business, not the run's."""
    staged = dataset_in(tmp_path / "staged", 3)
    gate.refuse = refusing("PUT", "orders.parquet", Refusal(status=503, code="SlowDown"), times=2)
    put(lake.out, staged, tmp_path / "retired")
    assert lake.objects() == digests(staged)
    assert gate.writes().count(("PUT", "orders/orders.parquet")) == 3


def test_an_upload_in_parts_that_fails_is_aborted_and_gone_on_with(
    lake: Lake, gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No part stays behind, no manifest appears, and the next try uploads only what is missing."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    staged = dataset_in(tmp_path / "staged", 3)
    (staged / "orders.parquet").write_bytes(os.urandom(20 * MIB))

    def refuse(asked: Asked) -> Refusal | None:
        return Refusal(status=500, code="InternalError") if "partNumber=3" in asked.query else None

    gate.refuse = refuse
    with pytest.raises(StorageError, match=r"orders/orders\.parquet: uploading it failed"):
        put(lake.out, staged, tmp_path / "retired")
    assert lake.unfinished() == []
    assert set(lake.objects()) == {"order_items.parquet"}
    gate.refuse = lambda _: None
    put(lake.out, staged, tmp_path / "retired")
    assert lake.objects() == digests(staged)
    assert gate.writes().count(("PUT", "orders/order_items.parquet")) == 1


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "7"}, {"x-amz-checksum-crc32": "AAAAAA=="}], ids=["size", "checksum"]
)
def test_an_object_that_is_not_what_was_uploaded_is_noticed(
    headers: dict[str, str], lake: Lake, gate: Gate, tmp_path: Path
) -> None:
    """A size or a checksum that the store gives and that is not the file's ends the run; the next one uploads it again."""
    staged = dataset_in(tmp_path / "staged", 3)
    gate.change = lambda asked: headers if asked.key.endswith("/orders.parquet") else {}
    with pytest.raises(StorageError, match=r"orders\.parquet is not what was uploaded"):
        put(lake.out, staged, tmp_path / "retired")
    assert "manifest.json" not in lake.objects()
    gate.change = lambda _: {}
    put(lake.out, staged, tmp_path / "retired")
    assert lake.objects() == digests(staged)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_does_not_grow_with_a_file(store: str, lake: Lake, tmp_path: Path) -> None:
    """A file of 200 MiB costs less than 64 MiB more than one of a few bytes."""
    small, large = (dataset_in(tmp_path / name, 3) for name in ("small", "large"))
    with (large / "orders.parquet").open("wb") as file:
        file.truncate(200 * MIB)
    peaks = [
        peak_bytes(lake.out, staged, tmp_path / "retired", AWS_ENDPOINT_URL=store)
        for staged in (small, large)
    ]
    assert peaks[1] - peaks[0] < 64 * MIB


# --- words


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/orders",
        "file:///tmp/orders",
        "s3://",
        "s3:///orders",
        "s3://lake//orders",
        "s3://Bucket/orders",
        f"s3://{KEY}:{SECRET}@lake/x",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """With what is expected, and without quoting what may hold credentials."""
    with pytest.raises(UsageError, match="expected a directory, or s3://BUCKET/PREFIX") as caught:
        destination_of(url)
    assert SECRET not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and nothing was made."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match=re.escape("pip install '.[s3]'")):
        destination_of("s3://lake/orders")


def test_old_datasets_are_kept_by_hand(lake: Lake, exporter: Exporter) -> None:
    """--keep is for directories only."""
    exporter.run("--keep", 3, out=f"{lake.out}/{{date}}").said(2, "--keep")


# --- verifying, and a store that is silent ---


def test_a_prefix_is_verified(lake: Lake, exporter: Exporter) -> None:
    """As a directory is: what differs, and what is not ours, is named; nothing is written outside of the copy."""
    assert exporter.run(out=lake.out).code == 0
    assert exporter("verify", lake.out).out == f"{lake.out} matches its manifest.\n"
    lake.write("orders/rejects.jsonl", b"{}\n")
    lake.write("orders/mine.txt", b"mine")
    ended = exporter("verify", lake.out)
    assert ended.code == 1
    assert "rejects.jsonl" in ended.out
    assert "mine.txt" in ended.out
    lake.write("orders/../../../outside.txt", b"x")
    exporter("verify", lake.out).said(2, "outside.txt")


def test_a_store_that_is_silent_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It takes the connection and never answers: a `StorageError`, within a minute at the defaults."""
    backoff_s = sum(2**attempt for attempt in range(object_store._RETRIES[1][2] - 1))
    assert object_store._RETRIES[1][2] * object_store._SILENT_S + backoff_s < 60
    monkeypatch.setattr(object_store, "_SILENT_S", 0.2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StorageError, match="the store did not answer in time"):
            object_store.ObjectStore("lake").read("orders/manifest.json")


def _family(kind: type[Exception]) -> Iterator[type[Exception]]:
    if kind.__init__ in (exceptions.BotoCoreError.__init__, exceptions.HTTPClientError.__init__):
        yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


@pytest.mark.parametrize("kind", list(_family(exceptions.BotoCoreError)), ids=lambda kind: kind.__name__)
def test_whatever_the_client_library_raises_is_a_storage_error(kind: type[Exception]) -> None:
    """One sentence without what the library quotes, for every exception that it has."""
    fields = {name for _, name, _, _ in string.Formatter().parse(getattr(kind, "fmt", "")) if name}
    error = kind(**dict.fromkeys(fields | {"error"}, "s3cret"))
    with (
        pytest.raises(StorageError, match="reading it failed") as caught,
        object_store.ObjectStore("lake")._request("reading it", "key"),
    ):
        raise error
    assert "s3cret" not in str(caught.value)
