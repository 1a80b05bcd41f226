"""Text, one order number a line or all of them on one; and the lines that the CSV and JSON readers share."""

import codecs
import io
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import NoReturn

from exporter.lists import column_choice
from exporter.lists.batch import Batch, Sieve, complaint
from exporter.lists.cell_values import INVISIBLE, doubt, unwrapped
from exporter.lists.how_read import LEGACY, Source
from exporter.lists.table import is_header

BLOCK_BYTES = 1 << 16  # of one read; a batch of text holds about as much
#: A longer line is no list of order numbers; it is refused before it fills the memory.
MAX_LINE_BYTES = 8 << 20
Block = tuple[int, str]  # the number of its first line, and whole lines joined by line feeds
# A line with one NUL in 4 characters or more, but around its text, is UTF-16 or binary; a stray NUL is invalid.
_BINARY_SHARE = 4
_MARKS = {  # the longer ones first
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
_AS_UTF8 = "Save the file as UTF-8 text, or add its encoding, as --encoding cp857 or --encoding utf-16-le."
_SQL_IN = re.compile(r".*?\bin\s*\((.*)\)\s*;?", re.IGNORECASE)


def read(source: Source, blocks: Iterator[Block]) -> Iterator[Batch]:
    """Yield the batches of a text, one order number a line."""
    if source.choice.column is not None:
        what = f"expected a format with columns for the column {source.choice.column!r}, got text."
        source.refuse(what, "Leave --column out, or say that it is a table: --input-format csv.")
    sieve = Sieve(source)
    top = list(islice(blocks, 2))
    if len(top) == 1 and (numbers := _on_one_line(top[0][1])):
        source.reading.note("the one line was split into order numbers, which are counted as lines")
        yield sieve.sift(range(1, len(numbers) + 1), numbers)
        return
    for line, text in chain(top, blocks):
        texts = text.split("\n")
        header = _header(texts, source, sieve) if line == 1 else 0
        if header:
            yield Batch(lines=(), order_numbers=(), blank=header - 1)
        yield sieve.sift(range(line + header, line + len(texts)), texts[header:])


def _on_one_line(text: str) -> list[str]:
    line = text.strip(INVISIBLE)
    line = match[1] if (match := _SQL_IN.fullmatch(line)) else line
    pieces = [unwrapped(piece.strip(INVISIBLE)) for piece in re.split(r"[,;|\t]", line.strip("()[]{};, "))]
    certain = all(complaint(piece) is None and any(map(str.isdigit, piece)) for piece in pieces)
    # `100,200` may be one number; the sieve refuses it.
    return pieces if len(pieces) > 1 and certain and doubt(line) is None and "\n" not in line else []


def _header(texts: list[str], source: Source, sieve: Sieve) -> int:  # its line, 0 for none
    full = [(line, text) for line, raw in enumerate(texts[:100], 1) if (text := raw.strip(INVISIBLE))]
    line, name = full[0] if full else (0, "")
    others = [text for _, text in full[1:]]
    digits = bool(others) and all(any(map(str.isdigit, text)) for text in others)
    if not (name and is_header(name, others) and (digits or column_choice.is_known(name))):
        return 0
    sieve.know_header(name)
    source.reading.header_line = line
    source.reading.note(f"line {line}, {name[:60]!r}, was taken for a header")
    return line


def lines_of(source: Source) -> Iterator[Block]:
    r"""Yield the blocks of a stream: its encoding found, every line end made "\n", byte order marks left out."""
    decoder, newlines = _Decoder(source), io.IncrementalNewlineDecoder(None, translate=True)
    line, rest, chunk = 1, "", b"more"
    while chunk:
        chunk = source.stream.read(BLOCK_BYTES)
        text = rest + newlines.decode(decoder.decode(chunk, line), not chunk)
        block, end, rest = text.rpartition("\n")
        if not chunk and rest.strip("\x1a"):
            block, end = text, "\n"
        if end:
            if "\0" in block:
                _refuse_binary(source, block, line)
            if "\ufeff" in block:
                source.reading.stripped += line > 1 or block.count("\ufeff") > 1
                block = block.lstrip("\ufeff").replace("\n\ufeff", "\n")
            yield line, block
            line += block.count("\n") + 1
        elif len(rest) > MAX_LINE_BYTES:
            what = f"expected lines of at most {MAX_LINE_BYTES:,} bytes, got a longer one."
            source.refuse(what, "Put one order number on each line.", line)


class _Decoder:
    """Decodes by the text's mark or the user's word, else as UTF-8, or as Turkish from the first other byte on."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._only_ascii = source.choice.encoding is None
        marked = next((name for mark, name in _MARKS.items() if source.head.startswith(mark)), "utf-8")
        self._become(source.choice.encoding or marked)
        source.reading.encoding = self._encoding.upper()

    def _become(self, encoding: str) -> None:
        self._encoding = self._source.reading.encoding = encoding
        try:
            self._decoder = codecs.getincrementaldecoder(LEGACY.get(encoding, encoding))()
        except LookupError:
            what = f"expected the name of an encoding, got {encoding!r}."
            self._source.refuse(what, "Give for example --encoding cp857.")

    def decode(self, chunk: bytes, line: int) -> str:
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            if self._encoding != "utf-8" or not (self._only_ascii and error.object[: error.start].isascii()):
                self._refuse(error, line)
            self._become(_likeliest(error.object))
            self._source.reading.note(f"it is not UTF-8 and was read as {self._encoding}")
            return self.decode(error.object, line)
        except UnicodeError as error:
            self._refuse(error, line)
        self._only_ascii = self._only_ascii and text.isascii()
        return text

    def _refuse(self, error: UnicodeError, line: int) -> NoReturn:
        if isinstance(error, UnicodeDecodeError) and self._encoding.lower() in ("utf-8", "utf8", *LEGACY):
            line += len((error.object[: error.start] + b".").splitlines()) - 1
            got = f"the byte 0x{error.object[error.start]:02x}"
            self._source.refuse(f"expected UTF-8 text, got {got}.", _AS_UTF8, line)
        what = f"expected text in {self._encoding}, got bytes that are none: {error}."
        self._source.refuse(what, _AS_UTF8)


def _likeliest(data: bytes) -> str:
    """Return the encoding in which most letters are Turkish; which one it is matters to headers and notes alone."""

    def letters(name: str) -> int:
        text = data.decode(LEGACY[name], "replace")
        return sum(map(text.count, "çğıöşüÇĞİÖŞÜ")) - text.count("\ufffd")

    return max(LEGACY, key=letters)


def _refuse_binary(source: Source, block: str, first: int) -> None:
    source.reading.note("NUL bytes around order numbers were taken for padding")
    for line, content in enumerate(block.split("\n"), first):
        inner = content.strip("\0 \x1a")
        if inner.count("\0") * _BINARY_SHARE >= len(inner) > 0:
            what = "expected UTF-8 text, got NUL bytes, as in UTF-16 or binary data."
            source.refuse(what, _AS_UTF8, line)
