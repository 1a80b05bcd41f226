"""Payloads to Arrow tables, exactly, and back.

`Flattener` makes order rows and item rows; `rebuild` makes the payload again from them.
"""

from exporter.dataset.flatten.arrow_schema import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA
from exporter.dataset.flatten.flattener import Flattener
from exporter.dataset.flatten.rebuild import rebuild
from exporter.dataset.flatten.unmapped import Drift

__all__ = ["ORDERS_SCHEMA", "ORDER_ITEMS_SCHEMA", "Drift", "Flattener", "rebuild"]
