"""Export orders and their items from Akinon's Omnitron API to Parquet and CSV.

    from exporter import Options, export

    summary = export(Options(orders="orders.txt", out="dataset", api_url="https://oms.example.com", token="…"))
    print(summary.exported, summary.rejects_by_reason)

What goes wrong on purpose is an `ExporterError`; its children say what to do about it.
"""

from typing import TYPE_CHECKING, Any

from exporter.model.errors import (
    ApiUnavailableError,
    DriftError,
    ExporterError,
    InputError,
    InterruptedRunError,
    LockedError,
    StorageError,
    TokenRefusedError,
    TooFewOrdersError,
    TooManyRejectsError,
    UsageError,
)
from exporter.model.version import __version__

if TYPE_CHECKING:
    from exporter.dataset.flatten import rebuild
    from exporter.dataset.summary import Summary
    from exporter.model.options import Options
    from exporter.model.progress import Progress
    from exporter.run.export import export, export_async

# Name to the module that has it: imported when first used, so that `exporter --help` starts at once.
_HOMES = {
    "Options": "exporter.model.options",
    "Progress": "exporter.model.progress",
    "Summary": "exporter.dataset.summary",
    "export": "exporter.run.export",
    "export_async": "exporter.run.export",
    "rebuild": "exporter.dataset.flatten",
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
    "TooFewOrdersError",
    "TooManyRejectsError",
    "UsageError",
    "__version__",
    "export",
    "export_async",
    "rebuild",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
