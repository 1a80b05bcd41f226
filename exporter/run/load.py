"""A dataset loaded into a database: by `exporter load`, and by a run that has just published it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from exporter.dataset.loading.target import kind_of
from exporter.model.errors import ExporterError, StorageError

if TYPE_CHECKING:
    from exporter.dataset.loading.load import Loaded


def load_place(place: str, target: str, **how: Any) -> Loaded:
    """Check the dataset at a place, and load it; `how` is that of `exporter load`.

    Raises:
        UsageError: The target, the dataset or a table that is there cannot take part.
        StorageError: The disk or the database refuses; nothing was loaded.
    """
    from exporter.dataset.loading.load import load
    from exporter.dataset.local_tables import local_dataset

    kind_of(target)
    with TemporaryDirectory(prefix="exporter-load-") as scratch:
        return load(local_dataset(place, Path(scratch) / "dataset"), target, **how)


class Loading:
    """The load at the end of a run, in a thread that can be interrupted.

    Args:
        out: Where the dataset was published.
        target: See `exporter load`.
    """

    def __init__(self, out: str, target: str) -> None:
        self._out, self._target = out, target
        self._interrupt: Callable[[], object] = lambda: None

    def run(self) -> Loaded:
        """Load it.

        Raises:
            StorageError: The load failed; the dataset is published.
        """
        try:
            return load_place(self._out, self._target, begun=self._note)
        except ExporterError as error:
            what = f"The dataset is published at {self._out}, but it was not loaded: {error.what}"
            failed = StorageError(what, "Load it by itself:")
            failed.command = shlex.join(["exporter", "load", self._out, self._target])
            raise failed from None

    def interrupt(self) -> None:
        """Make a load under way in another thread end soon."""
        self._interrupt()

    def _note(self, database: Any) -> None:
        self._interrupt = database.interrupt
