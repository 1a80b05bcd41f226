"""Does a long input cost more than time? Planning ten million numbers, and memory as the orders grow.

    python tests/benchmarks/scale.py plan --orders 10000000
    python tests/benchmarks/scale.py memory --orders 100000 --orders 1000000

`plan` prints seconds and peak memory of planning random numbers. `memory` exports from the benchmark server
at no rate limit and prints the peak memory of the run's two processes for each count of orders, and their growth
from the first to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.measure import peak_kib, serving

_PLAN = """
import json, resource, sys, time
from pathlib import Path
from exporter.model.options import AskOptions
from exporter.store.input_file import InputPlan, open_input
name, plan = sys.argv[1:]
began = time.monotonic()
with open_input(name) as stream:
    counts = InputPlan(stream, name, AskOptions(), Path(plan)).make()
seconds = time.monotonic() - began
usage = resource.getrusage(resource.RUSAGE_SELF)
measured = {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}
print(json.dumps({"orders": counts.requested} | measured))
"""


def write_numbers(path: Path, orders: int) -> None:
    """Write random order numbers of 15 hexadecimal digits, one a line."""
    with path.open("w") as file:
        for begin in range(0, orders, 100_000):
            digits = secrets.token_hex(8 * min(100_000, orders - begin))
            file.writelines(f"{digits[at : at + 15]}\n" for at in range(0, len(digits), 16))


def measure_plan(folder: Path, orders: int) -> dict[str, float]:
    """Plan that many numbers in a process of its own."""
    numbers = folder / "numbers.txt"
    write_numbers(numbers, orders)
    command = [sys.executable, "-c", _PLAN, str(numbers), str(folder / "plan.db")]
    measured: dict[str, float] = json.loads(subprocess.check_output(command))
    return measured


def measure_export(folder: Path, url: str, orders: int) -> dict[str, float]:
    """Export that many orders; return the peaks of the run's process and of its publishing process."""
    folder.mkdir()
    write_numbers(folder / "numbers.txt", orders)
    env = os.environ | {"EXPORTER_API_URL": url, "EXPORTER_API_TOKEN": "benchmark"}
    words = ["run", "numbers.txt", "--out", "out", "--rate", "unlimited", "--quiet"]
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "exporter", *words], cwd=folder, env=env) as run:
        peaks = {"run": 0.0, "publisher": 0.0}
        while run.poll() is None:
            peaks["run"] = max(peaks["run"], peak_kib(run.pid) / 1024)
            publishers = [peak_kib(child) / 1024 for child in _children(run.pid)]
            peaks["publisher"] = max(peaks["publisher"], *publishers, 0.0)
            time.sleep(0.2)
    assert run.returncode == 0, run.returncode
    return {"orders": orders, "seconds": time.monotonic() - began} | {f"{k}_mib": v for k, v in peaks.items()}


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["plan", "memory"])
    parser.add_argument("--orders", type=int, action="append")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.what == "plan":
            for orders in arguments.orders or [10_000_000]:
                print(json.dumps(measure_plan(folder, orders)), flush=True)
            return
        with serving("server.py") as server:
            found = []
            for orders in arguments.orders or [100_000, 1_000_000]:
                found.append(measure_export(folder / str(orders), server.url, orders))
                print(json.dumps(found[-1]), flush=True)
            for process in ("run_mib", "publisher_mib"):
                print(f"{process}: {found[-1][process] / found[0][process] - 1:+.1%}")


if __name__ == "__main__":
    main()
