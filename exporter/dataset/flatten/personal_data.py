"""What becomes of personal columns: kept, dropped, or replaced by a keyed hash."""

from __future__ import annotations

import hmac

import pyarrow as pa

from exporter.model.catalog import Column, Kind
from exporter.model.options import Pii


class Hide:
    """Hide what a column must not show.

    Raises:
        ValueError: `hash` without a key.
    """

    def __init__(self, pii: Pii, key: bytes | None) -> None:
        if pii == "hash" and not key:
            raise ValueError("pii='hash' needs a pii_key")
        self._keep = pii == "keep"
        self._key = key if pii == "hash" else None

    def __call__(self, column: Column, array: pa.Array) -> pa.Array:
        """Hide one column's values; free-form JSON may hold anything, so it is hidden whole."""
        if self._keep or not (column.personal or column.kind is Kind.JSON):
            return array
        if self._key is None or column.kind is Kind.JSON:
            return pa.nulls(len(array), array.type)
        key = self._key
        texts = array.unique().drop_null().to_pylist()
        hashes = {text: hmac.digest(key, text.encode(), "sha256").hex() for text in texts}
        return pa.array(map(hashes.get, array.to_pylist()), pa.string(), size=len(array))
