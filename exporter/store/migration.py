"""A store of an older version becomes one of this version, in place and in one transaction."""

import sqlite3
from typing import Any

from exporter.store.compression import crc, payload_crc

# Version 1 had one outcome for each order, the payload's with it: a refusal took the payload away.
_FROM_1 = """
ALTER TABLE orders RENAME TO orders_1;
ALTER TABLE runs RENAME TO runs_1;
{schema}
INSERT INTO orders
SELECT o.id, number, state, settled_at, attempts, http_status, detail,
       outcome_crc(o.crc, number, state, settled_at, attempts, http_status, order_status, detail, body),
       order_status, iif(state = 'fetched', settled_at, NULL), iif(state = 'fetched', 'detail', NULL), NULL,
       iif(state = 'fetched', payload_crc(number, settled_at, order_status, 'detail', NULL, body), NULL)
FROM orders_1 AS o LEFT JOIN payloads AS p ON p.id = o.id;
INSERT INTO runs
SELECT id, run_id, out, started_at, crc, finished_at, sent, retried, throttled, redirected, NULL FROM runs_1;
DROP TABLE orders_1;
DROP TABLE runs_1;
"""


def migrate(connection: sqlite3.Connection, version: int, tables: str, set_version: str) -> bool:
    """Bring a store to this version; return whether its version is one that can be brought.

    What is damaged stays so: its checksum does not become right by the way. `tables` and `set_version` are the
    statements that make `orders` and `runs` of this version, and say which it is.
    """
    if version != 1:
        return False
    connection.create_function("outcome_crc", 9, _outcome_crc, deterministic=True)
    connection.create_function("payload_crc", 6, payload_crc, deterministic=True)
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {_FROM_1.format(schema=tables)} {set_version} COMMIT;")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True


def _outcome_crc(before: int, *row: Any) -> int:
    *facts, order_status, detail, body = row
    is_whole = crc(*facts, order_status, detail, frame=body or b"") == before
    return crc(*facts, detail) ^ (not is_whole)
