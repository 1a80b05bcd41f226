"""Order rows and item rows side by side: a row for each item, and one for an order without items."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from exporter.dataset.flatten.arrow_schema import SCHEMAS
from exporter.model.catalog import ORDER_ITEMS, ORDERS, line_name


def make_lines(numbers: Sequence[str], orders: pa.Table, items: pa.Table) -> pa.Table:
    """Put each item beside its order; the order's money is on its first line only.

    `numbers` are the order numbers of the order rows, as asked for, each once; the items are of the same batch.
    """
    order_of_item = pc.index_in(items["order_number"], pa.array(numbers, pa.string())).combine_chunks()
    rows = pa.array(range(orders.num_rows), order_of_item.type)
    childless = rows.filter(pc.invert(pc.is_in(rows, order_of_item)))
    # Stable by order: the items of one order keep their places, and a row without an item is its order's only one.
    order_at = pa.concat_arrays([order_of_item, childless])
    item_at = pa.array([*range(items.num_rows), *[None] * len(childless)], pa.int32())
    if len(childless):
        by_order = pc.array_sort_indices(order_at)
        order_at, item_at = order_at.take(by_order), item_at.take(by_order)
    orders, items = orders.take(order_at), items.take(item_at)
    later = pc.greater(pc.fill_null(items["item_index"], 0), 0)
    columns = {
        column.name: pc.if_else(later, None, orders[column.name]) if column.money else orders[column.name]
        for column in ORDERS
    }
    columns |= {line_name(column.name): items[column.name] for column in ORDER_ITEMS}
    schema = SCHEMAS["order_lines"]
    return pa.table([columns[name] for name in schema.names], schema=schema)
