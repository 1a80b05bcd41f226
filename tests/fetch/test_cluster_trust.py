"""Who may speak with a cluster, and what goes through it: another client runs nothing, and secrets do not travel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped] # Dask brings it, without types
import pytest
import trustme

pytest.importorskip("distributed")

from exporter.fetch.cluster.messages import public
from exporter.model.options import Options
from tests.support.dask_cluster import DaskCluster, running_cluster
from tests.support.processes import TOKEN, Api, clean_environment, demo_api, wait_until
from tests.support.servers.process import stats

KEY, OTHER_KEY = "k" * 32, "o" * 32


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with demo_api(orders=40) as running:
        yield running


def listeners(session: int) -> list[str]:
    """Return where the processes of a session listen for TCP."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                connections = process.net_connections("inet")
                laddrs = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
                found += [f"{laddr.ip}:{laddr.port}" for laddr in laddrs]
        except (psutil.Error, OSError):
            continue
    return found


def intrude(proof: Path, *places: str) -> bool:
    """Let a stranger try, and return whether anybody ran his code."""
    command = [sys.executable, "-m", "tests.support.intruder", str(proof), *places]
    subprocess.run(command, env=clean_environment(), check=True, stderr=subprocess.DEVNULL, timeout=60)
    return proof.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="finds what listens by session")
def test_nobody_else_runs_code_on_local_workers(tmp_path: Path) -> None:
    """Neither in the clear nor with a foreign certificate is anybody heard, at any port of `--dask local`."""
    with demo_api("--latency", 0.2, orders=2000) as slow:
        exporter = slow.exporter(tmp_path)
        with exporter.run_started("--dask", "local", "--concurrency", 2) as running:
            wait_until(lambda: slow.asked() > 0)
            places = listeners(running.pid)
            assert len(places) >= 3  # a scheduler and two workers
            assert {place.rpartition(":")[0] for place in places} == {"127.0.0.1"}
            assert not intrude(tmp_path / "proof", *places)
            assert running.alive


def test_the_stranger_is_obeyed_where_nothing_guards(tmp_path: Path) -> None:
    """The same program does run code on a cluster without TLS: the test above tests something."""
    with running_cluster(tmp_path, workers=1) as cluster:
        assert intrude(tmp_path / "proof", cluster.address.removeprefix("tcp://"))


def test_a_cluster_in_the_clear_is_refused(api: Api, tmp_path: Path) -> None:
    """Without TLS, and not on this machine: exit 2 that says why, before anybody is spoken to."""
    exporter = api.exporter(tmp_path)
    exporter.run("--dask", "tcp://dask.invalid:8786").said(2, "expected tls://", "--dask-insecure")
    insecure = exporter.run("--dask", "tcp://dask.invalid:8786", "--dask-insecure")
    insecure.said(2, "no Dask scheduler answers")
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a cluster, and of an exporter, with TLS."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")
    own = {
        f"DASK_DISTRIBUTED__COMM__TLS__{role}__{part}": str(folder / "own.pem")
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for part in ("CERT", "KEY")
    }
    return {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(folder / "ca.pem"), **own}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tls: dict[str, str]) -> Iterator[DaskCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, workers=1, protocol="tls", EXPORTER_PII_KEY=KEY, **tls) as running:
        yield running


def test_no_secret_is_sent_or_shown() -> None:
    """Of the options, what goes through the scheduler and what a log may show hold neither credentials nor keys."""
    secrets: Any = {
        "token": "s3cret-token",
        "username": "s3cret-name",
        "password": "s3cret-word",
        "pii_key": f"s3cret-{KEY}",
        "proxy": "http://user:s3cret@proxy.example:3128",
        "notify": "https://hooks.chat.example/services/s3cret",
    }
    options = Options(orders="n", out="o", api_url="https://api.example", pii="hash", **secrets)
    sent = msgspec.json.encode(public(options)).decode()
    assert '"api_url":"https://api.example"' in sent
    assert [text for text in (sent, repr(options)) if "s3cret" in text or "chat.example" in text] == []


def test_a_cluster_with_tls_does_the_work(
    cluster: DaskCluster, tls: dict[str, str], api: Api, tmp_path: Path
) -> None:
    """Over mutual TLS a run is what it always is; no secret, and nothing made from one, is in the cluster's log."""
    assert cluster.address.startswith("tls://")
    exporter = api.exporter(tmp_path, EXPORTER_PII_KEY=KEY, **tls)
    ended = exporter.run("--dask", cluster.address, "--pii", "hash")
    assert ended.code == 0, ended.err
    assert TOKEN not in cluster.log()
    assert KEY not in cluster.log()


def test_another_key_is_refused_before_the_first_request(
    cluster: DaskCluster, tls: dict[str, str], api: Api, tmp_path: Path
) -> None:
    """`--pii hash` with a worker whose key differs is exit 2: one customer would have two hashes."""
    before = stats(api.url)["requests"]
    exporter = api.exporter(tmp_path, EXPORTER_PII_KEY=OTHER_KEY, **tls)
    exporter.run("--dask", cluster.address, "--pii", "hash").said(2, "cannot take part", "EXPORTER_PII_KEY")
    assert stats(api.url)["requests"] == before
    assert not (tmp_path / "out.partial").exists()


def test_workers_read_the_token_file(api: Api, tmp_path: Path) -> None:
    """`--token-file` names a file on each worker's own machine, and goes before a variable there."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with running_cluster(tmp_path, workers=1, EXPORTER_API_TOKEN="stale") as cluster:
        exporter = api.exporter(tmp_path / "run", EXPORTER_API_TOKEN="")
        ended = exporter.run("--dask", cluster.address, "--token-file", file)
        assert ended.code == 0, ended.err
        file.chmod(0o644)
        again = exporter.run("--dask", cluster.address, "--token-file", file, out="again")
        again.said(2, "others can read it")


def test_a_bug_on_a_worker_tells_its_place_and_no_data(api: Api, tmp_path: Path) -> None:
    """What breaks on a worker ends the run with type and place; the error's own text, which may quote, is nowhere."""
    broken = (
        "import exporter.fetch.cluster.range_worker as w; w.publish_job = lambda *_, **__: {}['Ay' + 'la']"
    )
    with running_cluster(tmp_path, workers=0) as cluster:
        cluster.add_worker("--preload", broken)
        ended = api.exporter(tmp_path / "run").run("--dask", cluster.address)
        ended.said(1, "A bug of the exporter", "KeyError in exporter/fetch/cluster/range_worker.py:")
        assert "Ayla" not in ended.err + cluster.log()


def test_a_worker_that_nobody_reaches_is_named(api: Api, tmp_path: Path) -> None:
    """A worker at an address and port that the scheduler does not reach is exit 2 with both, before any request."""
    before, nowhere = stats(api.url)["requests"], "tcp://127.0.0.1:9"
    with running_cluster(tmp_path, workers=0, DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="1s") as cluster:
        cluster.add_worker("--listen-address", "tcp://127.0.0.1:0", "--contact-address", nowhere)
        exporter = api.exporter(tmp_path / "run")
        exporter.run("--dask", cluster.address).said(2, f"the worker {nowhere} cannot take part", "reaches")
    assert stats(api.url)["requests"] == before
    assert not (tmp_path / "run" / "out.partial").exists()


def test_a_worker_that_cannot_reach_the_api_is_named_and_left_out(tmp_path: Path) -> None:
    """One worker without a way to the API does not end the run: others do its range, and the log names it."""
    with demo_api(orders=600) as api, running_cluster(tmp_path, workers=1) as cluster:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            cluster.add_worker(EXPORTER_PROXY=f"http://127.0.0.1:{nobody.getsockname()[1]}")
            wait_until(lambda: cluster.log().count("Start worker") >= 2)
            wait_until(lambda: cluster.log().count("Registered to") >= 2)
            exporter = api.exporter(tmp_path / "run")
            ended = exporter.run("--dask", cluster.address, "--patience", "1s")
        assert ended.code == 0, ended.err
        assert "cannot reach the API; others do its work" in ended.err
