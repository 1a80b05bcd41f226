"""What becomes of personal columns: kept, dropped, or replaced by a keyed hash.

Two spellings of one e-mail address or phone number are one customer, and have one hash: an address is hashed
in lower case without white space around it, a phone number by its digits. An empty text stays empty.
"""

import hmac

import pyarrow as pa

from exporter.model.catalog import Column, Kind
from exporter.model.options import Pii


def hide(pii: Pii, key: bytes, column: Column, array: pa.Array) -> pa.Array:
    """Hide one column's values; free-form JSON may hold anything, so it is hidden whole."""
    if pii == "keep" or not (column.personal or column.kind is Kind.JSON):
        return array
    if pii == "drop" or column.kind is Kind.JSON:
        return pa.nulls(len(array), array.type)
    plain = {text: _plain(column, text) for text in array.unique().drop_null().to_pylist()}
    hashes = {text: one and hmac.digest(key, one.encode(), "sha256").hex() for text, one in plain.items()}
    return pa.array(map(hashes.get, array.to_pylist()), pa.string(), size=len(array))


def _plain(column: Column, text: str) -> str:
    if column.path[-1] == "email":
        return text.strip().lower()
    if column.path[-1] == "phone_number":
        return "".join(char for char in text if char.isdecimal()) or text.strip()
    return text
