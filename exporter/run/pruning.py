"""Orders that a list no longer names, removed from a kept store by themselves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from exporter.fetch.work_directory import locked_store
from exporter.model.errors import UsageError
from exporter.model.options import AskOptions
from exporter.store import upkeep
from exporter.store.input_file import InputPlan, open_input


def store_at(place: str) -> Path:
    """Return where a store really is.

    Raises:
        UsageError: No file is there.
    """
    path = Path(os.path.realpath(place))
    if not path.is_file():
        raise UsageError(f"{place}: expected a store, got none.", "Give the --store of a run.")
    return path


def prune_store(store: str, orders: str, age_s: float, *, only_count: bool) -> int:
    """Remove what `orders` does not name and was last answered over `age_s` seconds ago; return how many went.

    Raises:
        UsageError: There is no store, or the list cannot be read.
        LockedError: A run uses the store.
        StorageError: The disk refuses, or the store is damaged.
    """
    path = store_at(store)
    with (
        locked_store(path),
        TemporaryDirectory(prefix="exporter-") as folder,
        open_input(orders) as source,
    ):
        plan = Path(folder, "plan.db")
        InputPlan(source, orders, AskOptions(), plan).make()
        return upkeep.prune(path, plan, time.time() - age_s, only_count=only_count)
