-- Revenue by day of order in Istanbul's time, cancelled and refunded orders left out.
-- Run it inside a dataset's folder: duckdb < revenue_by_day.sql
SELECT
  CAST(date_placed AT TIME ZONE 'Europe/Istanbul' AS DATE) AS day,
  currency,
  count(*) AS orders,
  sum(amount) AS revenue
FROM 'orders.parquet'
WHERE status NOT IN ('50', '100', '600')
GROUP BY day, currency
ORDER BY day, currency;
