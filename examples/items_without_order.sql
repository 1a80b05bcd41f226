-- Items whose order is not in the dataset: none, unless somebody changed the files.
-- Run it in a dataset's folder: duckdb < items_without_order.sql
SELECT items.order_number, items.item_index, items.product_sku
FROM 'order_items.parquet' AS items
ANTI JOIN 'orders.parquet' AS orders ON orders.number = items.order_number
ORDER BY items.order_number, items.item_index;
