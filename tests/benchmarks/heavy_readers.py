"""Spark and ClickHouse read every kind of dataset too; they are too heavy for the tests.

    pip install pyspark chdb        # Spark needs Java
    python tests/benchmarks/heavy_readers.py

Prints a line for each reader, kind of dataset and format; ends with 1 where one finds something else than pyarrow.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.dataset.test_readers import KINDS, Found, expected

Reader = Callable[[Path], Found]


def spark_reader() -> Reader:
    """Parquet as it is; CSV with `multiLine`, for texts hold line breaks, and `escape`, for quotes are doubled."""

    builder: Any = import_module("pyspark.sql").SparkSession.builder  # not among the tests' packages
    session = (
        builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")

    def read(path: Path) -> Found:
        if path.suffix == ".csv":
            frame = session.read.options(header=True, multiLine=True, escape='"').csv(str(path))
        else:
            frame = session.read.parquet(str(path))
        frame.groupBy("extra_field", "date_placed").count().count()
        rows = frame.select("number", frame["amount"].cast("decimal(20,4)").alias("amount")).collect()
        return [row["number"] for row in rows], sum(
            (row["amount"] for row in rows if row["amount"]), Decimal(0)
        )

    return read


def clickhouse_reader() -> Reader:
    """`file()` with the format's name; amounts as text, which a DataFrame would round."""
    chdb: Any = import_module("chdb")  # not among the tests' packages

    def read(path: Path) -> Found:
        files = f"{path}/*" if path.is_dir() else str(path)
        kind = "CSVWithNames" if path.suffix == ".csv" else "Parquet"
        types = ", 'number String, amount Nullable(Decimal(20, 4))'" if path.suffix == ".csv" else ""
        text = (
            chdb.query(
                f"SELECT number, toString(amount) FROM file('{files}', {kind}{types})"
                " SETTINGS input_format_with_names_use_header = 1",
                "TabSeparated",
            )
            .bytes()
            .decode()
        )
        rows = [line.split("\t") for line in text.splitlines()]
        amounts = (Decimal(amount) for _, amount in rows if amount != "\\N")
        return [number for number, _ in rows], sum(amounts, Decimal(0))

    return read


def main() -> int:
    """Read everything with both."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        datasets = {kind: made.write(Path(folder) / kind) for kind, made in KINDS.items()}
        for name, make in (("Spark", spark_reader), ("ClickHouse", clickhouse_reader)):
            for line, right in _compared(name, make(), datasets):
                print(line, flush=True)
                wrong += not right
    return 1 if wrong else 0


def _compared(name: str, read: Reader, datasets: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    for kind, dataset in datasets.items():
        for suffix in ("parquet", "csv"):
            try:
                numbers, amount = read(dataset / f"orders.{suffix}")
            except Exception as error:
                yield f"{name} {kind} {suffix}: {str(error).splitlines()[0]}", False
                continue
            right = (sorted(numbers), amount) == (sorted(expected(dataset)[0]), expected(dataset)[1])
            yield f"{name} {kind} {suffix}: {'the same' if right else f'other: {numbers} {amount}'}", right


if __name__ == "__main__":
    sys.exit(main())
