-- Net revenue by month of order in Istanbul's time: the one rule of these examples and of the report.
-- Cancelled orders (50 waiting for it, 100), unpaid ones (300, 546) and refunded ones (600) do not count;
-- refunds of the others are subtracted. Currencies are never added together.
-- Run it in a dataset's folder: duckdb < revenue_net.sql
SELECT
  strftime(date_placed AT TIME ZONE 'Europe/Istanbul', '%Y-%m') AS month,
  currency,
  count(*) AS orders,
  sum(amount) AS gross,
  sum(coalesce(refund_amount, 0)) AS refunds,
  sum(amount - coalesce(refund_amount, 0)) AS net
FROM 'orders.parquet'
WHERE coalesce(status, '') NOT IN ('50', '100', '300', '546', '600')
GROUP BY month, currency
ORDER BY month, currency;
