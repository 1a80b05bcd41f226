"""The fake Omnitron API on a port of this machine: inside a program, or by itself until a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from exporter.demo.api import DemoApi, DemoSettings, DemoStats

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoServer:
    """A demo API that listens at `url`, which has no slash at its end."""

    url: str
    numbers: tuple[str, ...]
    stats: DemoStats


@asynccontextmanager
async def serve(settings: DemoSettings, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[DemoServer]:
    """Run the demo API inside the running event loop, for as long as the block lasts; port 0 is any free one.

    Raises:
        OSError: The port is taken.
    """
    api = DemoApi(settings)
    runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound_host, bound_port = runner.addresses[0][:2]
        yield DemoServer(url=f"http://{bound_host}:{bound_port}", numbers=api.numbers, stats=api.stats)
    finally:
        await runner.cleanup()


def run_forever(
    settings: DemoSettings, echo: Callable[[str], None], host: str = "127.0.0.1", port: int = 0
) -> None:
    """Run the demo API until SIGINT or SIGTERM; `echo` gets its base URL as the first line, then how to use it.

    Raises:
        OSError: The port is taken.
    """
    asyncio.run(_serve_until_signal(settings, echo, host, port))


async def _serve_until_signal(
    settings: DemoSettings, echo: Callable[[str], None], host: str, port: int
) -> None:
    stopped = asyncio.Event()
    _on_signal(stopped.set)
    async with serve(settings, host, port) as server:
        for line in _how_to_use(server, settings):
            echo(line)
        await stopped.wait()


def _on_signal(stop: Callable[[], None]) -> None:
    """Windows' event loops take no signal handlers; a plain one has to wake the loop there."""
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _how_to_use(server: DemoServer, settings: DemoSettings) -> list[str]:
    return [
        server.url,
        f"The demo API knows {len(server.numbers)} orders. In another shell:",
        f"  export EXPORTER_API_URL={server.url} EXPORTER_API_TOKEN={settings.token}",
        "  exporter numbers --out numbers.txt",
        "  exporter run numbers.txt --out exported",
        "Ctrl-C ends it.",
    ]
