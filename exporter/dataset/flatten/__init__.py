"""Payloads to Arrow tables, exactly, and back.

`Flattener` makes order rows and item rows, `make_lines` puts them side by side; `rebuild` makes the
payload again from them.
"""

from exporter.dataset.flatten.arrow_schema import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA, SCHEMAS
from exporter.dataset.flatten.flattener import Flattener
from exporter.dataset.flatten.order_lines import make_lines
from exporter.dataset.flatten.rebuild import rebuild
from exporter.dataset.flatten.unmapped import Drift

__all__ = ["ORDERS_SCHEMA", "ORDER_ITEMS_SCHEMA", "SCHEMAS", "Drift", "Flattener", "make_lines", "rebuild"]
