"""An S3-speaking server in a process of its own (moto's), and a gate before it that fails as told."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.support.processes import ROOT, clean_environment

_PER_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: its method, the key (without the bucket) and the query."""

    method: str
    key: str
    query: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer in place of the store's own."""

    status: int
    code: str = ""


@dataclass(eq=False)
class Gate:
    """Stands before the store for the length of a block.

    Attributes:
        url: Its address, for AWS_ENDPOINT_URL.
        refuse: Called for each request; what it returns is the answer, None lets the request through.
        asked: What came, in order.
        change: Called for each answer to a HEAD; gives headers to answer in place of the store's own.
        hold: Called for each request after its head and before its body is read; may wait. True: the
            request is lost.
    """

    url: str
    refuse: Callable[[Asked], Refusal | None] = lambda _: None
    hold: Callable[[Asked], bool] = lambda _: False
    change: Callable[[Asked], dict[str, str]] = lambda _: {}
    asked: list[Asked] = field(default_factory=list)

    def writes(self) -> list[tuple[str, str]]:
        """Return (method, key) of every request that changes something."""
        return [(asked.method, asked.key) for asked in self.asked if asked.method not in ("GET", "HEAD")]


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server; give its address."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            words = (word for line in process.stderr for word in line.split())
            url = next(word for word in words if word.startswith("http://"))
            threading.Thread(
                target=process.stderr.read, daemon=True
            ).start()  # its log must not fill the pipe
            yield url
        finally:
            process.kill()


@contextmanager
def gate_before(store: str) -> Iterator[Gate]:
    """Put a gate before the store at that address."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.gate = Gate(url=f"http://127.0.0.1:{server.server_port}")
    Handler.store = urlsplit(store).netloc
    serving = threading.Thread(target=server.serve_forever, args=(0.02,))
    serving.start()
    try:
        yield Handler.gate
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gate: Gate
    store: str

    def _serve(self) -> None:
        url = urlsplit(self.path)
        asked = Asked(method=self.command, key="/".join(url.path.split("/")[2:]), query=url.query)
        self.gate.asked.append(asked)
        if self.gate.hold(asked):
            self.close_connection = True
            return
        changed = self.gate.change(asked) if self.command == "HEAD" else {}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        refusal = self.gate.refuse(asked)
        if refusal is None:
            self._pass_on(body, changed)
        else:
            text = f"<Error><Code>{refusal.code}</Code></Error>".encode()
            self._answer(refusal.status, {}, text)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # `do_GET` and the like: how the base class looks for a method
            return self._serve
        raise AttributeError(name)

    def _pass_on(self, body: bytes, changed: dict[str, str]) -> None:
        connection = http.client.HTTPConnection(self.store, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        self._answer(answer.status, dict(answer.headers.items()) | changed, text)

    def _answer(self, status: int, headers: dict[str, str], text: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _PER_CONNECTION:
                self.send_header(name, value)
        size = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", size or str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass  # the client was killed

    def log_message(self, *_: Any) -> None:
        pass
