"""The benchmark server is fast, and right all the same."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

SERVER = Path(__file__).parents[1] / "benchmarks" / "server.py"


in_c = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.mark.parametrize(
    "path", [pytest.param(os.environ["PATH"], marks=in_c, id="c"), pytest.param("", id="python")]
)
def test_each_request_gets_the_order_of_its_number_however_requests_are_cut_or_joined(path: str) -> None:
    """Pipelined, sent byte by byte, with an encoded number, and a missing one; in C and in Python."""
    targets = ("a1", "b2", "c%20%C3%BC%22%5C%09", "missing1", "d4")
    requests = b"".join(
        f"GET /api/i1/orders/{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for target in targets
    )
    env = {**os.environ, "PATH": path}
    with subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            port = urlsplit(server.stdout.readline().strip()).port
            assert (server.stdout.readline() == "C\n") == bool(path)
            bodies = list(_bodies(port or 0, requests, len(targets)))
        finally:
            server.terminate()
    assert [body.get("number") for body in bodies] == ["a1", "b2", 'c ü"\\\t', None, "d4"]
    assert bodies[3] == {"detail": "Not found."}


def _bodies(port: int, requests: bytes, count: int) -> Iterator[dict[str, object]]:
    """Send the first requests byte by byte, the others at once, and yield what comes back."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
        client.makefile("rb") as answers,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(150):
            client.sendall(requests[position : position + 1])
        client.sendall(requests[150:])
        for _ in range(count):
            head = iter(answers.readline, b"\r\n")
            fields = dict(line.decode().strip().split(": ") for line in head if b": " in line)
            yield json.loads(answers.read(int(fields["Content-Length"])))
