"""Imported by the fork server alone, and by that makes it what every local worker begins as."""

import gc
import importlib

from exporter.system.child_process import be_lean

be_lean()
for _name in (
    "distributed.nanny",
    "distributed.worker",
    "exporter.fetch.cluster.range_worker",
    "exporter.dataset.publishing.staging",
):
    importlib.import_module(_name)
# No worker looks through what has been imported, and its pages stay shared.
gc.freeze()
