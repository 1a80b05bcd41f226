"""Imported by the fork server alone, and by that makes it what every local worker begins as."""

from __future__ import annotations

import gc
import importlib

from exporter.lean import be_lean

be_lean()
# The last is what the main module imports, which each worker runs once more.
for _name in ("distributed.nanny", "distributed.worker", "exporter.engines.worker", "exporter.cli"):
    importlib.import_module(_name)
# No worker looks through what has been imported, and its pages stay shared.
gc.freeze()
