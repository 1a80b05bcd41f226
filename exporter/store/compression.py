"""Payloads compressed one by one, by a dictionary that the first of them make, and checksums of what a store holds."""

import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate, islice

import msgspec
import zstandard

# With a trained dictionary a 3.5 KB order takes 6 µs and 410 bytes, with a raw one of the same size 11 µs
# and 500: a frame need not bring tables of its own (measured 2026-11-24).
# zstandard and not backports.zstd, which aiohttp reads compressed answers with: that one has no context to
# use again, so that it reads an order back in 12.6 µs against 3.8 (both write it in 5.5; measured 2026-11-25).
_DICTIONARY_BYTES = 16 * 1024
#: The most payloads that a dictionary is learnt from.
SAMPLES = 200
_SAMPLES_BYTES = 1024 * 1024
# COVER's segment and overlap: its own search for the best finds the same 1024, in four times the time.
_SEGMENT, _OVERLAP = 1024, 8
_LEVEL = 3


def dictionary_of(payloads: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Return the dictionary that the first of these payloads make for all that follow, and whose they are, as JSON.

    It holds pieces of them word for word, so none of them has left a store that keeps it.
    """
    first = dict(islice(payloads.items(), SAMPLES))
    below = sum(size < _SAMPLES_BYTES for size in accumulate(map(len, first.values())))
    samples: list[bytes | bytearray | memoryview] = [*islice(first.values(), below + 1)]
    numbers = msgspec.json.encode([*first][: below + 1]).decode()
    try:
        return zstandard.train_dictionary(
            _DICTIONARY_BYTES, samples, k=_SEGMENT, d=_OVERLAP
        ).as_bytes(), numbers
    except zstandard.ZstdError:
        return b"".join(samples)[:_DICTIONARY_BYTES], numbers  # too few to learn from


class Frames:
    """Compresses payloads and gives them back, by what `dictionary_of` returned; a `ZstdError` for what is damaged."""

    def __init__(self, dictionary: bytes) -> None:
        shared = zstandard.ZstdCompressionDict(dictionary)
        shared.precompute_compress(level=_LEVEL)
        # The checksum tells a damaged payload from a whole one when it is read back.
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=shared, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=shared)

    def compress(self, payloads: Sequence[bytes]) -> list[bytes]:
        """Return one frame for each payload."""
        frames = self._compressor.multi_compress_to_buffer(list(payloads))
        return [frames[index].tobytes() for index in range(len(payloads))]

    def decompress(self, frame: bytes) -> bytes:
        """Return the payload of a frame."""
        return self._decompressor.decompress(frame)


def crc(*facts: object, frame: bytes = b"") -> int:
    """Return a checksum of facts and a compressed payload together: SQLite keeps none of what a page holds."""
    return zlib.crc32(msgspec.json.encode(facts) + frame)


def payload_crc(*facts_and_frame: object) -> int:
    """Return that of a payload with what is known of it, for SQL: number, time, status, source, list digest, frame."""
    *facts, frame = facts_and_frame
    return crc(*facts, frame=frame if isinstance(frame, bytes) else b"")
