"""Checksums of what a store holds: SQLite itself keeps none of what a page holds."""

from __future__ import annotations

import zlib

import msgspec


def crc(*facts: object, frame: bytes = b"") -> int:
    """Return a checksum of facts and a compressed payload together."""
    return zlib.crc32(frame, zlib.crc32(msgspec.json.encode(facts)))
