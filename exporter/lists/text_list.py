"""Text, one order number a line; and the lines that the CSV and JSON Lines rooms stand on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from exporter.lists.batch import Batch, sift
from exporter.model.errors import InputError

BLOCK_BYTES = 1 << 16
"""Bytes of one read; a batch of text holds about as much."""

MAX_LINE_BYTES = 8 << 20
"""A longer line is no list of order numbers; it is refused before it fills the memory."""

# A line with one NUL in 4 characters or more is UTF-16 or binary; a stray NUL makes an invalid line.
_BINARY_SHARE = 4
_SIGNATURES = {  # none of them can begin an order number, a header or JSON
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "gzip data",
    b"PK\x03\x04": "a zip archive (or an .xlsx workbook)",
    b"PAR1\x15": "a Parquet file",
}
_SAVE_AS_UTF8 = "Save the file as UTF-8 text, or give it the ending of its format."


def read(stream: BinaryIO, name: str, column: str | None) -> Iterator[Batch]:
    """Yield the batches of a text, one order number a line.

    Raises:
        InputError: When `column` is given, or the stream is not UTF-8 text.
    """
    if column is not None:
        raise InputError(
            f"{name}: expected a format with columns for the column {column!r}, got text.",
            "Leave the column out, or give a .csv, .jsonl, .parquet or .xlsx file.",
        )
    for first_line, text in blocks(stream, name):
        texts = text.split("\n")
        yield sift(range(first_line, first_line + len(texts)), texts)


def blocks(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    r"""Yield (number of its first line, whole lines joined by "\n") for each block of a stream.

    Only "\n" ends a line here, a "\r" before it stays; the last "\n" of a block and the BOM of the
    stream are left out.

    Raises:
        InputError: When the stream is not UTF-8 text, or a line is longer than `MAX_LINE_BYTES`.
    """
    line = 1
    for block in _whole_lines(stream, name):
        if line == 1:
            _refuse_signatures(block, name)
        text = _decoded(block, name, line)
        yield line, text.removeprefix("\ufeff") if line == 1 else text
        line += block.count(b"\n") + 1


def _whole_lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    rest, line = b"", 1
    while chunk := stream.read(BLOCK_BYTES):
        block, end, rest = (rest + chunk).rpartition(b"\n")
        if end:
            yield block
            line += block.count(b"\n") + 1
        if len(rest) > MAX_LINE_BYTES:
            raise InputError(
                f"{name}:{line}: expected lines of at most {MAX_LINE_BYTES:,} bytes, got a longer one.",
                "Put one order number on each line.",
            )
    if rest:
        yield rest


def _refuse_signatures(block: bytes, name: str) -> None:
    for signature, meaning in _SIGNATURES.items():
        if block.startswith(signature):
            raise InputError(f"{name}:1: expected UTF-8 text, got {meaning}.", _SAVE_AS_UTF8)


def _decoded(block: bytes, name: str, first_line: int) -> str:
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        got = f"the byte 0x{block[error.start]:02x}"
        raise InputError(f"{name}:{line}: expected UTF-8 text, got {got}.", _SAVE_AS_UTF8) from error
    if "\0" in text:
        _refuse_binary(text, name, first_line)
    return text


def _refuse_binary(text: str, name: str, first_line: int) -> None:
    for line, content in enumerate(text.split("\n"), first_line):
        if content.count("\0") * _BINARY_SHARE >= len(content) > 0:
            raise InputError(
                f"{name}:{line}: expected UTF-8 text, got NUL bytes, as in UTF-16 or binary data.",
                _SAVE_AS_UTF8,
            )
