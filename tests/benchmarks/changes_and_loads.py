"""What a comparison of two datasets costs, and a load beside the bare ingest of the database's own driver.

`python -m tests.benchmarks.changes_and_loads [--orders N] [--changed SHARE] [--folder DIR]`: two datasets of the demo's
orders are written, unless they are there; each step runs in a process of its own, whose time and peak are told.
PostgreSQL takes part where it is installed; its own CPU is told apart from that of the step.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.datasets import Dataset
from tests.support.postgres import running_postgres

_ROWS = 10_000


def main() -> None:
    """Measure, and print a line for each step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--changed", type=float, default=0.05)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", nargs="+")
    arguments = parser.parse_args()
    if arguments.step:
        _STEPS[arguments.step[0]](*arguments.step[1:])
        return
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        old, new = (folder / f"{name}-{arguments.orders}" for name in ("old", "new"))
        if not new.exists():
            _write(old, arguments.orders, 0.0)
            _write(new, arguments.orders, arguments.changed)
        _measure("compare", old, new, stack.enter_context(tempfile.TemporaryDirectory()) + "/changes")
        targets = [
            f"{kind}:{stack.enter_context(tempfile.TemporaryDirectory())}/shop.db"
            for kind in ("duckdb", "sqlite")
        ]
        for target in [stack.enter_context(running_postgres()), *targets]:
            _measure("bare", old, target)
            _measure("load", old, target)
            _measure("load", new, target)


def _write(folder: Path, orders: int, changed: float) -> None:
    """Write a dataset of many orders from a few thousand payloads: the numbers and ids differ, the rest repeats."""
    few = min(orders, 5_000)
    seed = Dataset(payloads=_payloads(few), run_id=f"{hash(changed) & 0xFFFFFFFF:032x}").write(folder)
    manifest = json.loads((seed / "manifest.json").read_text())
    for name, key in (("orders", "number"), ("order_items", "order_number")):
        table = pq.read_table(seed / f"{name}.parquet")
        path = seed / f"{name}.parquet"
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for at in range(orders // few):
                numbers = pa.array([f"{at}-{text}" for text in table[key].to_pylist()])
                copy = table.set_column(table.schema.get_field_index(key), table.schema.field(key), numbers)
                if name == "orders" and changed and at % max(1, round(1 / changed)) == 0:
                    statuses = pa.array(["550"] * copy.num_rows)
                    copy = copy.set_column(
                        copy.schema.get_field_index("status"), copy.schema.field("status"), statuses
                    )
                writer.write_table(copy, row_group_size=_ROWS)
        file = manifest["tables"][name]["files"][0]
        rows = table.num_rows * (orders // few)
        digest = subprocess.run(
            ["sha256sum", path], capture_output=True, check=True, text=True
        ).stdout.split()[0]
        file.update(rows=rows, bytes=path.stat().st_size, sha256=digest)
        manifest["tables"][name]["rows"] = rows
    exported = manifest["tables"]["orders"]["rows"]
    manifest["counts"].update(
        requested=exported, exported=exported, order_items=manifest["tables"]["order_items"]["rows"]
    )
    manifest["input"].update(lines=exported + manifest["input"]["blank"] + manifest["input"]["duplicates"])
    (seed / "manifest.json").write_text(json.dumps(manifest))


def _payloads(count: int) -> list[dict[str, Any]]:
    from tests.support.datasets import demo_payloads

    return demo_payloads(count)


def _measure(*step: object) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.changes_and_loads", "--step", *map(str, step)]
    began, server = time.monotonic(), _server_cpu_s(str(step[-1]))
    pid = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    took = time.monotonic() - began
    name = " ".join(str(word).rpartition("/")[2].partition("?")[0] or str(word) for word in step)
    cpu = usage.ru_utime + usage.ru_stime
    server = _server_cpu_s(str(step[-1])) - server
    print(
        f"{name:<50} {took:6.1f} s  cpu {cpu:6.1f} s  server {server:6.1f} s  {usage.ru_maxrss / 1024:6.0f} MiB"
        f"  exit {status}",
        flush=True,
    )


def _server_cpu_s(target: str) -> float:
    """Return the CPU of all connections to a server that have ended: its children's, as Linux counts it."""
    if not target.startswith("postgresql:"):
        return 0.0
    pid = (
        Path(target.partition("host=")[2].partition("&")[0], "data", "postmaster.pid").read_text().split()[0]
    )
    fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")


def _compare(old: str, new: str, out: str) -> None:
    from exporter.model.options import TableOptions
    from exporter.run.compare import compare

    compare(old, new, out, TableOptions(), full=False, overwrite=False)


def _load(place: str, target: str) -> None:
    from exporter.run.load_dataset import load_place

    print(load_place(place, target))


def _bare(place: str, target: str) -> None:
    """Ingest both tables as the driver's own documentation does, without keys, checks or types of ours."""
    kind = target.partition(":")[0]
    for name in ("orders", "order_items"):
        reader = pq.ParquetFile(Path(place) / f"{name}.parquet")
        batches = reader.iter_batches(16_384)
        if kind == "postgresql":
            from adbc_driver_postgresql import dbapi

            with dbapi.connect(target) as connection, connection.cursor() as cursor:
                stream = pa.RecordBatchReader.from_batches(reader.schema_arrow, batches)
                cursor.adbc_ingest(f"bare_{name}", stream, mode="create")
                connection.commit()
        elif kind == "duckdb":
            import duckdb

            with duckdb.connect(target.partition(":")[2]) as database:
                stream = pa.RecordBatchReader.from_batches(reader.schema_arrow, batches)
                database.execute(f"CREATE TABLE bare_{name} AS FROM stream")
        else:
            _bare_sqlite(target.partition(":")[2], name, reader.schema_arrow.names, batches)


def _bare_sqlite(path: str, name: str, columns: list[str], batches: Iterator[pa.RecordBatch]) -> None:
    database = sqlite3.connect(path)
    database.execute(f"CREATE TABLE bare_{name} ({', '.join(columns)})")
    for batch in batches:
        texts = [
            column.cast(pa.string()) if not pa.types.is_integer(column.type) else column
            for column in batch.columns
        ]
        rows = zip(*(column.to_pylist() for column in texts), strict=True)
        database.executemany(f"INSERT INTO bare_{name} VALUES ({', '.join('?' * len(columns))})", rows)
    database.commit()
    database.close()


_STEPS: dict[str, Callable[..., None]] = {"compare": _compare, "load": _load, "bare": _bare}

if __name__ == "__main__":
    main()
