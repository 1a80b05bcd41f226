"""A small HTTP proxy: tunnels by CONNECT, forwards requests in absolute form, records both."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_LARGEST_HEAD = 65_536


@dataclass(eq=False)
class Proxy:
    """A proxy for the length of an `async with` block.

    Attributes:
        request_lines: What it was asked for: `CONNECT host:port HTTP/1.1`, `GET http://… HTTP/1.1`.
    """

    request_lines: list[str] = field(default_factory=list, init=False)
    url: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LARGEST_HEAD)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._listener.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side went away, or the block ended; a stream's own task must not fail
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection serves one target: for a forwarded one, the first request says which."""
        head = await reader.readuntil(b"\r\n\r\n")
        request_line, _, headers = head.partition(b"\r\n")
        self.request_lines.append(request_line.decode())
        method, target, version = request_line.decode().split(" ")
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        above_reader, above_writer = await asyncio.open_connection(url.hostname, url.port or 80)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
                above_writer.write(f"{method} {path} {version}\r\nConnection: close\r\n".encode() + headers)
            await asyncio.gather(_pump(reader, above_writer), _pump(above_reader, writer))
        finally:
            above_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side hangs up, then hang up at the other."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
