"""Payloads to Arrow tables, exactly, and back.

`Flattener` makes order rows and item rows; `rebuild` makes the payload again from them.
"""

from exporter.flatten.flattener import Flattener
from exporter.flatten.hide import Pii
from exporter.flatten.leftovers import Drift
from exporter.flatten.rebuild import rebuild
from exporter.flatten.schema import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA

__all__ = ["ORDERS_SCHEMA", "ORDER_ITEMS_SCHEMA", "Drift", "Flattener", "Pii", "rebuild"]
