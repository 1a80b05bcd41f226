"""Servers in processes of their own, for tests that start the exporter as a process too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

_ROOT = Path(__file__).parents[3]


@contextmanager
def faulty_process(script: str = "tests.support.servers.moves:good") -> Iterator[str]:
    """Run a faulty server for the length of the block.

    Args:
        script: `module:name` of a `Plan` or a behaviour.

    Yields:
        Its base URL.
    """
    command = [sys.executable, "-m", "tests.support.servers.faulty", "--script", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def stats(url: str) -> dict[str, Any]:
    """Ask a server, ours or the demo's, what it was asked so far."""
    with urlopen(f"{url}/_stats", timeout=10) as response:
        counts: dict[str, Any] = json.load(response)
    return counts
