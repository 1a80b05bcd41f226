"""Nights of a shop that moves, with nobody watching: what a year of them would meet, one after the other."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.demo.orders import order_payload
from tests.support.processes import Ended, exporter_for

DAY_S = 86_400
PAGE = 100
KEEP = 5
SETTINGS = f"""
out = "nightly/{{date}}"
keep = {KEEP}
store = "store.db"
max-age = "12h"
expect-orders = "90%"
prune = true
max-rejects = "5%"
metrics-file = "exporter.prom"
rate = "unlimited"
patience = "1s"
"""


class Shop:
    """An API whose orders come and go, and whose nights go wrong.

    Attributes:
        numbers: The orders that it lists, in order.
        token: The one that it takes.
        falls_after: After so many good answers of a night it answers with `fault` alone; None for never.
        fault: Status and page.
        recovers_after: After so many faulty answers it is well again; None for never.
        asked: Requests for each order, tonight.
        reached: Set by the first request after it was cleared.
        open: No request is answered while this is cleared.
        posted: What webhooks were sent.
    """

    def __init__(self) -> None:
        self.numbers = [f"n{index:03}" for index in range(120)]
        self.token = "demo-token"
        self.posted: list[dict[str, Any]] = []
        self.reached, self.open = Event(), Event()
        self.open.set()
        self.lock = Lock()
        self.url = ""
        self.evening()

    def evening(self) -> None:
        """Begin a good night."""
        self.falls_after: int | None = None
        self.fault = 403, b"<html><title>Denied</title></html>"
        self.recovers_after: int | None = None
        self.asked: Counter[str] = Counter()
        self.good = self.bad = 0

    def answer(self, target: str, token: str) -> tuple[int, bytes]:
        """Return status and body; one at a time, for it counts."""
        with self.lock:
            return self._answer(target, token)

    def _answer(self, target: str, token: str) -> tuple[int, bytes]:
        if token != f"Token {self.token}":
            return 401, b'{"detail": "Invalid token."}'
        path = urlsplit(target).path.rstrip("/")
        number = path.rpartition("/")[2]
        is_list = path == "/api/i1/orders"
        self.asked[number] += not is_list
        if self.falls_after is not None and self.good >= self.falls_after and not is_list:
            self.bad += 1
            if self.recovers_after is None or self.bad <= self.recovers_after:
                return self.fault
        self.good += not is_list
        if is_list:
            return 200, json.dumps(self._page(parse_qs(urlsplit(target).query))).encode()
        if number not in self.numbers:
            return 404, b'{"detail": "Not found."}'
        return 200, json.dumps(order_payload(number)).encode()

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        page, size = int(query.get("page", ["1"])[0]), int(query.get("limit", [str(PAGE)])[0])
        here = self.numbers[(page - 1) * size : page * size]
        more = page * size < len(self.numbers)
        results = [{"id": index, "number": number} for index, number in enumerate(here)]
        after = f"{self.url}/api/i1/orders/?limit={size}&page={page + 1}" if more else None
        return {"count": len(self.numbers), "next": after, "previous": None, "results": results}


@contextmanager
def open_shop() -> Iterator[Shop]:
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            shop.reached.set()
            shop.open.wait()
            status, body = shop.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if body.startswith(b"<") else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked was killed
                self.wfile.write(body)

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        def do_POST(self) -> None:
            shop.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        # Of five, the usual, the kernel makes the others wait for a second: one that was refused a place tries again.
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        shop.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield shop
        finally:
            server.shutdown()


class Operator:
    """The machine that exports the shop each night, and what it says in the morning."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop, self.folder = shop, folder
        self.exporter = exporter_for(shop.url, folder, [])
        (folder / "exporter.toml").write_text(SETTINGS)
        self.night_number = 0
        self.held: set[str] = set()

    def night(self, *words: str, clock_s: float = 0, **env: str) -> Ended:
        """Let a day go by, and export what is listed."""
        self.night_number += 1
        self.shop.good = self.shop.bad = 0
        self.shop.asked.clear()
        (self.folder / "listed.txt").write_text("".join(f"{number}\n" for number in self.shop.numbers))
        return self.export(*words, clock_s=clock_s, **env)

    def list_orders(self, **env: str) -> Ended:
        """Let the exporter list them instead."""
        return self.at(0, "numbers", "--out", "listed.txt", "--overwrite", "--rate", "unlimited", **env)

    def export(self, *words: str, clock_s: float = 0, **env: str) -> Ended:
        """Export what is listed, at this night's time."""
        return self.at(clock_s, "run", "listed.txt", "--notify", self.shop.url, *words, **env)

    def at(self, clock_s: float, *words: str, **env: str) -> Ended:
        """Run the exporter at this night's time, by a clock that is `clock_s` ahead."""
        ahead = self.night_number * DAY_S + clock_s
        return self.exporter(*words, TEST_CLOCK_AHEAD_S=str(ahead), **env)

    def datasets(self) -> list[Path]:
        """Return the finished datasets, the newest last."""
        return sorted(
            path for path in (self.folder / "nightly").glob("2*") if (path / "manifest.json").exists()
        )

    def exported(self) -> list[str]:
        """Return the order numbers of the newest dataset."""
        import pyarrow.parquet as pq

        names: list[str] = pq.read_table(self.datasets()[-1] / "orders.parquet")["number"].to_pylist()
        return names

    def metrics(self) -> dict[str, float]:
        families = text_string_to_metric_families((self.folder / "exporter.prom").read_text())
        totals: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            name = sample.name.removeprefix("omnitron_exporter_")
            totals[name] = totals.get(name, 0.0) + sample.value
        return totals

    def check_whole(self, ended: Ended) -> None:
        """The newest dataset is tonight's: every listed order, in order, and every word says so."""
        assert ended.code == 0, ended.err
        assert self.exported() == self.shop.numbers
        assert len(self.datasets()) <= KEEP
        assert self.metrics()["last_run_exit_code"] == 0
        assert self.shop.posted[-1]["exported"] == len(self.shop.numbers)
        self.check_store()

    def check_stands(self, ended: Ended, code: int, *words: str) -> None:
        """Nothing was published, and every word says why; the dataset before stands."""
        before = self.datasets()
        ended.said(code, *words)
        assert self.datasets() == before
        assert (self.metrics()["last_run_exit_code"], self.metrics()["last_run_success"]) == (code, 0)
        assert self.shop.posted[-1]["exit_code"] == code
        self.check_store()

    def check_store(self) -> None:
        """No night takes the payload of a listed order from the store; what is not listed may be pruned."""
        with closing(sqlite3.connect(self.folder / "store.db")) as store:
            query = "SELECT number FROM orders JOIN payloads USING (id)"
            held = {number for (number,) in store.execute(query)}
        assert self.held & set(self.shop.numbers) <= held
        self.held = held


@pytest.mark.timeout(240)  # 20 s on two idle cores
def test_nights_of_every_kind(tmp_path: Path) -> None:
    """After each night the dataset is whole or yesterday's stands, no payload is lost, and everybody is told."""
    with open_shop() as shop:
        operator = Operator(shop, tmp_path)
        for _ in range(3):
            operator.check_whole(operator.night())
            assert operator.list_orders().code == 0
            assert (tmp_path / "listed.txt").read_text().split() == shop.numbers
            assert sum(shop.asked.values()) == len(shop.numbers)
            shop.numbers = [*shop.numbers[2:], *(f"m{operator.night_number}-{index}" for index in range(3))]

        # A wall comes up in the middle, for all night; the morning's second call resumes.
        shop.falls_after = 50
        operator.check_stands(operator.night(), 6, "403", "Denied")
        shop.evening()
        resumed = operator.export()
        operator.check_whole(resumed)
        assert sum(shop.asked.values()) == len(shop.numbers) - 50

        # A deploy: 503 pages, each of which makes everybody pause, then well again.
        shop.evening()
        shop.falls_after, shop.recovers_after = 60, 3
        shop.fault = 503, b"<html>Deploying</html>"
        operator.check_whole(operator.night("--patience", "60s"))

        # A list cut short replaces nothing, and prunes nothing.
        shop.evening()
        everything = shop.numbers
        shop.numbers = everything[:20]
        operator.check_stands(operator.night(), 4, "--expect-orders 90%", "20 order numbers")
        assert sum(shop.asked.values()) == 0
        shop.numbers = everything

        # A clock a year ahead, for one night: what it fetched is fetched again by the next.
        operator.night(clock_s=365 * DAY_S)
        for path in operator.datasets():
            if path.name > "2027-06":
                path.rename(tmp_path / "of-the-wrong-clock")
        right = operator.night()
        operator.check_whole(right)
        assert "clock that was wrong" in right.err
        assert sum(shop.asked.values()) == len(shop.numbers)

        # A kill at the worst moments; the same command finishes the night.
        for step in (4, 11):
            killed = operator.night(EXPORTER_TEST_KILL_AT=f"run:{step}")
            assert killed.code != 0
            operator.check_whole(operator.export())

        # The token is rotated in the middle of the day.
        shop.token = "another"
        assert operator.list_orders().code == 5
        operator.check_stands(operator.night(), 5, "token")
        operator.check_whole(operator.night(EXPORTER_API_TOKEN="another"))
        shop.token = "demo-token"

        # Two at once: the second one is told, and the first one's night is whole.
        operator.night_number += 1
        shop.reached.clear()
        shop.open.clear()
        with operator.exporter.started("run", "listed.txt", TEST_CLOCK_AHEAD_S="0") as running:
            assert shop.reached.wait(60)
            operator.export().said(8, "in use")
            shop.open.set()
            assert running.end().code == 0

        # Orders go, and the list goes on with them for a night: rejects, said by all; then nights without a word.
        shop.evening()
        gone = shop.numbers[:2]
        shop.numbers = shop.numbers[2:]
        operator.night_number += 1
        shop.asked.clear()
        (tmp_path / "listed.txt").write_text("".join(f"{number}\n" for number in [*gone, *shop.numbers]))
        quiet = operator.export("--quiet")
        assert (quiet.code, quiet.out, "2 rejects" in quiet.err) == (3, "", True), quiet.err
        assert operator.metrics()["rejects"] == 2
        operator.check_store()
        for _ in range(KEEP + 1):
            shop.numbers = [*shop.numbers[1:], f"l{operator.night_number}"]
            operator.check_whole(operator.night())
            assert sum(shop.asked.values()) == len(shop.numbers)
        assert len(operator.datasets()) == KEEP
        assert list((tmp_path / "nightly").glob("*.partial")) == []
