"""How fast, and in how much memory, 10,000,000 order numbers are read: one line for each format.

    python tests/benchmarks/plan_input.py [ROWS] [NAME ...]

Each format is read in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import gzip
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from exporter import lists

SHEET_ROWS = 1_048_575  # what a sheet holds beside its header


def numbers(rows: int) -> Iterator[str]:
    return (f"bf7b66149{i:07d}" for i in range(rows))


def write_lines(path: Path, rows: int, header: str, line: Callable[[str], str]) -> None:
    with gzip.open(path, "wt", compresslevel=1) if path.suffix == ".gz" else path.open("w") as file:
        file.write(header)
        file.writelines(line(number) for number in numbers(rows))


def write_parquet(path: Path, rows: int) -> None:
    column = pa.array(numbers(rows), pa.string())
    pq.write_table(pa.table({"number": column}), path, row_group_size=rows)  # the worst case for memory


def write_sheet(path: Path, rows: int) -> None:
    import openpyxl  # type: ignore[import-untyped]  # it has no types, and is needed here only

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(["number"])
    for number in numbers(min(rows, SHEET_ROWS)):
        sheet.append([number])
    book.save(path)


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "orders.txt": lambda path, rows: write_lines(path, rows, "", "{}\n".format),
    "crlf.txt": lambda path, rows: write_lines(path, rows, "", "{}\r\n".format),
    "bad.txt": lambda path, rows: write_lines(path, rows, "", "{} x\n".format),
    "orders.txt.gz": lambda path, rows: write_lines(path, rows, "", "{}\n".format),
    "orders.csv": lambda path, rows: write_lines(path, rows, "number,note\n", "{},x\n".format),
    "quoted.csv": lambda path, rows: write_lines(path, rows, "number;note\n", '"{}";"a\nb"\n'.format),
    "orders.jsonl": lambda path, rows: write_lines(path, rows, "", '{{"number": "{}"}}\n'.format),
    "integers.jsonl": lambda path, rows: write_lines(
        path, rows, "", lambda n: f'{{"number": {int(n[9:])}}}\n'
    ),
    "bare.jsonl": lambda path, rows: write_lines(path, rows, "", '"{}"\n'.format),
    "orders.parquet": write_parquet,
    "orders.xlsx": write_sheet,
}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(path: Path) -> None:
    before, began = peak_mib(), time.perf_counter()
    lines = found = 0
    with path.open("rb") as stream:
        for batch in lists.read(stream, name=path.name):
            lines += batch.line_count
            found += len(batch.order_numbers)
    seconds = time.perf_counter() - began
    print(
        f"{path.name:16} {lines:>11,} lines {found:>11,} numbers {seconds:6.2f} s "
        f"{seconds / lines * 1e6:6.2f} µs a line, peak {peak_mib():4.0f} MiB ({before:.0f} before)",
        flush=True,
    )


def write(name: str, path: Path, rows: int) -> None:
    WRITERS[name](path, rows)


def alone(task: Callable[..., None], *args: object) -> None:
    process = multiprocessing.get_context("spawn").Process(target=task, args=args)
    process.start()
    process.join()


def main(rows: int, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in names or WRITERS:
            path = Path(folder) / name
            alone(write, name, path, rows)
            alone(measure, path)
            path.unlink()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000, sys.argv[2:])
