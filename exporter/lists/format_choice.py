"""The format of a list by its content, and what to do with what is no list."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import PurePath
from string import ascii_lowercase

from exporter.lists import arrow_list, csv_list, inner_table, json_list, text_list
from exporter.lists import workbook_list as workbooks
from exporter.lists.batch import Batch
from exporter.lists.cell_values import INVISIBLE
from exporter.lists.how_read import Source
from exporter.lists.packed_list import seekable
from exporter.system.shell_words import shell_word

#: First bytes, and the format that they mean.
_FORMATS = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow", b"ORC": "orc"}
_FORMATS |= dict.fromkeys((b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "workbook")
_CONVERT = "Convert it: soffice --headless --convert-to csv {}"
_LOG_IN = f"Log in and download it again. If it is a table: {_CONVERT}"
_PAGE_TAGS = b"!doctype !-- html head meta body title style div p table thead tbody tr center font".split()
_SQL = "sqlite3 -csv -header {} 'SELECT order_number FROM orders' > list.csv"
_TYPE = "Type the numbers into a text file."
#: First bytes of what is read only where one table in it has order numbers, or not at all; what that is, and the
#: command that makes a list of it.
_OTHERS = (
    (b"%PDF", "a PDF file", "Make a text of it and keep the numbers: pdftotext -layout {} list.txt"),
    (b"SQLite format 3", "an SQLite database", _SQL),
    (b"Obj\x01", "an Avro file", "Write it as JSON: avro-tools tojson {} > list.jsonl"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it: 7z x {}"),
    (b"Rar!", "a RAR archive", "Unpack it: unrar x {}"),
    (b"FEA1", "a Feather file of version 1", "Write it again as Parquet with the program that wrote it."),
    (b"<?xml", "XML", _CONVERT),
    *((b"<" + tag, "a web page", _LOG_IN) for tag in _PAGE_TAGS),
    *((b"<" + letter, "XML", _CONVERT) for letter in map(str.encode, ascii_lowercase)),
    (b"{\\rtf", "an RTF document", _CONVERT.replace("csv", "txt")),
    (b"\x89PNG", "an image", _TYPE),
    (b"\xff\xd8\xff", "an image", _TYPE),
)
#: A line in brackets, as `[SIP-1001],` or `['1001', '1002']`; JSON would quote it, and in other quotes.
_BRACKETED = re.compile(r"\[[^\[\]{}:\"]*\][,;]?")
_SURE = 0.9  # the share of steady lines that makes a table, whatever the file's name says
_TABLES = (".csv", ".tsv", ".tab", ".psv")
_JSON = (".json", ".jsonl", ".ndjson")


def batches(source: Source) -> Iterator[Batch]:
    """Yield the batches of an unpacked list."""
    chosen: str | None = source.choice.input_format
    found = chosen or next((name for magic, name in _FORMATS.items() if source.head.startswith(magic)), None)
    if found in ("parquet", "arrow", "orc", "workbook"):
        source.reading.format = found
        opened = replace(source, stream=seekable(source))
        return workbooks.read(opened) if found == "workbook" else arrow_list.read(opened)
    start = source.head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    other = next((one for one in _OTHERS if start.startswith(one[0].lower())), None)
    if chosen or other is None:
        return _of_text(source, chosen)
    magic, what, hint = other
    hint = hint.format(shell_word(source.name))
    if magic.startswith(b"SQLite"):
        source.reading.format = "sqlite"
        return inner_table.read_sqlite(source, hint)
    shown = inner_table.read_markup(source, text_list.lines_of(source)) if magic.startswith(b"<") else None
    return shown or source.refuse(f"expected a list of order numbers, got {what}.", hint)


def _of_text(source: Source, chosen: str | None) -> Iterator[Batch]:
    blocks = text_list.lines_of(source)
    first = next(blocks, None)
    if first is None:
        return iter(())
    blocks = chain([first], blocks)
    unpacked = re.sub(r"(\.(gz|gzip|bz2|xz|zst|zip|tar))*$", "", source.name.strip().lower())
    ending, sample = PurePath(unpacked).suffix, first[1].strip(INVISIBLE)
    line = sample.partition("\n")[0].strip()
    is_bracketed = _BRACKETED.fullmatch(line) and json_list.decoded(line) is ...
    is_json = ending in _JSON or (sample.startswith(("{", "[")) and not is_bracketed)
    if chosen == "json" or (chosen is None and is_json):
        return json_list.read(source, blocks)
    dialect, wanted = csv_list.dialect_of(first[1], source.choice.column), source.choice.column is not None
    may_be_table = "\n" in sample or dialect.is_known or wanted
    is_table = may_be_table and (dialect.is_known or dialect.share >= _SURE or wanted or ending in _TABLES)
    if chosen == "csv" or (chosen is None and is_table):
        return csv_list.CsvTable(source, blocks, dialect).batches()
    return text_list.read(source, blocks)
