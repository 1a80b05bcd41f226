"""A kept store over the years: orders that nobody lists any more leave it, and a copy is taken while it is in use."""

from contextlib import closing
from pathlib import Path

from exporter.store.store_file import StoreFile
from exporter.system import durable, private_files

_GOING = "SELECT id FROM orders WHERE settled_at < ? AND number NOT IN (SELECT number FROM plan.plan)"


def prune(path: Path, plan: Path, before: float, *, only_count: bool = False) -> int:
    """Remove the orders that a plan does not name, with their payloads, and give their space back to the disk.

    The store's lock is held. Orders stay whose last answer came after `before`. Returned is how many go; `only_count`
    changes nothing.
    """
    file = StoreFile(path, readonly=only_count)
    with closing(file.connection) as connection, durable.storage_errors("pruning the store", path):
        connection.execute("ATTACH DATABASE ? AS plan", (str(plan),))
        if only_count:
            return int(connection.execute(f"SELECT count(*) FROM ({_GOING})", (before,)).fetchone()[0])  # noqa: S608 - our own words
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"DELETE FROM payloads WHERE id IN ({_GOING})", (before,))  # noqa: S608 - our own words
        gone = connection.execute(f"DELETE FROM orders WHERE id IN ({_GOING})", (before,)).rowcount  # noqa: S608 - our own words
        connection.execute("COMMIT")
        durable.step("commit")
        if gone:
            # Personal data stays in freed pages, and in the log, until both are rewritten.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            durable.step("vacuum")
        return gone


def back_up(path: Path, target: Path) -> None:
    """Write a whole copy of a store, of mode 0600, as it is at one moment, while a run may be writing to it.

    A `StorageError` where something is at `target`.
    """
    beside = target.with_name(f".{target.name}.partial")
    file = StoreFile(path, readonly=True)
    with closing(file.connection) as connection, durable.storage_errors("writing the copy", target):
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
