"""An API that is never the bottleneck: orders from memory, a request line read, nothing checked.

    python tests/benchmarks/server.py --port 0

Its first line is its URL, its second what runs it: `C` (`server.c`, where this machine has a compiler),
`uvloop` or `asyncio`. Numbers that begin with `missing` get 404, every other an order of its own number.
On two cores a server in Python takes as much as a third of what is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from asyncio import BaseTransport, Transport
from pathlib import Path
from typing import cast
from urllib.parse import unquote_to_bytes

from exporter.demo.orders import order_numbers, order_payload

_DISTINCT_ORDERS = 1_000
_MARK = b"\x00number\x00"
_NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n"
    b'{"detail": "Not found."}'
)


class Orders:
    """Answers by order number, all but the number made beforehand."""

    def __init__(self, distinct: int) -> None:
        self._templates = _templates(distinct)

    def answer(self, target: bytes) -> bytes:
        """Return the whole answer for a request target."""
        number = target.rpartition(b"/")[2]
        if number.startswith(b"missing"):
            return _NOT_FOUND
        before, after = self._templates[zlib.crc32(number) % len(self._templates)]
        if b"%" in number:
            number = json.dumps(unquote_to_bytes(number).decode()).encode()[1:-1]
        length = len(before) + len(number) + len(after)
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b%b%b" % (
            length,
            before,
            number,
            after,
        )


def _templates(count: int) -> list[tuple[bytes, bytes]]:
    return [_template(number) for number in order_numbers(count)]


def _template(number: str) -> tuple[bytes, bytes]:
    """An order's JSON before and after its number."""
    body = json.dumps(order_payload(number), ensure_ascii=False, separators=(",", ":")).encode()
    before, _, after = body.partition(number.encode())
    return before, after


class Connection(asyncio.Protocol):
    """Reads request heads, however they are cut or joined, and answers each."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._unread = b""

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast("Transport", transport)  # uvloop's do not descend from it

    def data_received(self, data: bytes) -> None:
        *heads, self._unread = (self._unread + data).split(b"\r\n\r\n")
        if heads:
            self._transport.write(b"".join(self._orders.answer(head.split(b" ", 2)[1]) for head in heads))


async def serve(host: str, port: int, loop: str) -> None:
    orders = Orders(_DISTINCT_ORDERS)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(orders), host, port, backlog=1024
    )
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}\n{loop}", flush=True)
    await server.serve_forever()


def become_c(host: str, port: int) -> None:
    """Go on as `server.c`; return where this machine cannot compile it."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return
    # The server removes the folder's files once it has read them.
    folder = Path(tempfile.mkdtemp(prefix="exporter-benchmark-server-"))
    program, orders = folder / "server", folder / "orders"
    source = Path(__file__).with_suffix(".c")
    if subprocess.run([compiler, "-O2", "-o", program, source], check=False).returncode:
        shutil.rmtree(folder)
        return
    with orders.open("wb") as file:
        for pair in _templates(_DISTINCT_ORDERS):
            for text in pair:
                file.write(struct.pack("=I", len(text)) + text)
    os.execv(program, [str(program), str(orders), host, str(port)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", help="taken, never checked")
    arguments = parser.parse_args()
    become_c(arguments.host, arguments.port)
    factory = None
    if importlib.util.find_spec("uvloop"):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            loop = "uvloop" if factory else "asyncio"
            runner.run(serve(arguments.host, arguments.port, loop))
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
