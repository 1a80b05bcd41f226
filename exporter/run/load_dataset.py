"""A dataset loaded into a database: by `exporter load`, and by a run that has just published it."""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from exporter.dataset.loading.target import kind_of
from exporter.model.errors import ExporterError, StorageError
from exporter.system.log import log
from exporter.system.stopping import Stop, beside_the_loop

if TYPE_CHECKING:
    from exporter.dataset.loading.load import Loaded


def load_place(place: str, target: str, **how: Any) -> Loaded:
    """Check the dataset at a place, and load it: all of it or, with an error, nothing; `how` is that of `load`."""
    from exporter.dataset.loading.load import Load
    from exporter.dataset.local_tables import local_dataset

    kind_of(target)
    with TemporaryDirectory(prefix="exporter-load-") as scratch:
        return Load(dataset=local_dataset(place, Path(scratch) / "dataset"), target=target, **how).run()


async def load_published(out: str, target: str, stop: Stop) -> None:
    """Load the dataset that a run has published at `out`, and say so in the log, or in a `StorageError`."""
    under_way: list[Any] = []

    def load() -> Loaded:
        try:
            return load_place(out, target, begun=under_way.append)
        except ExporterError as error:
            what = f"The dataset is published at {out}, but it was not loaded: {error.what}"
            failed = StorageError(what, "Load it with:")
            failed.command = shlex.join(["exporter", "load", out, target])
            raise failed from None

    doing = "loading the dataset"
    told = await beside_the_loop(load, stop, doing, lambda: [one.interrupt() for one in under_way])
    log.info("%s", told)
