"""Export orders and their items from Akinon's Omnitron API to Parquet and CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.errors import (
        ApiUnavailableError,
        DriftError,
        ExporterError,
        InputError,
        InterruptedRunError,
        LockedError,
        StorageError,
        TokenRefusedError,
        TooManyRejectsError,
        UsageError,
    )
    from exporter.flatten import rebuild
    from exporter.options import Options
    from exporter.progress import Progress
    from exporter.run import export, export_async
    from exporter.summary import Summary

__version__ = "0.1.0"

# Name to the module that has it: imported when first used, so that `exporter --help` starts at once.
_HOMES = {
    "ApiUnavailableError": "exporter.errors",
    "DriftError": "exporter.errors",
    "ExporterError": "exporter.errors",
    "InputError": "exporter.errors",
    "InterruptedRunError": "exporter.errors",
    "LockedError": "exporter.errors",
    "Options": "exporter.options",
    "Progress": "exporter.progress",
    "StorageError": "exporter.errors",
    "Summary": "exporter.summary",
    "TokenRefusedError": "exporter.errors",
    "TooManyRejectsError": "exporter.errors",
    "UsageError": "exporter.errors",
    "export": "exporter.run",
    "export_async": "exporter.run",
    "rebuild": "exporter.flatten",
}

__all__ = [
    "ApiUnavailableError",
    "DriftError",
    "ExporterError",
    "InputError",
    "InterruptedRunError",
    "LockedError",
    "Options",
    "Progress",
    "StorageError",
    "Summary",
    "TokenRefusedError",
    "TooManyRejectsError",
    "UsageError",
    "__version__",
    "export",
    "export_async",
    "rebuild",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
