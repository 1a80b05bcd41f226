"""The fake Omnitron API on a port of this machine: inside a program, or by itself until a signal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from exporter.demo.api import DemoApi, DemoSettings, DemoStats
from exporter.system.stopping import Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoServer:
    """A demo API that listens at `url`, which has no slash at its end."""

    url: str
    numbers: tuple[str, ...]
    stats: DemoStats


@asynccontextmanager
async def serve(settings: DemoSettings, port: int = 0) -> AsyncIterator[DemoServer]:
    """Run the demo API inside the running event loop, for as long as the block lasts; port 0 is any free one.

    Raises:
        OSError: The port is taken.
    """
    api = DemoApi(settings)
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        port = runner.addresses[0][1]
        yield DemoServer(url=f"http://127.0.0.1:{port}", numbers=api.numbers, stats=api.stats)
    finally:
        await runner.cleanup()


async def serve_until(stop: Stop, settings: DemoSettings, port: int, echo: Callable[[str], None]) -> None:
    """Run the demo API until the end is asked for; `echo` gets its base URL first, then how to use it.

    Raises:
        OSError: The port is taken.
    """
    async with serve(settings, port=port) as server:
        for line in _how_to_use(server, settings):
            echo(line)
        await stop.wait()


def _how_to_use(server: DemoServer, settings: DemoSettings) -> list[str]:
    return [
        server.url,
        f"The demo API knows {len(server.numbers)} orders. In another shell:",
        f"  export EXPORTER_API_URL={server.url} EXPORTER_API_TOKEN={settings.token}",
        "  exporter numbers --out numbers.txt",
        "  exporter run numbers.txt --out exported",
        "Ctrl-C ends it.",
    ]
