"""A kept store over the years: orders that nobody lists any more leave it, and a copy is taken while it is in use."""

from contextlib import closing
from pathlib import Path

import zstandard

from exporter.store.compression import SAMPLES, Frames, dictionary_of, payload_crc
from exporter.store.store_file import StoreFile
from exporter.system import durable, private_files

_GOING = "SELECT id FROM orders WHERE settled_at < ? AND number NOT IN (SELECT number FROM plan.plan)"
# A store that an older version began does not know whom its dictionary was learnt from: NULL is never empty.
_DICTIONARY_STAYS = """
SELECT (SELECT value FROM meta WHERE key = 'learnt_from') IS NOT NULL AND NOT EXISTS (
  SELECT value FROM json_each((SELECT value FROM meta WHERE key = 'learnt_from'))
  WHERE value NOT IN (SELECT number FROM orders))
"""
# The newest: they stay longest, and with them the dictionary.
_SAMPLES = "SELECT number, body FROM orders JOIN payloads USING (id) ORDER BY id DESC LIMIT ?"
_NEXT = """
SELECT id, payload_crc, number, fetched_at, order_status, source, list_digest, body
FROM orders JOIN payloads USING (id) WHERE id > ? ORDER BY id LIMIT 500
"""


def prune(path: Path, plan: Path, before: float, *, only_count: bool = False) -> int:
    """Remove the orders that a plan does not name, with their payloads, and give their space back to the disk.

    The store's lock is held. Orders stay whose last answer came after `before`. Returned is how many go; `only_count`
    changes nothing.
    """
    file = StoreFile(path, readonly=only_count)
    with closing(file.connection) as connection, durable.storage_errors("pruning the store", path):
        file.check()
        connection.execute("ATTACH DATABASE ? AS plan", (str(plan),))
        if only_count:
            return int(connection.execute(f"SELECT count(*) FROM ({_GOING})", (before,)).fetchone()[0])  # noqa: S608 - our own words
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"DELETE FROM payloads WHERE id IN ({_GOING})", (before,))  # noqa: S608 - our own words
        gone = connection.execute(f"DELETE FROM orders WHERE id IN ({_GOING})", (before,)).rowcount  # noqa: S608 - our own words
        if gone and not connection.execute(_DICTIONARY_STAYS).fetchone()[0]:
            _learn_anew(file)
        connection.execute("COMMIT")
        durable.step("commit")
        if gone:
            # Personal data stays in freed pages, and in the log, until both are rewritten.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            durable.step("vacuum")
        return gone


def _learn_anew(file: StoreFile) -> None:
    """Compress what stays by a dictionary of its own: the one before holds pieces of what went, word for word."""
    connection, known = file.connection, file.meta("dictionary")
    if not isinstance(known, bytes):
        return  # it never had a payload
    try:
        before = Frames(known)
        samples = {n: before.decompress(frame) for n, frame in connection.execute(_SAMPLES, (SAMPLES,))}
        if not samples:
            connection.execute("DELETE FROM meta WHERE key IN ('dictionary', 'learnt_from')")
            return
        dictionary, numbers = dictionary_of(samples)
        file.set_dictionary(dictionary, numbers)
        _compress_anew(file, before, Frames(dictionary))
    except zstandard.ZstdError as error:
        raise file.corrupt("a payload, or their dictionary, is damaged") from error


def _compress_anew(file: StoreFile, before: Frames, after: Frames) -> None:
    last = 0
    while rows := file.connection.execute(_NEXT, (last,)).fetchall():
        for _, crc, number, *about, frame in rows:
            if payload_crc(number, *about, frame) != crc:
                raise file.corrupt(f"what it holds of order {number} is damaged")
        frames = after.compress([before.decompress(row[-1]) for row in rows])
        facts = [(payload_crc(*row[2:-1], frame), row[0]) for row, frame in zip(rows, frames, strict=True)]
        file.connection.executemany("UPDATE orders SET payload_crc = ? WHERE id = ?", facts)
        bodies = [(frame, row[0]) for row, frame in zip(rows, frames, strict=True)]
        file.connection.executemany("UPDATE payloads SET body = ? WHERE id = ?", bodies)
        last = rows[-1][0]


def back_up(path: Path, target: Path) -> None:
    """Copy a store, as it is at one moment, to a new file of mode 0600, while a run may be writing to it."""
    beside = target.with_name(f".{target.name}.partial")
    file = StoreFile(path, readonly=True)
    with closing(file.connection) as connection, durable.storage_errors("writing the copy", target):
        file.check()
        if target.exists():
            raise FileExistsError(17, "something else is there", str(target))
        beside.unlink(missing_ok=True)
        private_files.claim(beside)
        try:
            connection.execute("VACUUM INTO ?", (str(beside),))
            durable.sync_file(beside)
            durable.rename(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
