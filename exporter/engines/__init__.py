"""Engines that spread a run over more than one process; each is imported only when it is used."""

from __future__ import annotations

from importlib.util import find_spec

from exporter.errors import missing_extra


def check_extra() -> None:
    """Check, without importing it, that Dask is there.

    Raises:
        UsageError: The extra `dask` is not installed.
    """
    if find_spec("distributed") is None:
        raise missing_extra("--dask", "dask")
