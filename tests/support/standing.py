"""What stands in a finished dataset, for tests that compare datasets; and a store that is damaged."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

#: Files whose bytes follow from the store alone. The manifest also tells the time.
_TIMELESS = (".parquet", ".csv", ".jsonl")


def contents(out: Path) -> dict[str, str]:
    """Return the digest of every file of a dataset but its manifest, and see that the manifest names all."""
    manifest = json.loads((out / "manifest.json").read_bytes())
    found = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    assert all(name.endswith(_TIMELESS) for name in found), found
    named = {part["path"]: part["sha256"] for table in manifest["tables"].values() for part in table["files"]}
    assert {**named, "rejects.jsonl": found["rejects.jsonl"]} == found
    return found


def manifest_of(out: Path) -> dict[str, Any]:
    """Return a dataset's manifest, its two sums checked."""
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())
    counted, counts = manifest["input"], manifest["counts"]
    assert counted["lines"] == (
        counted["blank"] + counted["invalid"] + counted["duplicates"] + counts["requested"]
    )
    assert counts["requested"] == counts["exported"] + counts["rejected"]
    return manifest


def damage_index(store: Path) -> None:
    """Damage the index of a store's order numbers, so that no look-up gets through it."""
    query = "SELECT page_size, rootpage FROM pragma_page_size, sqlite_master WHERE name LIKE '%index_orders%'"
    with closing(sqlite3.connect(store)) as connection:
        page_bytes, page = connection.execute(query).fetchone()
    with store.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xff" * 9)
