"""Outcomes into the store: many rows by few statements."""

from contextlib import closing
from pathlib import Path

import pytest

from exporter.model.records import FETCHED, Outcome, Traffic
from exporter.store.order_store import Store

_NOW = 1_790_000_000.0


@pytest.mark.fast
def test_batches_of_every_size_are_written_by_a_few_statements(tmp_path: Path) -> None:
    """Python keeps the last 128 statements, of a megabyte each: one for each size took 40 MiB."""
    statements: set[int] = set()
    with closing(Store(tmp_path / "store.db", "https://shop.example")) as store:
        run = store.begin_run("out", _NOW, 0.0)

        def trace(statement: str) -> None:
            if statement.lstrip().startswith("INSERT INTO orders"):
                statements.add(statement.count("'fetched'"))

        store._connection.set_trace_callback(trace)
        written = 0
        for size in (1, 2, 3, 5, 100, 255, 256, 300, 511, 512, 513, 700, 1023, 1100):
            numbers = [f"{written + at}" for at in range(size)]
            outcomes = [Outcome(number, FETCHED, _NOW, 1, 200, payload=b"{}") for number in numbers]
            store.settle(run.run_id, outcomes, Traffic())
            written += size
        store._connection.set_trace_callback(None)
        assert store.answered_since(0.0) == written
    assert statements <= {1 << power for power in range(10)}
