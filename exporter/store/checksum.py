"""Checksums of what a store holds: SQLite itself keeps none of what a page holds."""

from __future__ import annotations

import zlib

import msgspec


def crc(*facts: object, frame: bytes = b"") -> int:
    """Return a checksum of facts and a compressed payload together."""
    return zlib.crc32(frame, zlib.crc32(msgspec.json.encode(facts)))


def payload_crc(*facts_and_frame: object) -> int:
    """Return that of a payload with what is known of it, for SQL: number, time, status, source, list digest, frame."""
    *facts, frame = facts_and_frame
    return crc(*facts, frame=frame if isinstance(frame, bytes) else b"")
