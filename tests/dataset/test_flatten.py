"""Payloads become typed rows, exactly; what does not fit is kept and counted."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.dataset.flatten import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA, Flattener
from exporter.dataset.flatten.irregular_orders import LEARN_AT_MOST
from exporter.model.catalog import ORDER_ITEMS, ORDERS
from tests.support.thorough import examples
from tests.support.wild_json import SAMPLE, payload_texts, texts

pytestmark = pytest.mark.fast

_ADDRESS = {
    "email": "test@test.com",
    "phone_number": "0 (198) 895-4431",
    "first_name": "TEST",
    "last_name": "TEST",
    "country_name": "Turkey",
    "country_code": "tr",
    "city_id": 71,
    "city_name": "Afyon",
    "line": "test",
    "title": "TEST",
    "township_id": 853,
    "township_name": "DİNAR",
    "district_id": 3679,
    "district_name": "İNCESU",
    "postcode": "11111",
    "e_bill_taxpayer": False,
    "extra_field": "{}",
}
_SAMPLE_ORDER = {
    "id": 27,
    "number": "bf7b66149236455",
    "status": "400",
    "date_placed": datetime(2017, 1, 30, 8, 28, 26, 158165, tzinfo=UTC),
    "customer_id": 1103,
    "customer_email": "test@test.com",
    "customer_first_name": "TEST",
    "customer_last_name": "TEST",
    **{
        f"{kind}_address_{name}": value
        for kind in ("shipping", "billing")
        for name, value in _ADDRESS.items()
    },
    "currency": "try",
    "amount": Decimal("16.4000"),
    "shipping_amount": Decimal("8.5000"),
    "extra_field": '{"cargo_line_id":"325a79ac-e251-4285-8a32-a70e0119237e"}',
    "payment_option": 2,
    "payment_option_slug": "kredi_karti",
    "bin_number": "454360",
    "installment": 22,
    "installment_count": 1,
    "installment_interest_amount": Decimal("0.0000"),
    "cargo_company": 1,
    "invoice_number": "",
    "refund_amount": Decimal("0.0000"),
    "discount_refund_amount": Decimal("0.0000"),
    "shipping_refund_amount": Decimal("0.0000"),
    "discount_amount": Decimal("0.0000"),
    "is_send": True,
    "net_shipping_amount": Decimal("8.5000"),
    "shipping_interest_amount": Decimal("0.0000"),
    "has_gift_box": False,
    "channel_name": "Shop",
    "channel_conf": '{"server":"http://localhost:8080/api/v1/"}',
}
_SAMPLE_ITEM = {
    "order_number": "bf7b66149236455",
    "item_index": 0,
    "id": 113,
    "order_id": 27,
    "product_sku": "2672881047887",
    "status": "400",
    "price_currency": "try",
    "price": Decimal("7.9000"),
    "tax_rate": Decimal("18.0000"),
    "extra_field": "{}",
    "price_list": 1,
    "stock_list": 1,
    "installment_interest_amount": Decimal("0.0000"),
    "discount_amount": Decimal("0.0000"),
    "attributes": "{}",
    "attributes_kwargs": "{}",
}


def _flatten(*payloads: object, flattener: Flattener | None = None) -> tuple[pa.Table, pa.Table]:
    batch = [(f"A{number}", _bytes(payload)) for number, payload in enumerate(payloads)]
    return (flattener or Flattener()).flatten(batch)


def _bytes(payload: object) -> bytes:
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


def _order(payload: object) -> dict[str, Any]:
    """Give the order row's values that are not null, with `_unmapped` read."""
    row = _flatten(payload)[0].to_pylist()[0]
    return _present(row)


def _present(row: dict[str, Any]) -> dict[str, Any]:
    present = {name: value for name, value in row.items() if value is not None}
    if "_unmapped" in present:
        present["_unmapped"] = json.loads(present["_unmapped"])
    return present


def test_the_documented_example_becomes_these_rows() -> None:
    """The documentation's own example gives exactly these values, and null in every other column."""
    compact = json.dumps(json.loads(SAMPLE), separators=(",", ":")).encode()
    orders, items = Flattener().flatten([("bf7b66149236455", compact)])
    nothing = dict.fromkeys(ORDERS_SCHEMA.names), dict.fromkeys(ORDER_ITEMS_SCHEMA.names)
    assert orders.to_pylist() == [nothing[0] | _SAMPLE_ORDER]
    assert items.to_pylist() == [nothing[1] | _SAMPLE_ITEM]


@pytest.mark.parametrize("payloads", [[], ["{}"], ['{"orderitem_set": []}'], [SAMPLE.decode()] * 3])
@pytest.mark.parametrize("pii", ["keep", "drop"])
def test_the_schema_is_always_the_same(payloads: list[str], pii: Any) -> None:
    """Every column is there, with its type and description, whatever the data; also in empty tables."""
    orders, items = _flatten(*payloads, flattener=Flattener(pii=pii))
    assert orders.schema.equals(ORDERS_SCHEMA, check_metadata=True)
    assert items.schema.equals(ORDER_ITEMS_SCHEMA, check_metadata=True)
    assert len(orders) == len(payloads)
    orders.validate(full=True)
    items.validate(full=True)


def test_types_and_descriptions_of_the_schema() -> None:
    """Arrow types are the contract's, and each field carries its meaning and its path."""
    assert ORDERS_SCHEMA.field("amount").type == pa.decimal128(20, 4)
    assert ORDERS_SCHEMA.field("date_placed").type == pa.timestamp("us", "UTC")
    assert ORDERS_SCHEMA.field("id").type == pa.int64()
    assert ORDERS_SCHEMA.field("is_send").type == pa.bool_()
    assert ORDERS_SCHEMA.field("number").type == pa.string()
    assert ORDERS_SCHEMA.field("_unmapped").type == pa.string()
    for schema, columns in ((ORDERS_SCHEMA, ORDERS), (ORDER_ITEMS_SCHEMA, ORDER_ITEMS)):
        assert [field.metadata[b"description"].decode() for field in schema] == [c.meaning for c in columns]
        assert [field.metadata[b"path"].decode() for field in schema] == [".".join(c.path) for c in columns]


@pytest.mark.parametrize(
    ("json_value", "amount"),
    [
        ('"16.40"', "16.40"),
        ("16.4", "16.4"),
        ("16", "16"),
        ("-0.0001", "-0.0001"),
        ("1e2", "100"),
        ('"1.5E-3"', "0.0015"),
        ("1.50000000", "1.5"),
        ("9999999999999999.9999", "9999999999999999.9999"),
        ("12345678901234.5678", "12345678901234.5678"),
    ],
)
def test_amounts_are_exact(json_value: str, amount: str) -> None:
    """Strings and JSON numbers become decimals, to the last digit."""
    assert _order(f'{{"amount": {json_value}}}') == {"amount": Decimal(amount)}


@pytest.mark.parametrize(
    "value",
    [
        *("0.00001", "10000000000000000", "1e16", "1e400", "1e99999999999999999999"),
        *('""', '" 1"', '"1 "', '"1_0"', '"+5"', '".5"', '"5."', '"007"', '"NaN"', '"Infinity"', '"0x1"'),
        *('"١"', '"16,40"', '"16.40 TL"', "true", "{}", "[]", "[1]"),
        *(f"1{'0' * 60}", f'"1.{"0" * 60}"', f'"{"0" * 60}1"'),
        *(f"1.{'0' * zeros}" for zeros in range(37, 45)),  # Arrow alone makes 0 of the last ones
    ],
)
def test_amounts_that_do_not_fit_are_kept_as_they_came(value: str) -> None:
    """Digits beyond the column, and text that is no JSON number, stand in `_unmapped`, never rounded."""
    orders, _ = _flatten(f'{{"amount": {value}}}')
    row = orders.to_pylist()[0]
    assert row["amount"] is None
    assert row["_unmapped"] == f'{{"amount":{value}}}'


@settings(max_examples=examples(300), deadline=None)
@given(
    st.from_regex(r"-?(0|[1-9]\d{0,18})(\.\d{1,8}0{0,4})?([eE][+-]?\d{1,2})?", fullmatch=True).filter(
        str.isascii
    )
)
def test_an_amount_is_exact_or_unmapped(text: str) -> None:
    """As a string or as a number: the decimal is equal to what was sent, or the column is null."""
    as_number, as_text = _order(f'{{"amount": {text}}}'), _order(f'{{"amount": "{text}"}}')
    assert as_number.get("amount") == as_text.get("amount")
    if "amount" in as_number:
        assert as_number["amount"] == Decimal(text)
    else:
        assert as_text["_unmapped"] == {"amount": text}
    small = abs(Decimal(text)) < 10**16 and Decimal(text) == round(Decimal(text), 4)
    if small and not re.search("[eE]", text) and len(text) < 38:
        assert "amount" in as_number


@settings(max_examples=examples(200), deadline=None)
@given(texts)
def test_no_other_text_becomes_an_amount(text: str) -> None:
    """Only JSON's own number grammar is taken for a number."""
    try:
        number = isinstance(json.loads(text, parse_constant=str), int | float) and text.strip() == text
    except ValueError:
        number = False
    if not number or text in {"true", "false"}:
        assert _order({"amount": text}) == {"_unmapped": {"amount": text}}


def test_a_number_of_5000_digits_is_kept() -> None:
    """Python refuses to turn so many digits into an int; nothing here tries."""
    digits = "9" * 5000
    row = _flatten(f'{{"id": {digits}, "amount": {digits}, "status": {digits}}}')[0].to_pylist()[0]
    assert (row["id"], row["amount"], row["status"]) == (None, None, digits)
    assert row["_unmapped"] == f'{{"amount":{digits},"id":{digits}}}'


@pytest.mark.parametrize("value", ["27", '"27"', "-0", "0", str(2**63 - 1), str(-(2**63)), f'"{2**63 - 1}"'])
def test_ids_come_as_numbers_or_digits(value: str) -> None:
    """An id is an integer, also where it comes as its plain digits."""
    number = int(value.strip('"'))
    assert _order(f'{{"id": {value}}}') == {"id": number}
    assert _order(f'{{"id": {value}, "status": 400}}') == {"id": number, "status": "400"}


@pytest.mark.parametrize(
    "value", [str(2**63), str(-(2**63) - 1), "1.0", "1e3", '"007"', '"-0"', '" 27"', '"1_0"', '""', "true"]
)
def test_what_is_no_int64_is_kept(value: str) -> None:
    """Integers beyond int64, fractions and loose digits are kept as they came."""
    row = _flatten(f'{{"id": {value}}}')[0].to_pylist()[0]
    assert (row["id"], row["_unmapped"]) == (None, f'{{"id":{value}}}')


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2017-01-30T08:28:26.158165Z", datetime(2017, 1, 30, 8, 28, 26, 158165, tzinfo=UTC)),
        ("2017-01-30T08:28:26Z", datetime(2017, 1, 30, 8, 28, 26, tzinfo=UTC)),
        ("2017-01-30T08:28:26.5+03:00", datetime(2017, 1, 30, 5, 28, 26, 500000, tzinfo=UTC)),
        ("2017-01-30 08:28-0330", datetime(2017, 1, 30, 11, 58, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_times_with_an_offset_are_instants(text: str, moment: datetime) -> None:
    """A time with `Z` or an offset becomes its instant, to the microsecond."""
    assert _order({"date_placed": text}) == {"date_placed": moment}


@pytest.mark.parametrize(
    "value",
    [
        "2017-01-30T08:28:26",
        "2017-01-30",
        "2017-02-30T08:28:26Z",
        "2017-01-30T08:28:60Z",
        "2017-01-30T24:00:00Z",
        "2017-01-30T08:28:26.1234567Z",
        "2017-01-30T08:28:26+25:00",
        "0000-06-01T00:00:00Z",
        "0001-01-01T00:00:00+03:00",
        "9999-12-31T23:59:59-05:00",
        "30.01.2017",
        "",
        " 2017-01-30T08:28:26Z",
        1485764906,
        {"date": "2017-01-30"},
    ],
)
def test_no_time_is_guessed(value: object) -> None:
    """A time without offset, an impossible date, or one that Python cannot hold, is kept as it came."""
    assert _order({"date_placed": value, "invoice_date": value}) == {
        "_unmapped": {"date_placed": value, "invoice_date": value}
    }


def test_every_misfit_of_a_batch_is_kept() -> None:
    """Bad grammar, impossible dates and times beyond Python's, side by side, each under its own path."""
    payloads: list[dict[str, Any]] = [
        {"date_placed": "x", "invoice_date": "2017-02-30T08:28:26Z"},
        {"date_placed": "0000-01-01T00:00:00Z", "amount": "99999999999999999", "refund_amount": "y"},
        {"date_placed": "2017-01-30T08:28:26Z", "amount": "1"},
    ]
    rows = [_present(row) for row in _flatten(*payloads)[0].to_pylist()]
    assert [row.get("_unmapped") for row in rows] == [*payloads[:2], None]


def test_an_order_is_spelled_alike_by_every_way_through() -> None:
    """Escapes and signs of what does not fit are spelled the same, whether an order is odd, plain or learned."""
    misfits = '"amount": "\\u0041\\u00e7/", "customer": "\\u0041", "id": "\\u0041", "channel": -0'
    flattener = Flattener()
    for payload in (f"{{{misfits}}}", f'{{{misfits}, "segment": "\\u0041"}}'):
        for _ in range(6):
            row = _flatten(payload, flattener=flattener)[0].to_pylist()[0]
            assert row["_unmapped"].startswith('{"amount":"Aç/","channel":-0,"customer":"A","id":"A"')


def test_texts_take_numbers_and_nothing_else() -> None:
    """A code that comes as a number keeps its digits; flags and objects are no text."""
    assert _order('{"status": 400, "bin_number": 0.10}') == {"status": "400", "bin_number": "0.10"}
    assert _order({"status": True, "number": {"a": 1}}) == {"_unmapped": {"status": True, "number": {"a": 1}}}


def test_texts_keep_every_letter() -> None:
    """Empty text and emoji stay; NUL, which databases refuse, and a lone surrogate stay as their escapes."""
    text = '{"customer": {"email": "\\u0000", "first_name": "", "last_name": "😀\\ud800"}}'
    row = _flatten(text)[0].to_pylist()[0]
    assert (row["customer_email"], row["customer_first_name"], row["customer_last_name"]) == (None, "", None)
    assert row["_unmapped"] == '{"customer.email":"\\u0000","customer.last_name":"😀\\ud800"}'


def test_flags_are_true_or_false() -> None:
    """`"true"`, 0 and 1 are not flags."""
    assert _order({"is_send": True, "has_gift_box": False}) == {"is_send": True, "has_gift_box": False}
    assert _order({"is_send": "true", "has_gift_box": 1}) == {
        "_unmapped": {"is_send": "true", "has_gift_box": 1}
    }


def test_free_form_json_is_kept_as_it_is_written() -> None:
    """Objects and arrays keep their text, down to numbers and duplicate keys; scalars go to `_unmapped`."""
    row = _flatten('{"extra_field": {"a": 1.50, "a": [ ]}, "channel": {"conf": 5}}')[0].to_pylist()[0]
    assert row["extra_field"] == '{"a": 1.50, "a": [ ]}'
    assert (row["channel_conf"], row["_unmapped"]) == (None, '{"channel.conf":5}')


def test_what_stands_where_an_object_belongs_is_kept() -> None:
    """A bare id, a name or a list in place of an object stands under the object's path."""
    strays = {"customer": 5, "channel": "Shop", "billing_address": [1], "shipping_address": {"city": 0.5}}
    assert _order(strays)["_unmapped"] == {
        "customer": 5,
        "channel": "Shop",
        "billing_address": [1],
        "shipping_address.city": 0.5,
    }


def test_undeclared_keys_stand_at_the_shallowest_path() -> None:
    """A key that nobody declared keeps its whole value under its path, dots and empty keys escaped."""
    payload = {"segment": {"a": [1]}, "customer": {"a.b": None, "": 1, "a\\b": 2}, "": 3}
    assert _order(payload)["_unmapped"] == {
        "segment": {"a": [1]},
        "customer.a\\.b": None,
        "customer.\\e": 1,
        "customer.a\\\\b": 2,
        "\\e": 3,
    }


def test_items_are_rows_in_order_whatever_they_are() -> None:
    """Every entry is a row with the order's number and its place; paths are relative to the item."""
    _, items = _flatten(
        {"orderitem_set": [{"id": 1, "pk": 2}, None, 7]}, {}, {"orderitem_set": [{"id": "3"}]}
    )
    assert [_present(row) for row in items.to_pylist()] == [
        {"order_number": "A0", "item_index": 0, "id": 1, "_unmapped": {"pk": 2}},
        {"order_number": "A0", "item_index": 1, "_unmapped": {"": None}},
        {"order_number": "A0", "item_index": 2, "_unmapped": {"": 7}},
        {"order_number": "A2", "item_index": 0, "id": 3},
    ]


@pytest.mark.parametrize("value", [5, "x", {"id": 1}, True])
def test_items_that_are_no_list_are_kept(value: object) -> None:
    """`orderitem_set` that is no list stands in the order's `_unmapped`; there are no item rows."""
    orders, items = _flatten({"orderitem_set": value})
    assert json.loads(orders.to_pylist()[0]["_unmapped"]) == {"orderitem_set": value}
    assert len(items) == 0


def test_the_last_of_a_duplicate_key_wins() -> None:
    """As in JSON parsers, whatever the first one was."""
    text = '{"id": "x", "id": 5, "customer": {"id": 1}, "customer": {"email": "a"}, "foo": 1, "foo": 2}'
    assert _order(text) == {"id": 5, "customer_email": "a", "_unmapped": {"foo": 2}}


def test_drift_counts_undeclared_keys_and_misfits_apart() -> None:
    """Each path is counted once for each value; item paths begin with `orderitem_set[]`."""
    flattener = Flattener()
    odd = {"segment": 1, "amount": "x", "customer": 5, "orderitem_set": [{"pk": 1, "id": "x"}, 5, {"pk": 2}]}
    _flatten(odd, {}, odd, flattener=flattener)
    assert flattener.drift.unmapped_paths == {"segment": 2, "orderitem_set[].pk": 4}
    assert flattener.drift.uncoerced == {
        "amount": 2,
        "customer": 2,
        "orderitem_set[].id": 2,
        "orderitem_set[]": 2,
    }


def test_drift_is_bounded_and_printable() -> None:
    """Keys made of ids cannot fill memory, and every counted path can be written to the manifest."""
    flattener = Flattener()
    _flatten('{"\\ud800": 1}', *({f"key{number}": 1} for number in range(1200)), flattener=flattener)
    counts = flattener.drift.unmapped_paths
    assert sum(counts.values()) == 1201
    assert len(counts) == 1001
    json.dumps(counts, ensure_ascii=False).encode()


def test_what_keeps_coming_stops_being_odd() -> None:
    """After a batch with undeclared keys and odd types, the typed decoder takes such orders."""
    flattener = Flattener()
    odd = {
        "segment": 1,
        "amount": 16.4,
        "orderitem_set": [{"parent": None, "price": 5}],
        "customer": {"vip": True},
    }
    before = _flatten(odd, flattener=flattener)
    _flatten(*[odd] * 10, flattener=flattener)
    flattener._learner.shape.decode(_bytes(odd))
    assert [table.to_pylist() for table in _flatten(odd, flattener=flattener)] == [
        t.to_pylist() for t in before
    ]


def test_learning_is_bounded() -> None:
    """Keys made of ids neither grow the decoder without end nor change a row."""
    flattener = Flattener()
    once = [{f"id{number}": number} for number in range(3000)]
    often = [{f"key{number}": number} for number in range(300)] * 4
    for payloads in (once, often, often):
        orders, _ = _flatten(*payloads, flattener=flattener)
        assert [json.loads(text) for text in orders["_unmapped"].to_pylist()] == payloads
    assert len(flattener._learner.shape.order.unknowns) == LEARN_AT_MOST


@pytest.mark.parametrize("number", [8, 9])
@pytest.mark.parametrize(
    "odd", ['{"amount": "x", "foo": 1}', '{"amount": "2017-13-01"}', '{"id": "x"}', "{}"]
)
def test_one_odd_order_changes_no_neighbour(number: int, odd: str) -> None:
    """The rows around an odd order are those of a batch without it."""
    plain = [
        '{"id": 1, "amount": "1.50", "date_placed": "2017-01-30T08:28:26Z", "orderitem_set": [{"id": 2}]}'
    ] * 16
    orders, items = _flatten(*plain[:number], odd, *plain[number:])
    rows = orders.to_pylist()
    del rows[number]
    assert rows == _flatten(*plain)[0].to_pylist()
    assert [row["id"] for row in items.to_pylist()] == [2] * 16


_KEY = b"k" * 32


def test_drop_leaves_personal_columns_null() -> None:
    """`drop` leaves personal columns, free-form JSON and `_unmapped` null, and everything else as it was."""
    kept, dropped = (_flatten(SAMPLE.decode(), flattener=Flattener(pii=pii))[0] for pii in ("keep", "drop"))
    hidden = {column.name for column in ORDERS if column.personal or column.kind.value == "json"}
    for name in kept.column_names:
        expected = [None] if name in hidden else kept[name].to_pylist()
        assert dropped[name].to_pylist() == expected


def test_hash_is_hmac_sha256_of_the_text() -> None:
    """`hash` gives the same hash for the same value in any column, also where it came as a number."""
    payload = (
        '{"customer": {"email": "a@b"}, "billing_address": {"email": "a@b"}, "bin_number": 454360, "x": 1}'
    )
    flattener = Flattener(pii="hash", pii_key=_KEY)
    row = _flatten(payload, flattener=flattener)[0].to_pylist()[0]
    digest = hmac.new(_KEY, b"a@b", hashlib.sha256).hexdigest()
    assert row["customer_email"] == row["billing_address_email"] == digest
    assert row["bin_number"] == hmac.new(_KEY, b"454360", hashlib.sha256).hexdigest()
    assert row["_unmapped"] is None
    assert row["customer_first_name"] is None
    assert flattener.drift.unmapped_paths == {"*": 1}


@settings(max_examples=examples(60), deadline=None)
@given(payload_texts)
def test_hiding_never_fails(text: str) -> None:
    """Whatever comes, hidden tables have no free-form text left, and as much is counted as drift."""
    plain, hidden = Flattener(), Flattener(pii="hash", pii_key=_KEY)
    _flatten(text, flattener=plain)
    for table in _flatten(text, flattener=hidden):
        assert table["_unmapped"].null_count == len(table)
        assert table["extra_field"].null_count == len(table)
    assert hidden.drift.uncoerced == plain.drift.uncoerced
    assert hidden.drift.unmapped_paths.total() == plain.drift.unmapped_paths.total()


def test_hash_needs_a_key() -> None:
    """A missing key is refused at once, not after an hour of fetching."""
    with pytest.raises(ValueError, match="pii_key"):
        Flattener(pii="hash")
