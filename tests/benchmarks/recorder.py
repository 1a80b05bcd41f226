"""The benchmark server that remembers when it was asked: for kills, rates and first requests.

    python tests/benchmarks/recorder.py

Its first line is its URL, its second what runs it. `/_count` and `/_arrivals` tell how often and when, on the machine's monotonic
clock; neither counts itself.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import time
from collections.abc import Callable

from tests.benchmarks.server import Connection, Orders

_DISTINCT_ORDERS = 1_000


class Recorder(Orders):
    """Answers like the benchmark server, and keeps the time of each request."""

    def __init__(self) -> None:
        super().__init__(_DISTINCT_ORDERS)
        self._arrivals: list[float] = []

    def answer(self, target: bytes) -> bytes:
        """Return the whole answer for a request target."""
        if target == b"/_count":
            return _json(len(self._arrivals))
        if target == b"/_arrivals":
            return _json(self._arrivals)
        self._arrivals.append(time.monotonic())
        return super().answer(target)


def _json(value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


async def serve() -> None:
    recorder = Recorder()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(recorder), "127.0.0.1", 0, backlog=1024
    )
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n{loop}", flush=True)
    await server.serve_forever()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, where it is installed."""
    if not importlib.util.find_spec("uvloop"):
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())
