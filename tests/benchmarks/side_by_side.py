"""This exporter beside its peers, on the same server and the same orders, in turns.

    python tests/benchmarks/side_by_side.py [--orders 50000] [--rounds 5] [--markdown]

The first run installs the peers into an environment of their own. README.md beside this file says more.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import peer_environment
from tests.benchmarks.contenders import BARE, CONTENDERS, Contender, Task
from tests.benchmarks.measure import Cost, Server, machine, median, note, run, serving, write_numbers
from tests.benchmarks.outcome import Outcome
from tests.benchmarks.text_table import render
from tests.benchmarks.undone import Undone, find_undone


@dataclass(frozen=True, kw_only=True)
class Round:
    """One run of one contender.

    Attributes:
        cost: What it took.
        server_cpu_s: What the server used meanwhile.
        outcome: What it wrote; None if it keeps nothing.
    """

    cost: Cost
    server_cpu_s: float
    outcome: Outcome | None


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians of a contender's rounds."""

    contender: Contender
    orders_per_s: float
    cpu_us: float
    peak_mib: float
    largest_mib: float
    server_busy: float
    outcome: Outcome | None


def main() -> None:
    arguments = _arguments()
    chosen = [one for one in CONTENDERS if not arguments.only or one.key in arguments.only.split(",")]
    before = machine()
    python = "" if all(one.ours for one in chosen) else peer_environment.make()
    with tempfile.TemporaryDirectory(prefix="exporter-benchmark-") as folder:
        speeds = _race(chosen, python, Path(folder), arguments.orders, arguments.rounds)
        undone = find_undone({one.contender: one.outcome for one in speeds}, python, Path(folder))
    print(_heading(before, arguments.orders, arguments.rounds, python))
    print(f"\n{_speed_table(speeds, markdown=arguments.markdown)}")
    print(f"\n{_undone_table(undone, markdown=arguments.markdown)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--orders", type=int, default=50_000, help="that each fetches in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2,000 orders, one round: does it all run?")
    parser.add_argument("--only", default="", help=", ".join(one.key for one in CONTENDERS))
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.orders, arguments.rounds = 2_000, 1
    return arguments


def _race(chosen: Sequence[Contender], python: str, folder: Path, orders: int, rounds: int) -> list[Speed]:
    """Run A B C, A B C, …: what slows the machine for a while slows all alike."""
    numbers = write_numbers(folder / "numbers.txt", orders)
    results: dict[Contender, list[Round]] = {contender: [] for contender in chosen}
    with serving("server.py", python) as server:
        for turn in range(rounds):
            for contender in chosen:
                result = _round(contender, server, python, numbers, folder / f"{contender.key}-{turn}")
                note(f"round {turn + 1}: {contender.name}, {result.cost.wall_s:.1f} s")
                results[contender].append(result)
    return [_speed(contender, done, orders) for contender, done in results.items()]


def _round(contender: Contender, server: Server, python: str, numbers: Path, out: Path) -> Round:
    out.mkdir()
    before = server.cpu_s
    cost = run(contender.command(Task(url=server.url, numbers=numbers, out=out), python), out)
    used = server.cpu_s - before
    outcome = contender.read(out) if contender.read else None
    shutil.rmtree(out)
    return Round(cost=cost, server_cpu_s=used, outcome=outcome)


def _speed(contender: Contender, rounds: Sequence[Round], orders: int) -> Speed:
    costs = [one.cost for one in rounds]
    return Speed(
        contender=contender,
        orders_per_s=orders / median(cost.wall_s for cost in costs),
        cpu_us=median(cost.cpu_s for cost in costs) / orders * 1e6,
        peak_mib=median(cost.peak_mib for cost in costs),
        largest_mib=median(cost.largest_mib for cost in costs),
        server_busy=median(one.server_cpu_s / one.cost.wall_s for one in rounds),
        outcome=rounds[0].outcome,
    )


def _heading(before: str, orders: int, rounds: int, python: str) -> str:
    found = peer_environment.versions(python) if python else {}
    versions = {"exporter": version("omnitron-exporter")} | found
    return (
        f"{orders:,} orders, medians of {rounds}, in turns; {before}.\n"
        f"Versions: {', '.join(f'{name} {text}' for name, text in versions.items())}."
    )


def _speed_table(speeds: Sequence[Speed], *, markdown: bool) -> str:
    headers = (
        "",
        "× bare aiohttp",
        "× fastest peer with both tables",
        "orders/s",
        "CPU µs an order",
        "peak MiB, all processes",
        "the largest",
        "server busy",
    )
    bare = max((one.orders_per_s for one in speeds if one.contender.name == BARE), default=None)
    peers = [one.orders_per_s for one in speeds if one.contender.read and not one.contender.ours]
    fastest = max(peers, default=None)
    return render(headers, [_speed_row(one, bare, fastest) for one in speeds], markdown=markdown)


def _speed_row(speed: Speed, bare: float | None, fastest: float | None) -> list[str]:
    ratios = [f"{speed.orders_per_s / base:.2f}" if base else "" for base in (bare, fastest)]
    return [
        speed.contender.name,
        *ratios,
        f"{speed.orders_per_s:,.0f}",
        f"{speed.cpu_us:,.0f}",
        f"{speed.peak_mib:,.0f}",
        f"{speed.largest_mib:,.0f}",
        f"{speed.server_busy:.0%}",
    ]


def _undone_table(undone: Sequence[Undone], *, markdown: bool) -> str:
    headers = (
        "",
        "orders, items",
        "money",
        "after kill -9 at half",
        "same command again",
        "requests repeated",
        "asked for 200/s",
    )
    rows = [
        [
            one.contender.name,
            one.tables,
            one.money,
            one.after_kill,
            one.after_resume,
            one.repeated,
            one.rate_held,
        ]
        for one in undone
    ]
    return render(headers, rows, markdown=markdown)


if __name__ == "__main__":
    main()
