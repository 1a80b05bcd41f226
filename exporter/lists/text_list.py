"""Text, one order number a line or all of them on one; and the lines that the CSV and JSON rooms stand on."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import chain
from typing import NoReturn

from exporter.lists import column_choice
from exporter.lists.batch import Batch, Sieve, complaint
from exporter.lists.cell_values import INVISIBLE, doubt, unwrapped
from exporter.lists.how_read import LEGACY, Source
from exporter.lists.table import is_header

BLOCK_BYTES = 1 << 16
"""Bytes of one read; a batch of text holds about as much."""

MAX_LINE_BYTES = 8 << 20
"""A longer line is no list of order numbers; it is refused before it fills the memory."""

Block = tuple[int, str]
"""The number of its first line, and whole lines joined by line feeds."""

# A line with one NUL in 4 characters or more, but around its text, is UTF-16 or binary; a stray NUL is invalid.
_BINARY_SHARE = 4
_MARKS = {  # the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAVE_AS_UTF8 = (
    "Save the file as UTF-8 text, or add its encoding, as --encoding cp857 or --encoding utf-16-le."
)
_SQL_IN = re.compile(r".*?\bin\s*\((.*)\)\s*;?", re.IGNORECASE)


def read(source: Source, blocks: Iterator[Block]) -> Iterator[Batch]:
    """Yield the batches of a text, one order number a line.

    Raises:
        InputError: When a column is asked for, or the stream is no text.
    """
    if source.choice.column is not None:
        source.refuse(
            f"expected a format with columns for the column {source.choice.column!r}, got text.",
            "Leave --column out, or say that it is a table: --input-format csv.",
        )
    sieve = Sieve(source)
    _, text = next(blocks)
    second = next(blocks, None)
    if second is None and (numbers := _on_one_line(text)):
        source.reading.note("the one line was split into order numbers, which are counted as lines")
        yield sieve.sift(range(1, len(numbers) + 1), numbers)
        return
    texts = text.split("\n")
    header = _header(texts, source, sieve)
    if header:
        yield Batch(lines=(), order_numbers=(), blank=header - 1)
    yield sieve.sift(range(header + 1, len(texts) + 1), texts[header:])
    for line, text in chain(filter(None, [second]), blocks):
        texts = text.split("\n")
        yield sieve.sift(range(line, line + len(texts)), texts)


def _on_one_line(text: str) -> list[str]:
    line = text.strip(INVISIBLE)
    line = match[1] if (match := _SQL_IN.fullmatch(line)) else line
    pieces = [unwrapped(piece.strip(INVISIBLE)) for piece in re.split(r"[,;|\t]", line.strip("()[]{};, "))]
    certain = all(complaint(piece) is None and any(map(str.isdigit, piece)) for piece in pieces)
    # `100,200` may be one number; the sieve refuses it.
    return pieces if len(pieces) > 1 and certain and doubt(line) is None and "\n" not in line else []


def _header(texts: list[str], source: Source, sieve: Sieve) -> int:
    """Return how many lines the header of a text takes, blank ones above it included."""
    full = [(line, text) for line, raw in enumerate(texts[:100], 1) if (text := raw.strip(INVISIBLE))]
    if not full:
        return 0
    (line, name), others = full[0], [text for _, text in full[1:]]
    digits = bool(others) and all(any(map(str.isdigit, text)) for text in others)
    if not (is_header(name, others) and (digits or column_choice.is_known(name))):
        return 0
    sieve.know_header(name)
    source.reading.header_line = line
    source.reading.note(f"line {line}, {name[:60]!r}, was taken for a header")
    return line


def lines_of(source: Source) -> Iterator[Block]:
    r"""Yield the blocks of a stream: its encoding found, every line end made "\n", byte order marks left out.

    Raises:
        InputError: When the stream is no text, or a line is longer than `MAX_LINE_BYTES`.
    """
    decoder = _Decoder(source)
    line = 1
    for block in _whole_lines(source, _as_utf8(source)):
        text = decoder.decode(block, line)
        if "\ufeff" in text:
            text = text.lstrip("\ufeff").replace("\n\ufeff", "\n")
            source.reading.stripped += line > 1 or block.count(codecs.BOM_UTF8) > 1
        yield line, text
        line += block.count(b"\n") + 1


def _as_utf8(source: Source) -> Iterator[bytes]:
    """Yield the stream as UTF-8, where its mark or the user says what it is."""
    marked = next((name for mark, name in _MARKS.items() if source.head.startswith(mark)), "utf-8")
    encoding = source.choice.encoding or marked
    source.reading.encoding = encoding.upper()
    chunks = iter(lambda: source.stream.read(BLOCK_BYTES), b"")
    if encoding.lower() in ("utf-8", "utf8"):
        yield from chunks
        return
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "replace")
        decoder.decode(b"", final=True)
    except LookupError:
        source.refuse(
            f"expected the name of an encoding, got {encoding!r}.", "Give for example --encoding cp857."
        )
    except UnicodeError as error:
        source.refuse(f"expected text in {encoding}, got bytes that are none: {error}.", _SAVE_AS_UTF8)


def _whole_lines(source: Source, chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest, line = b"", 1
    for chunk in chunks:
        data = rest + chunk
        # Of "\r\n" the half may be in the next chunk.
        held = b"\r" if data.endswith(b"\r") else b""
        if b"\r" in chunk or held:
            data = data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        block, end, rest = data.rpartition(b"\n")
        rest += held
        if end:
            yield block
            line += block.count(b"\n") + 1
        if len(rest) > MAX_LINE_BYTES:
            source.refuse(
                f"expected lines of at most {MAX_LINE_BYTES:,} bytes, got a longer one.",
                "Put one order number on each line.",
                line,
            )
    if rest.strip(b"\x1a\r"):
        yield rest.removesuffix(b"\r")


class _Decoder:
    """Decodes blocks as UTF-8, or in another encoding of Turkish from the first byte on that cannot be UTF-8."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._only_ascii = True

    def decode(self, block: bytes, first_line: int) -> str:
        reading = self._source.reading
        try:
            text = block.decode(LEGACY.get(reading.encoding or "", "utf-8"))
        except UnicodeDecodeError as error:
            is_ascii = self._only_ascii and block[: error.start].isascii()
            if reading.is_legacy or self._source.choice.encoding or not is_ascii:
                self._refuse(block, first_line, error)
            reading.encoding = _likeliest(block)
            reading.note(f"it is not UTF-8 and was read as {reading.encoding}")
            return self.decode(block, first_line)
        self._only_ascii = self._only_ascii and text.isascii()
        if "\0" in text:
            self._refuse_binary(text, first_line)
        return text

    def _refuse(self, block: bytes, first_line: int, error: UnicodeDecodeError) -> NoReturn:
        line = first_line + block.count(b"\n", 0, error.start)
        got = f"the byte 0x{block[error.start]:02x}"
        self._source.refuse(f"expected UTF-8 text, got {got}.", _SAVE_AS_UTF8, line)

    def _refuse_binary(self, text: str, first_line: int) -> None:
        self._source.reading.note("NUL bytes around order numbers were taken for padding")
        for line, content in enumerate(text.split("\n"), first_line):
            inner = content.strip("\0 \x1a")
            if inner.count("\0") * _BINARY_SHARE >= len(inner) > 0:
                got = "NUL bytes, as in UTF-16 or binary data"
                self._source.refuse(f"expected UTF-8 text, got {got}.", _SAVE_AS_UTF8, line)


def _likeliest(block: bytes) -> str:
    """Return the encoding in which most letters are Turkish; which one it is matters to headers and notes alone."""
    texts = {name: block.decode(codec, "replace") for name, codec in LEGACY.items()}
    return max(
        texts, key=lambda name: sum(map(texts[name].count, "çğıöşüÇĞİÖŞÜ")) - texts[name].count("\ufffd")
    )
