"""Order numbers come out of every format as they went in, and every complaint names its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import lists
from exporter.lists import text_list as text_format
from exporter.lists.batch import Batch, complaint
from exporter.lists.cell_values import doubt, replaced
from exporter.model.errors import InputError, UsageError
from exporter.model.options import AskOptions
from exporter.store.plan import make_plan
from tests.support.thorough import examples

pytestmark = pytest.mark.fast

LONG = "12345678901234567890"
NAMESPACE = "http://schemas.openxmlformats.org"

_letters = st.characters(codec="utf-8", categories=["L", "Nd"]) | st.sampled_from("-_/#&")
valid_numbers = (
    st.text(_letters, max_size=127)
    .map("7{}".format)
    .filter(lambda text: doubt(text) is None and replaced(text) is None)
)
lists_of_numbers = st.lists(valid_numbers, min_size=1, max_size=20)

# Without a time: a test case is named by its bytes, and two test processes must agree on the name.
gzipped = partial(gzip.compress, mtime=0)


class Outcome:
    """All batches of one input, put together."""

    def __init__(self, batches: list[lists.Batch]) -> None:
        self.pairs = [pair for batch in batches for pair in batch.pairs()]
        self.numbers = [number for _, number in self.pairs]
        self.invalid = [invalid for batch in batches for invalid in batch.invalid]
        self.invalid_lines = [invalid.line for invalid in self.invalid]
        self.blank = sum(batch.blank for batch in batches)
        self.lines = sum(batch.line_count for batch in batches)


def read(content: bytes | str, name: str = "orders.txt", column: str | None = None) -> Outcome:
    data = content.encode() if isinstance(content, str) else content
    return Outcome(list(lists.read(io.BytesIO(data), name=name, choice=AskOptions(column=column))))


def refusal(content: bytes | str, name: str = "orders.txt", column: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(content, name, column)
    assert caught.value.hint, "an error says what to do"
    return caught.value.what


def parquet(columns: dict[str, pa.Array]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def cell(place: str, value: str | int | float, kind: str = "") -> str:
    if isinstance(value, str) and not kind:
        text = f'<is><t xml:space="preserve">{escape(value)}</t></is>'
        return f'<c r="{place}" t="inlineStr">{text}</c>'
    return f'<c r="{place}" {kind}><v>{value}</v></c>'


def workbook(*cells: str, hidden_first: bool = False) -> bytes:
    """Write a workbook by hand, so that each cell is spelled as the test wants it."""
    rows = "".join(f'<row r="{c.split(chr(34))[1].lstrip("ABC")}">{c}</row>' for c in cells)
    sheets = {"1": rows}
    states = {"1": ""}
    if hidden_first:
        sheets = {"1": f'<row r="1">{cell("A1", "hidden")}</row>', "2": rows}
        states = {"1": 'state="hidden"', "2": ""}
    main, relations = f"{NAMESPACE}/spreadsheetml/2006/main", f"{NAMESPACE}/officeDocument/2006/relationships"
    packaged = f"{NAMESPACE}/package/2006/relationships"
    listed = "".join(f'<sheet name="S{i}" sheetId="{i}" {states[i]} r:id="rId{i}"/>' for i in sheets)
    listed = f"<sheets>{listed}</sheets>"
    links = "".join(
        f'<Relationship Id="rId{i}" Type="{relations}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in sheets
    )
    root = f'<Relationship Id="rId1" Type="{relations}/officeDocument" Target="xl/workbook.xml"/>'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{NAMESPACE}/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{packaged}">{root}</Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}">{listed}</workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{packaged}">{links}</Relationships>',
    }
    for i, body in sheets.items():
        sheet = f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
        parts[f"xl/worksheets/sheet{i}.xml"] = sheet
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in parts.items():
            archive.writestr(path, content)
    return buffer.getvalue()


def as_csv(numbers: list[str], delimiter: str = ",") -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerows([["note", "Number", "total"], *(['a "b"\n,;\t c', number, "1"] for number in numbers)])
    return buffer.getvalue().encode()


def as_json_lines(numbers: list[str]) -> bytes:
    return "\n".join(json.dumps({"total": 1.5, "number": number}) for number in numbers).encode()


def as_workbook(numbers: list[str]) -> bytes:
    named = ["order_number", *numbers]
    return workbook(*(cell(f"A{row}", number) for row, number in enumerate(named, 1)))


FORMATS = {
    ".txt": lambda numbers: "\n".join(numbers).encode(),
    ".csv": as_csv,
    ".jsonl": as_json_lines,
    ".parquet": lambda numbers: parquet({"number": pa.array(numbers), "id": pa.array(range(len(numbers)))}),
    ".xlsx": as_workbook,
}


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("packed", [False, True])
@given(numbers=lists_of_numbers)
@settings(max_examples=examples(100))
def test_round_trip(ending: str, packed: bool, numbers: list[str]) -> None:
    """Every list of order numbers, written in any format, packed or not, is read back as it was."""
    content = FORMATS[ending](numbers)
    name = f"orders{ending}.gz" if packed else f"orders{ending}"
    outcome = read(gzipped(content) if packed else content, name)
    assert outcome.numbers == numbers
    assert (outcome.lines, outcome.blank, outcome.invalid) == (len(numbers), 0, [])


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8")), min_size=2))
def test_every_line_is_counted_once(lines: list[str]) -> None:
    """Whatever stands on the lines of a text, each is an order number, invalid or blank, and none is lost."""
    data = "\n".join(["1001", *lines, "1002"]).encode()
    batches = lists.read(io.BytesIO(data), name="o.txt", choice=AskOptions(input_format="text"))
    outcome = Outcome([])
    with suppress(InputError):
        outcome = Outcome(list(batches))
    if not outcome.lines:
        return  # refused
    assert outcome.lines == len(lines) + 2
    assert all(
        number.removesuffix(".0") in [*["1001"], *lines, "1002"][line - 1] for line, number in outcome.pairs
    )
    assert all(not any(map(str.isspace, number)) for number in outcome.numbers)


@given(st.integers(1, 40), st.lists(st.sampled_from(["A1", "", " B2 ", "x y", "Ş3"]), min_size=2))
def test_lines_do_not_depend_on_blocks(size: int, lines: list[str]) -> None:
    """Lines are numbered the same however the stream is cut into blocks, multi-byte characters too."""
    data = ("N1\n" + "\n".join(lines)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_format, "BLOCK_BYTES", size)
        cut = read(data)
    whole = read(data)
    assert (cut.pairs, cut.invalid, cut.blank) == (whole.pairs, whole.invalid, whole.blank)


def test_duplicates_are_found(tmp_path: Path) -> None:
    """What proves inputs free of duplicates misses none, be they apart or side by side."""
    for texts in (["a", "b", "c", "d"], ["a", "a", "b", "c", "d"], ["a", "b", "c", "d", "a"], ["a", "a"]):
        batches = [Batch(lines=[line], order_numbers=[text]) for line, text in enumerate(texts, 1)]
        counts = make_plan(tmp_path / "plan.db", batches)
        assert (counts.requested, counts.duplicates) == (len(set(texts)), len(texts) - len(set(texts)))


def test_text_rules() -> None:
    """BOM and CRLF are skipped, surrounding white space is stripped, blank lines are counted."""
    outcome = read("\ufeffA1\r\n\r\n  A2\t\n\u00a0A3\u3000\n   \nA1")
    assert outcome.pairs == [(1, "A1"), (3, "A2"), (4, "A3"), (6, "A1")]
    assert (outcome.blank, outcome.lines) == (2, 6)


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        ("a b", "An order number has no white space inside, got U+0020 at character 2."),
        ("a\tb", "An order number has no white space inside, got U+0009 at character 2."),
        ("ab\x0bc", "An order number has no white space inside, got U+000B at character 3."),
        ("ab\x0cc", "An order number has no white space inside, got U+000C at character 3."),
        ("ab\rc", "An order number has no white space inside, got U+000D at character 3."),
        ("ab\x1cc", "An order number has no white space inside, got U+001C at character 3."),
        ("ab\x85c", "An order number has no white space inside, got U+0085 at character 3."),
        ("ab\u2028c", "An order number has no white space inside, got U+2028 at character 3."),
        ("abcd\x00e", "An order number has printable characters only, got U+0000 at character 5."),
        ("a\x07b", "An order number has printable characters only, got U+0007 at character 2."),
        ("a\u200bb", "An order number has printable characters only, got U+200B at character 2."),
        ("x" * 129, "An order number has at most 128 characters, got 129."),
        (".", "An order number is not '.', which means a folder in a URL."),
        ("..", "An order number is not '..', which means a folder in a URL."),
    ],
)
@pytest.mark.parametrize("ending", FORMATS)
def test_invalid_numbers_are_reported_and_the_rest_goes_on(ending: str, bad: str, detail: str) -> None:
    """An invalid order number is reported with its line and one sentence, in every format."""
    if ending == ".xlsx" and min(bad) < " ":
        return  # XML cannot hold control characters
    if ending in (".txt", ".csv") and "\r" in bad:
        return  # it ends a line there
    outcome = read(FORMATS[ending](["first", bad, "x" * 128, "..."]), f"orders{ending}")
    assert outcome.numbers == ["first", "x" * 128, "..."]
    (invalid,) = outcome.invalid
    assert (invalid.text, invalid.detail) == (bad, detail)
    assert outcome.pairs[0][0] < invalid.line < outcome.pairs[1][0]


def test_the_rule_refuses_nothing_at_all() -> None:
    """The empty text is a blank line in a file, and no order number anywhere else."""
    assert complaint("") == "An order number has at least 1 character, got none."


def test_a_long_invalid_text_is_cut_and_stays_invalid() -> None:
    """A megabyte on one line is reported by its beginning, which a next run refuses again."""
    outcome = read("A1\n" + "x" * 1_000_000 + "\nA2")
    (invalid,) = outcome.invalid
    assert (outcome.numbers, invalid.line, len(invalid.text)) == (["A1", "A2"], 2, 200)
    assert read(f"A1\n{invalid.text}").invalid_lines == [2]


class Endless(io.RawIOBase):
    """A stream without any line break; counts what was read of it."""

    read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants Buffer
        buffer[:] = b"7" * len(buffer)
        self.read_bytes += len(buffer)
        return len(buffer)


@pytest.mark.parametrize("name", ["orders.txt", "orders.csv", "orders.jsonl"])
def test_a_gigantic_line_is_refused_early(name: str) -> None:
    """A line without an end is refused after some megabytes, before it fills the memory."""
    stream = Endless()
    with pytest.raises(InputError, match=rf"{name}:1: expected lines of at most 8,388,608 bytes"):
        list(lists.read(cast("BinaryIO", io.BufferedReader(stream)), name=name))
    assert stream.read_bytes < 20 << 20


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            "A1\nA2\n".encode("utf-16-le"),
            "orders.txt:1: expected UTF-8 text, got NUL bytes, as in UTF-16 or binary data.",
        ),
        (b"A1\nA2\nA\xff3\n", "orders.txt:3: expected UTF-8, got an order number with other bytes: 'Aÿ3'?"),
        ("Ş1\n".encode() + b"A1\n\xc5", "orders.txt:3: expected UTF-8 text, got the byte 0xc5."),
        (
            b"A1\n" + b"\1" + bytes(100) + b"\1",
            "orders.txt:2: expected UTF-8 text, got NUL bytes, as in UTF-16 or binary data.",
        ),
    ],
)
def test_binary_input_is_refused_with_its_place(content: bytes, what: str) -> None:
    """Binary data, UTF-16 and broken UTF-8 are refused, and the error names file and line."""
    assert refusal(content) == what


def test_broken_utf8_far_into_a_file_has_its_line() -> None:
    """The line of a broken byte is right beyond the first block, and what came before was handed out."""
    good = b"".join(b"%07d\n" % i for i in range(100_000))
    batches = lists.read(io.BytesIO(good + b"\xfe\n"), name="orders.txt")
    seen: list[lists.Batch] = []
    with pytest.raises(InputError, match=r"orders\.txt:100001: "):
        seen.extend(batches)
    assert sum(batch.line_count for batch in seen) > 90_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("orders.txt", b""),
        ("orders.txt", b"\n \r\n\n"),
        ("orders.txt.gz", gzipped(b"")),
        ("orders.csv", b""),
        ("orders.csv", b"\n\n"),
        ("orders.csv", b"number\n"),
        ("orders.csv", b"number,total\n,\n"),
        ("orders.parquet", b""),
        ("orders.xlsx", b""),
        ("orders.jsonl", b"\n"),
        ("orders.jsonl", b'{"number": null}\n'),
        ("orders.parquet", parquet({"number": pa.array([], pa.string())})),
        ("orders.parquet", parquet({"number": pa.array([None, None], pa.null())})),
        ("orders.xlsx", workbook(cell("A1", "number"))),
    ],
)
def test_no_order_number_at_all_is_refused(name: str, content: bytes) -> None:
    """An input with nothing but blank lines is refused, for a job that exports nothing must not look well."""
    assert refusal(content, name) == f"{name}: expected at least one order number, got none."


def test_only_invalid_lines_are_not_an_empty_input() -> None:
    """Invalid lines are rejects, so a file of nothing else is left to the limit of rejects."""
    assert read("a b").invalid_lines == [1]


@pytest.mark.parametrize("name", ["-", "orders", "orders.lst", "orders.2026", "ORDERS.TXT", "in.csv/orders"])
def test_other_names_are_text(name: str) -> None:
    """Standard input, and every name without a known ending, is text."""
    assert read("A1\nA2", name).numbers == ["A1", "A2"]


def test_standard_input_is_called_so() -> None:
    """An error about standard input does not name it `-`."""
    assert refusal("", "-") == "standard input: expected at least one order number, got none."


def test_endings_in_any_case() -> None:
    """Where the content leaves a choice the ending makes it, whatever its case."""
    assert read("x,number\n1,A1", "ORDERS.CSV").numbers == ["A1"]
    assert read(gzipped(b"x\tnumber\n1\tA1"), "orders.tsv.GZ").numbers == ["A1"]
    assert read('{"number": "A1"}', "orders.ndjson").numbers == ["A1"]
    assert read('[{"number": "A1"}]', "orders.json").numbers == ["A1"]


def test_text_has_no_columns() -> None:
    """A column asked of a text is a mistake, not a wish to be ignored."""
    assert refusal("A1", column="number").startswith("orders.txt:1: expected one column 'number', got ")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_delimiter_is_found(delimiter: str) -> None:
    """Comma, semicolon and tab are found by the header, quoted ones in it do not count."""
    header = delimiter.join(['"a,b;c\td,e;f\tg"', "number", "total"])
    content = f"{header}\r\n{delimiter.join(['x', '007', '1'])}\r\n"
    assert read(content, "orders.csv").pairs == [(2, "007")]


def test_csv_lines_are_physical_lines() -> None:
    """Quoted cells may hold line breaks, and a record's line is where it begins."""
    content = '\ufeff\nnote,number\n"one\ntwo",A1\n\n"x ""y""\r\n\r\nz",a b\nlast,"A\n2"\n,A3'
    outcome = read(content, "orders.csv")
    assert outcome.pairs == [(3, "A1"), (11, "A3")]
    assert [(i.line, i.text) for i in outcome.invalid] == [(6, "a b"), (9, "A\n2")]
    assert outcome.blank == 2


def test_csv_records_with_shifted_cells_are_invalid() -> None:
    """A record with more cells than the header, or none in the column, may be shifted: it is invalid."""
    outcome = read("note,number\nx,A1,,\nwith, comma,A2\nshort\n  \nz,A3", "orders.csv")
    assert (outcome.pairs, outcome.blank) == ([(2, "A1"), (6, "A3")], 1)
    assert [(i.line, i.text, i.detail) for i in outcome.invalid] == [
        (3, "comma", "A record has as many cells as the header, 2; this one has 3."),
        (4, "", "A record has as many cells as the header, 2; this one has 1."),
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [('number\nA1\n"A2\nA3\n', 3), ('number\nA1\n"A"2\n', 3), ('number\nA1\n"' + "x\n" * 100_000, 3)],
)
def test_csv_with_a_broken_quote_is_refused(content: str, line: int) -> None:
    """A quote that is not closed would swallow the numbers after it, so the file is refused with its line."""
    assert refusal(content, "orders.csv").startswith(f"orders.csv:{line}: expected a CSV record (RFC 4180)")


def test_csv_without_a_header() -> None:
    """A list of one column may lack a header: a first row with a digit is an order number already."""
    assert read("1001\n1002\n", "orders.csv").pairs == [(1, "1001"), (2, "1002")]
    assert read("siparis\n1002\n", "orders.csv").pairs == [(2, "1002")]
    assert read("code2\n1002\n", "orders.csv", "code2").pairs == [(2, "1002")]
    assert refusal("1001,x\n1002,y\n", "orders.csv").endswith("got the columns '1001', 'x'.")


@pytest.mark.parametrize("wanted", [None, "code"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_a_missing_column_is_refused_with_those_there_are(ending: str, wanted: str | None) -> None:
    """Where no column can be chosen, the error names the columns there are, in every format."""
    contents: dict[str, bytes] = {
        ".csv": b"alpha,beta\n1,2\n",
        ".jsonl": b'{"alpha": 1, "beta": 2}\n',
        ".parquet": parquet({"alpha": pa.array([1]), "beta": pa.array([2])}),
        ".xlsx": workbook(cell("A1", "alpha") + cell("B1", "beta")),
    }
    expected = "'code'" if wanted else "of order numbers"
    what = refusal(contents[ending], f"orders{ending}", wanted)
    assert what.endswith(f": expected one column {expected}, got the columns 'alpha', 'beta'.")


@pytest.mark.parametrize(
    ("header", "wanted", "number"),
    [
        ("a,b,c", "b", "2"),
        ("a,NUMBER,c", None, "2"),
        ("number,a,Order_Number", None, "3"),
        ("number,order_number,b", "number", "1"),
        (" number ,b,c", None, "1"),
    ],
)
def test_the_column_is_chosen(header: str, wanted: str | None, number: str) -> None:
    """The column asked for wins, then `order_number`, then `number`, in any case."""
    assert read(f"{header}\n1,2,3", "orders.csv", wanted).numbers == [number]


def test_an_object_without_columns_is_refused() -> None:
    """An empty object has no column to choose."""
    assert refusal("{}", "orders.jsonl").endswith("expected one column of order numbers, got no columns.")


def test_a_column_that_is_there_twice_is_refused() -> None:
    """Two columns of the same name are not chosen between, unless they hold the same."""
    assert refusal("number,Number\n1,2", "orders.csv").endswith(" order numbers, got 'number' and 'Number'.")
    assert read("number,Number\n1,1", "orders.csv").numbers == ["1"]


def test_json_numbers_keep_their_digits() -> None:
    """Integers and exponents are kept as they are spelled, and never pass through a float."""
    content = f'{{"number": {LONG}}}\n{{"number": 1e400}}\n{LONG}\n"007"\n {{"number": "\\u015e1"}}\n-5\n0'
    assert read(content, "orders.jsonl").numbers == [LONG, "1e400", LONG, "007", "Ş1", "-5", "0"]


@given(st.lists(st.integers() | valid_numbers, min_size=1), st.booleans())
def test_json_integers_and_texts(values: list[int | str], bare: bool) -> None:
    """Integers of any size, and texts with any escape, come out as they are written, bare or in objects."""
    lines = [json.dumps(value if bare else {"other": [1.5, None], "number": value}) for value in values]
    assert read("\n".join(lines), "orders.jsonl").numbers == [str(value) for value in values]


def test_json_integers_beyond_what_python_prints() -> None:
    """An integer of 5,000 digits is an invalid line like any other that is too long."""
    (invalid,) = read(f"1\n{'7' * 5000}", "orders.jsonl").invalid
    assert (invalid.line, invalid.detail) == (2, "An order number has at most 128 characters, got 5,000.")


def test_json_values_that_are_no_order_number() -> None:
    """Fractions, flags, arrays, objects, and objects without the column are invalid; null is blank."""
    values = ["12.5", "NaN", "true", "[1]", '{"a": 1}', "null", '"\\ud800"', '"a\tb"']
    content = "\n".join(['{"number": "A1"}', *(f'{{"number": {value}}}' for value in values), '{"other": 1}'])
    outcome = read(content, "orders.jsonl")
    assert (outcome.numbers, outcome.blank) == (["A1"], 1)
    assert outcome.invalid_lines == [2, 3, 4, 5, 6, 8, 9, 10]
    assert outcome.invalid[-1].detail == "The object has no 'number'."
    assert outcome.invalid[2].detail == "An order number is a text or an integer, got true or false."
    for invalid in outcome.invalid:
        invalid.text.encode()


@pytest.mark.parametrize(
    "line", ["{", '{"number": "A2"', "A2", "[1]", "true", '"A2" "A3"', "007", "[" * 100_000]
)
def test_lines_that_are_not_json_are_refused(line: str) -> None:
    """A line that is no JSON object, text or number is refused with its place: the file may be cut."""
    what = refusal(f'{{"number": "A1"}}\n{line}\n', "orders.jsonl")
    assert what.startswith("orders.jsonl:2: expected one JSON object, text or number, got ")
    assert len(what) < 120


def test_a_lone_surrogate_elsewhere_in_an_object_does_no_harm() -> None:
    """Another column may hold what JSON allows and UTF-8 does not."""
    assert read('{"note": "\\ud800", "number": "A1"}', "orders.jsonl").numbers == ["A1"]


@pytest.mark.parametrize("column", ['a "b"', "a\\b", "\x01", "Şehir no", "a.b"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_columns_of_any_name(ending: str, column: str) -> None:
    """A column may be called anything that its format can write."""
    rows = io.StringIO()
    csv.writer(rows).writerows([["x", column], ["1", "A1"], ["1", "A2"]])
    contents: dict[str, bytes] = {
        ".csv": rows.getvalue().encode(),
        ".jsonl": b"\n".join(json.dumps({"x": 1, column: number}).encode() for number in ("A1", "A2")),
        ".parquet": parquet({"x": pa.array([1, 1]), column: pa.array(["A1", "A2"])}),
    }
    assert read(contents[ending], f"orders{ending}", column).numbers == ["A1", "A2"]


def test_rejects_of_an_earlier_run_are_input() -> None:
    """`rejects.jsonl` is read again, and what was no order number is none again."""
    rejects = [
        {"order_number": "404", "line": 3, "reason": "not_found", "http_status": 404, "detail": "gone"},
        {
            "order_number": "a b",
            "line": 9,
            "reason": "invalid_order_number",
            "http_status": None,
            "detail": "x",
        },
    ]
    outcome = read("\n".join(map(json.dumps, rejects)) + "\n", "OUT/rejects.jsonl")
    assert (outcome.pairs, outcome.invalid_lines, outcome.lines) == ([(1, "404")], [2], 2)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["007", None, "9"]),
        pa.array(["007", None, "9"], pa.large_string()),
        pa.array(["007", None, "9"], pa.string_view()),
        pa.array(["007", None, "9"]).dictionary_encode(),
    ],
)
def test_parquet_texts(column: pa.Array) -> None:
    """Every kind of text column is read, null is blank, and a row's line is its number from 1."""
    outcome = read(parquet({"Number": column, "x": pa.array([1, 2, 3])}), "orders.parquet")
    assert (outcome.pairs, outcome.blank) == ([(1, "007"), (3, "9")], 1)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([9007199254740993, 12]),
        pa.array([9007199254740993, 12], pa.uint64()),
        pa.array([9007199254740993, 12]).cast(pa.decimal128(38, 0)),
        pa.array([9007199254740993, 12]).dictionary_encode(),
    ],
)
def test_parquet_integers(column: pa.Array) -> None:
    """Integers, and decimals without a fraction, are read digit by digit."""
    assert read(parquet({"number": column}), "orders.parquet").numbers == ["9007199254740993", "12"]


@pytest.mark.parametrize(
    "column",
    [pa.array([1.0, 12.0]), pa.array([100, 1200]).cast(pa.decimal128(30, 2)), pa.array([b"1", b"12"])],
)
def test_parquet_columns_that_are_whole_are_read(column: pa.Array) -> None:
    """Fractions that are all whole, and bytes that are text, leave one reading only."""
    assert len(read(parquet({"number": column}), "orders.parquet").numbers) == 2


@pytest.mark.parametrize("column", [pa.array([1.5]), pa.array([True]), pa.array([1e16]), pa.array([b"\xff"])])
def test_parquet_columns_that_are_not_exact_are_refused(column: pa.Array) -> None:
    """A column of fractions or of anything else but text and integers is refused."""
    assert refusal(parquet({"number": column}), "orders.parquet").startswith("orders.parquet: expected ")


def test_parquet_rows_are_counted_over_batches() -> None:
    """Rows go on being counted over batches and row groups, packed too."""
    numbers = [str(i) for i in range(50_000)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"number": numbers}), buffer, row_group_size=20_000)
    for name, content in (("o.parquet", buffer.getvalue()), ("o.parquet.gz", gzipped(buffer.getvalue()))):
        assert read(content, name).pairs == list(enumerate(numbers, 1))


def test_workbook_cells_are_exact_or_invalid() -> None:
    """Texts stay, whole numbers up to 15 digits too; what a spreadsheet rounds or dates is invalid."""
    outcome = read(
        workbook(
            cell("B3", "number"),
            cell("B4", "00123"),
            cell("B5", LONG),
            cell("B6", "12345.0", "s='0'"),
            cell("B7", 999999999999999),
            cell("B9", 1.5),
            cell("B10", 1, "t='b'"),
            cell("B11", "2026-11-23T00:00:00", "t='d'"),
        ),
        "orders.xlsx",
    )
    assert outcome.pairs == [(4, "00123"), (5, LONG), (6, "12345"), (7, "999999999999999")]
    assert outcome.invalid_lines == [9, 10, 11]
    assert outcome.blank == 3
    assert all("Format the column as text" in invalid.detail for invalid in outcome.invalid)


@pytest.mark.parametrize("number", [1000000000000000, 12345678901234567, "1e400"])
def test_workbook_numbers_of_more_than_15_digits_are_refused(number: int | str) -> None:
    """A spreadsheet rounds longer numbers, and nobody can know which they were."""
    content = workbook(cell("A1", "number"), cell("A2", number, "t='n'"))
    assert refusal(content, "orders.xlsx").startswith("orders.xlsx")


def test_workbook_without_a_header() -> None:
    """A sheet with one column of numbers needs no header."""
    assert read(workbook(cell("A1", 1001), cell("A2", 1002)), "o.xlsx").pairs == [(1, "1001"), (2, "1002")]


def test_workbook_sheets_that_are_hidden_are_passed_over() -> None:
    """The first sheet that people can see is read."""
    content = workbook(cell("A1", "number"), cell("A2", "A1"), hidden_first=True)
    assert read(content, "orders.xlsx").numbers == ["A1"]


def test_workbook_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says how to install it, and exits as a usage error."""
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(UsageError) as caught:
        read(workbook(cell("A1", "A1")), "orders.xlsx")
    assert caught.value.hint == "In the clone that you installed from, run: pip install '.[xlsx]'"
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize("name", ["orders.parquet", "orders.xlsx"])
def test_what_is_cut_is_refused(name: str) -> None:
    """A file that is cut is refused in one sentence, and its ending does not matter."""
    assert read(b"A1\nA2\n", name).numbers == ["A1", "A2"]
    what = refusal(parquet({"number": pa.array(["A1"])})[:-9], name)
    assert what.startswith(f"{name}: expected a")
    assert "\n" not in what
    assert what.endswith(".")


@pytest.mark.parametrize(
    "content",
    [
        gzipped(b"A1\nA2\n")[:-3],
        gzipped(b"A1\nA2\n")[:12],
        gzipped(b"A1\n" * 100)[:-8] + bytes(8),
        gzipped(b"A1\n")[:10] + b"\xff" * 20,
        gzipped(b"A1\n") + b"rest",
    ],
)
@pytest.mark.parametrize("ending", [".txt", ".csv", ".jsonl"])
def test_a_broken_gz_is_refused(ending: str, content: bytes) -> None:
    """A .gz that is cut, damaged or followed by something is refused."""
    assert read(b"1\n2\n", f"o{ending}.gz").numbers == ["1", "2"]
    assert refusal(content, f"o{ending}.gz").startswith(f"o{ending}.gz: expected complete gzip data, got ")


def test_a_gz_of_many_members_is_one_text() -> None:
    """Packed files that were put one behind the other are read to the end."""
    assert read(gzipped(b"A1\n") + gzipped(b"A2\n"), "o.txt.gz").numbers == ["A1", "A2"]


def test_a_failing_disk_is_unreadable_input() -> None:
    """A read error is told in one sentence."""

    class Failing(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants Buffer
            raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match=r"o\.txt: expected a file that can be read, got \[Errno 5\]"):
        list(lists.read(cast("BinaryIO", Failing()), name="o.txt"))
