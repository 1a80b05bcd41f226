"""The demo's export: the demo API on a free port, an input file, and the very code of `exporter run`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from exporter.demo.api import DemoSettings, serve
from exporter.fetch.work_directory import discard
from exporter.model.options import Options
from exporter.model.progress import ProgressCallback
from exporter.model.summary import Summary
from exporter.run.export import export_async
from exporter.system import durable
from exporter.system.stopping import Stop

RATE = "200/s"


async def tour(
    *, orders: int, folder: str, fault_rate: float, on_progress: ProgressCallback | None, stop: Stop
) -> Summary:
    """Export the demo API's orders into `folder`: it gets `order_numbers.txt` and, as `dataset`, what came out."""
    async with serve(DemoSettings(orders=orders, fault_rate=fault_rate)) as api:
        numbers = Path(folder, "order_numbers.txt")
        with durable.storage_errors("writing the demo's input", numbers):
            _write(numbers, api.numbers)
        options = Options(
            orders=str(numbers),
            out=str(Path(folder, "dataset")),
            api_url=api.url,
            token=api.settings.token,
            rate=RATE,
            formats=("parquet", "csv"),
            overwrite=True,
        )
        discard(options.out)  # of a demo that was killed: its API had another port
        return await export_async(options, on_progress=on_progress, stop=stop)


def _write(path: Path, numbers: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_lines(path, (f"{number}\n".encode() for number in numbers), mode=None)
