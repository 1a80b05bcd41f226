"""What one machine reaches, by itself: speed, memory, growth, start and rate, each beside its goal.

    python tests/benchmarks/one_machine.py [SECTION ...] [--dask local] [--scale 0.1]

README.md beside this file says what each section measures. Its exit code judges nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from exporter.store.compression import Frames
from tests.benchmarks import peer_environment
from tests.benchmarks.contenders import Task, bare_command, export_command
from tests.benchmarks.measure import HERE, Cost, Server, machine, median, note, run, serving, write_numbers


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every section is given.

    Attributes:
        folder: A place to work.
        rounds: How often what is compared is run in turns.
        scale: Factor on every count of orders.
        dask: Address of a Dask scheduler, or `local`; None: without.
    """

    folder: Path
    rounds: int = 3
    scale: float = 1.0
    dask: str | None = None
    _runs: count[int] = field(default_factory=count)
    _grown: dict[int, Cost] = field(default_factory=dict)

    def numbers(self, orders: int) -> tuple[Path, int]:
        """Return a file of that many order numbers, scaled, and how many it holds."""
        scaled = max(1, round(orders * self.scale))
        path = self.folder / f"{scaled}.txt"
        return (path if path.exists() else write_numbers(path, scaled)), scaled

    def task(self, server: Server, orders: int, rate_per_s: int | None = None) -> Task:
        """Return a task with a folder of its own."""
        out = self.folder / f"run-{next(self._runs)}"
        out.mkdir()
        return Task(url=server.url, numbers=self.numbers(orders)[0], out=out, rate_per_s=rate_per_s)

    def export(
        self, server: Server, orders: int, *words: str, rate_per_s: int | None = None, memory: bool = True
    ) -> Cost:
        """Run one export and remove what it wrote."""
        task = self.task(server, orders, rate_per_s)
        cost = run([*export_command(task), *words], task.out, memory=memory)
        shutil.rmtree(task.out)
        return cost

    def grown(self, orders: int) -> Cost:
        """Return the cost of an export of that many orders; it is run once, for all sections."""
        if orders not in self._grown:
            with _server("server.py") as server:
                self._grown[orders] = self.export(server, orders)
                note(f"{self.numbers(orders)[1]:,} orders: {self._grown[orders].wall_s:.1f} s")
        return self._grown[orders]


def speed(bench: Bench) -> None:
    """Orders a second over the whole process, beside a bare aiohttp loop: ≥ 0.80; ≥ 1.00 with --dask local."""
    _, orders = bench.numbers(100_000)
    walls: dict[str, list[Cost]] = {}
    with _server("server.py") as server:
        print(f"  {orders:,} orders, {bench.rounds} rounds in turns, the server on {server.loop}")
        for _ in range(bench.rounds):
            for name, cost in _one_round(bench, server):
                walls.setdefault(name, []).append(cost)
    bare_s = median(cost.wall_s for cost in walls["bare aiohttp"])
    for name, costs in walls.items():
        wall_s = median(cost.wall_s for cost in costs)
        ratios = ", ".join(
            f"{bare.wall_s / cost.wall_s:.2f}"
            for cost, bare in zip(costs, walls["bare aiohttp"], strict=True)
        )
        cpu_us = median(cost.cpu_s for cost in costs) / orders * 1e6
        print(
            f"  {bare_s / wall_s:.2f} × bare aiohttp: {name}, {orders / wall_s:,.0f} orders/s, "
            f"{cpu_us:.0f} µs of CPU an order (rounds: {ratios})"
        )


def publishing(bench: Bench) -> None:
    """Share of the wall time from the last request to the end: ≤ 10 %."""
    _, orders = bench.numbers(100_000)
    with _server("recorder.py") as recorder:
        cost = bench.export(recorder, 100_000)
        after_s = cost.ended - recorder.arrivals()[-1]
    print(f"  {after_s / cost.wall_s:.1%}: {after_s:.2f} s of {cost.wall_s:.1f} s, {orders:,} orders")


def store(bench: Bench) -> None:
    """A full store published, nothing asked, beside DuckDB with the same payloads as JSON lines: ≤ 1.3 × its time."""
    folder = bench.folder / "kept"
    folder.mkdir()
    kept, lines, (numbers, orders) = folder / "store.db", folder / "payloads.jsonl", bench.numbers(1_000_000)
    words = ["--store", str(kept), "--max-age", "1d", "--overwrite"]
    with _server("server.py") as server:
        task = Task(url=server.url, numbers=numbers, out=folder)
        run([*export_command(task), *words], folder, memory=False)
    _write_payloads(kept, lines)
    duckdb = [sys.executable, str(HERE / "duckdb_tables.py"), str(lines), str(folder)]
    look = [*export_command(task), *words, "--dry-run"]
    commands = {"this exporter": [*export_command(task), *words], "DuckDB": duckdb, "--dry-run": look}
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(bench.rounds):
        for name, command in commands.items():
            costs[name].append(run(command, folder))
        note(", ".join(f"{name} {of_name[-1].wall_s:.1f} s" for name, of_name in costs.items()))
    print(f"  {orders:,} orders, {bench.rounds} rounds in turns; medians")
    duckdb_s = median(cost.wall_s for cost in costs["DuckDB"])
    for name, of_name in costs.items():
        wall_s, cpu_s = (median(getattr(cost, what) for cost in of_name) for what in ("wall_s", "cpu_s"))
        peak_mib = max(cost.peak_mib for cost in of_name)
        ratios = ", ".join(
            f"{cost.wall_s / beside.wall_s:.2f}"
            for cost, beside in zip(of_name, costs["DuckDB"], strict=True)
        )
        print(
            f"  {wall_s / duckdb_s:.2f} × DuckDB: {name}, {wall_s:.1f} s, {cpu_s:.1f} s of CPU, "
            f"{peak_mib:.0f} MiB all processes (rounds: {ratios})"
        )


def _write_payloads(kept: Path, lines: Path) -> None:
    """Write what a store holds as JSON lines."""
    with closing(sqlite3.connect(kept)) as database, lines.open("wb") as file:
        ((dictionary,),) = database.execute("SELECT value FROM meta WHERE key = 'dictionary'")
        frames = Frames(dictionary)
        file.writelines(
            frames.decompress(body) + b"\n" for (body,) in database.execute("SELECT body FROM payloads")
        )


def memory(bench: Bench) -> None:
    """Peak memory of the whole process tree: ≤ 200 MiB at 1,000,000 orders, ≤ 1.10 × that at 100,000."""
    few, many = bench.grown(100_000), bench.grown(1_000_000)
    print(f"  {many.peak_mib / few.peak_mib:.2f} × from the few to the many")
    for orders in (100_000, 1_000_000):
        cost = bench.grown(orders)
        print(
            f"  {bench.numbers(orders)[1]:,} orders: {cost.peak_mib:.0f} MiB all processes "
            f"(what they share counted once), {cost.largest_mib:.0f} MiB the largest"
        )


def growth(bench: Bench) -> None:
    """CPU an order at 1,000,000 orders against 10,000: ≤ 1.10."""
    start_s = bench.grown(1).cpu_s
    few, many = (bench.numbers(orders)[1] for orders in (10_000, 1_000_000))
    for less_s, what in ((0.0, "whole"), (start_s, f"less the {start_s:.2f} s of a run of one order")):
        few_us = (bench.grown(10_000).cpu_s - less_s) / few * 1e6
        many_us = (bench.grown(1_000_000).cpu_s - less_s) / many * 1e6
        print(
            f"  {many_us / few_us:.2f} ×, {what}: {few_us:.0f} µs an order at {few:,}, "
            f"{many_us:.0f} at {many:,}"
        )


def start(bench: Bench) -> None:
    """`exporter --help` against `python -c "import click"`: ≤ 2.5 ×."""
    commands = {
        "click": [sys.executable, "-c", "import click"],
        "help": [str(Path(sys.executable).with_name("exporter")), "--help"],
    }
    costs: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(max(3, 7 * bench.rounds)):
        for name, command in commands.items():
            costs[name].append(run(command, bench.folder).wall_s)
    help_s, click_s = median(costs["help"]), median(costs["click"])
    print(f"  {help_s / click_s:.2f} ×: {help_s * 1e3:.0f} ms against {click_s * 1e3:.0f} ms")


def first_request(bench: Bench) -> None:
    """Seconds from the start of `exporter run` to its first request at the server: ≤ 1."""
    for orders in (1_000, 100_000):
        with _server("recorder.py") as recorder:
            waits = []
            for _ in range(bench.rounds if orders == 1_000 else 1):
                before = recorder.count()
                began = bench.export(recorder, orders).began
                waits.append(recorder.arrivals()[before] - began)
        print(f"  {median(waits):.2f} s at {bench.numbers(orders)[1]:,} orders (most {max(waits):.2f})")


def rate(bench: Bench) -> None:
    """Wall time beyond orders / rate: ≤ 2 s at 1,000 and at 50,000 orders."""
    for rate_per_s in (500, 1_000):
        for orders in (1_000, 50_000):
            with _server("recorder.py") as recorder:
                cost = bench.export(recorder, orders, rate_per_s=rate_per_s)
                times = recorder.arrivals()
            ideal_s = len(times) / rate_per_s
            print(
                f"  {cost.wall_s - ideal_s:+.2f} s: {len(times):,} orders at {rate_per_s}/s in "
                f"{cost.wall_s:.2f} s ({times[0] - cost.began:.2f} s to the first request, "
                f"{cost.ended - times[-1]:.2f} s after the last)"
            )


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "speed": speed,
    "publishing": publishing,
    "store": store,
    "memory": memory,
    "growth": growth,
    "start": start,
    "first-request": first_request,
    "rate": rate,
}


def _one_round(bench: Bench, server: Server) -> list[tuple[str, Cost]]:
    """Run each that is compared once; bare aiohttp is among them."""
    costs = [("this exporter", bench.export(server, 100_000, memory=False))]
    if bench.dask:
        words = ("--dask", bench.dask)
        costs.append((f"--dask {bench.dask}", bench.export(server, 100_000, *words, memory=False)))
    task = bench.task(server, 100_000)
    costs.append(("bare aiohttp", run(bare_command(task), task.out, memory=False)))
    note(", ".join(f"{name} {cost.wall_s:.1f} s" for name, cost in costs))
    return costs


def _server(script: str) -> AbstractContextManager[Server]:
    return serving(script, peer_environment.python())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on every count of orders")
    parser.add_argument("--dask", metavar="ADDRESS|local", help="compare that, too, in `speed`")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    _measure(arguments.sections or list(SECTIONS), arguments)


def _measure(names: Sequence[str], arguments: argparse.Namespace) -> None:
    print(f"{machine()}; --scale {arguments.scale:g}")
    with tempfile.TemporaryDirectory(prefix="exporter-benchmark-") as folder:
        bench = Bench(
            folder=Path(folder), rounds=arguments.rounds, scale=arguments.scale, dask=arguments.dask
        )
        for name in names:
            print(f"{name}: {SECTIONS[name].__doc__}", flush=True)
            SECTIONS[name](bench)


if __name__ == "__main__":
    main()
