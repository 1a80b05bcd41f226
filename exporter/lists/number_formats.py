"""What a sheet of an .xlsx shows where its numbers look otherwise, and which of its cells hide something."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO
from xml.etree.ElementTree import Element, fromstring, iterparse

from exporter.lists.batch import unfit
from exporter.lists.column_choice import letters_number

_JOINED = re.compile(r'("[^"]*"|[1-9]\d{0,14})(\s*&\s*("[^"]*"|[1-9]\d{0,14}))*')
_LAST_COLUMN, _LAST_ROW = 16_384, 1_048_576
_BUILT_IN = {2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 48: "##0.0E+0"}
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|(?P<space>_.)|\*.|\[\$(?P<currency>[^\]-]*)[^\]]*\]'
    r"|(?P<condition>\[[<>=][^\]]*\])|\[[^\]]*\]|(?P<general>General|@)|(?P<mask>[0#?.,]+)|(?P<end>;)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_ORDER_PREFIX = re.compile(r"(#|no|sip|sipariş|siparis|ord|order|so|web)[-_/#.]?", re.IGNORECASE)
_CURRENCY = re.compile(r"[$€£₺¥\s]*")


def as_shown(number: int, code: str) -> str | None:
    """Return a whole number as a number format shows it; None where nobody can know what is meant.

    A currency, or words with spaces between, are no part of an order number.

    >>> [as_shown(123, code) for code in ("000000", '"SIP-"0', "#,##0", '0" days"', "0.00E+00", '"SD-"0')]
    ['000123', 'SIP-123', '123', '123', None, None]
    """
    before, mask, after = "", "", ""
    for token in _TOKEN.finditer(code):
        kind, text = token.lastgroup, token[token.lastgroup or 0]
        if kind == "end":
            break
        if kind == "condition" or (kind == "other" and (text.isalpha() or text in "%/")):
            return None
        if kind in ("general", "mask"):
            if mask:
                return None
            mask = "0" if kind == "general" else text
        elif kind is not None:
            literal = {"space": " ", "currency": "$"}.get(kind, text)
            before, after = (before, after + literal) if mask else (before + literal, after)
    whole = mask.partition(".")[0]
    if not mask or whole.endswith(","):
        return None
    digits = str(number).zfill(whole.count("0"))
    if _CURRENCY.fullmatch(before + after) or any(map(str.isspace, before + after)):
        return digits
    return before + digits if not after and _ORDER_PREFIX.fullmatch(before) else None


def look(stream: BinaryIO, sheet: str, column: int) -> tuple[dict[int, str], dict[int, Any]] | None:
    """Look at one column of a sheet of an .xlsx; None where it is a workbook of another format.

    Return number formats other than the usual one, and what cells are whose value is not there: the text that a
    formula gives, or why there is none; both by row. Whatever a damaged file raises is raised.
    """
    if not zipfile.is_zipfile(stream):
        return None
    formats: dict[int, str] = {}
    hidden: dict[int, Any] = {}
    with zipfile.ZipFile(stream) as archive:
        parts = {name.replace("\\", "/").lower(): name for name in archive.namelist()}
        if "xl/workbook.xml" not in parts:
            return None

        def read(path: str) -> Element:
            return fromstring(archive.read(parts[path]))  # noqa: S314 - the process's memory is limited

        sheets = {one.get("name"): one for one in read("xl/workbook.xml").iterfind("{*}sheets/*")}
        link = next(value for key, value in sheets[sheet].items() if key.endswith("}id"))
        links = {one.get("Id"): one.get("Target", "") for one in read("xl/_rels/workbook.xml.rels")}
        path = str(PurePosixPath("/xl", links[link].replace("\\", "/"))).lower().lstrip("/")
        codes = _codes(read("xl/styles.xml")) if "xl/styles.xml" in parts else []
        with archive.open(parts[path]) as content:
            for row, cell in _cells(content, column):
                kind, style, value = cell.get("t", "n"), int(cell.get("s", 0)), cell.findtext("{*}v")
                formula = cell.find("{*}f")
                if kind == "e":
                    hidden[row] = unfit("", f"the error {value}")
                elif not value and formula is not None:
                    hidden[row] = _joined(formula.text or "") or unfit("", "a formula without a value")
                elif kind == "n" and style < len(codes) and codes[style] not in ("General", "0", "@"):
                    formats[row] = codes[style]
    return formats, hidden


def _cells(content: IO[bytes], column: int) -> Iterator[tuple[int, Element]]:
    number, parents = 0, []
    for event, element in iterparse(content, ("start", "end")):  # noqa: S314 - the process's memory is limited
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        if not element.tag.endswith("}row"):
            continue
        number, at = int(element.get("r", number + 1)), 0
        for cell in element:
            at = letters_number(cell.get("r", "").rstrip("0123456789")) or at + 1
            if at > _LAST_COLUMN or number > _LAST_ROW:
                raise ValueError(f"a cell {cell.get('r')}, beyond XFD1048576")
            if at == column + 1:
                yield number, cell
        parents[-1].clear()


def _codes(styles: Element) -> list[str]:
    own = {one.get("numFmtId"): one.get("formatCode", "") for one in styles.iterfind("{*}numFmts/*")}
    ids = [one.get("numFmtId", "0") for one in styles.iterfind("{*}cellXfs/*")]
    return [own.get(one) or _BUILT_IN.get(int(one), "General") for one in ids]


def _joined(formula: str) -> str | None:
    """Return the text of a formula that joins texts and whole numbers, whatever the sheet holds; else None.

    >>> _joined('"10"&"01"'), _joined('"SIP-" & 7'), _joined("A1&1")
    ('1001', 'SIP-7', None)
    """
    if not _JOINED.fullmatch(formula) or formula.isdecimal():
        return None
    return "".join(text or number for text, number in re.findall(r'"([^"]*)"|(\d+)', formula))
