"""An answer's body is told apart from everything that only looks like the order asked for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.api.payload_check import check
from exporter.dataset.flatten import Flattener
from exporter.model.errors import BadResponseError, PermanentError
from tests.support.thorough import examples
from tests.support.wild_json import SAMPLE, Members, Number, payload_texts, render, tree

pytestmark = pytest.mark.fast

_NUMBER = "bf7b66149236455"


def test_the_order_asked_for_passes_with_its_status() -> None:
    """The documented example passes, and tells its status."""
    assert check(SAMPLE, _NUMBER) == "400"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"number": "A1", "status": 400}', "400"),
        ('{"number": "A1", "status": {"value": 400, "label": "approved"}}', None),
        ('{"number": "A1", "status": null}', None),
        ('{"number": "A1"}', None),
        ('{"number": "A1", "status": "\\ud800"}', None),
        ('{"number": "A1", "status": "400", "note": "\\ud800"}', "400"),
        ('{"number": "B2", "status": "1", "number": "A1", "status": "2"}', "2"),
        ('{"\\u006eumber": "\\u0041\\u0031", "status": "2"}', "2"),
        (' \n{"number": "A1", "status": "Ödendi"}\t', "Ödendi"),
    ],
)
def test_statuses_are_told_as_text(body: str, status: str | None) -> None:
    """A status is text or a number as text; anything else is no status, and no failure."""
    assert check(body.encode(), "A1") == status


@pytest.mark.parametrize("number", ["27", "123456789012345678901234567890"])
def test_a_number_may_come_as_a_json_integer(number: str) -> None:
    """The documentation says integer: its decimal text is compared."""
    assert check(f'{{"number": {number}}}'.encode(), number) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html><body>secret</body></html>",
        b'{"number": "A1"',
        b'{"number": "A1"} trailing secret',
        b'{"number": "A1", "a": secret}',
        b'{"number": "A1", "a": NaN}',
        b'{"number": "A1", "a": 01}',
        b'{"number": "A1", "a": "\\q"}',
        b'{"number": "A1", "a": "\x01"}',
        b'{"number": "A1", "a": "\xff secret"}',
        b'{"number": "A1", "\xed\xa0\x80": 1}',
        b'[{"number": "A1"',
        b'"secret',
        SAMPLE[:-5],
        SAMPLE.decode().encode("utf-16"),
    ],
)
def test_broken_bodies_may_be_whole_next_time(body: bytes) -> None:
    """HTML, cut or broken JSON is worth another attempt, and the text quotes none of it."""
    with pytest.raises(BadResponseError) as caught:
        check(body, "A1")
    assert "secret" not in str(caught.value)
    assert caught.value.http_status == 200


@pytest.mark.parametrize(
    "body",
    [
        '{"number": "secret"}',
        '{"number": 27.0}',
        '{"number": null}',
        '{"number": ["A1"]}',
        '{"detail": "secret"}',
        "{}",
        '["A1"]',
        '"A1"',
        "null",
        "27",
        '{"number": "A1", "a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"number": "A1", "a": ' + '{"":' * 100_000 + "1" + "}" * 100_000 + "}",
        "[" * 100_000 + "]" * 100_000,
    ],
)
def test_whole_bodies_that_are_not_the_order_are_never_asked_for_again(body: str) -> None:
    """Another order, no order, no object, or nesting beyond reason is `bad_response` at once."""
    with pytest.raises(PermanentError) as caught:
        check(body.encode(), "A1")
    assert caught.value.reason == "bad_response"
    assert "secret" not in str(caught.value)


def test_many_brackets_are_not_depth() -> None:
    """An order with 2,000 items, and brackets inside texts, is not deep."""
    items = [{"attributes": {"a": "[[[{{{\\"}}] * 2000
    assert check(json.dumps({"number": "A1", "orderitem_set": items}).encode(), "A1") is None


def test_what_is_just_not_too_deep_can_be_flattened() -> None:
    """The deepest payload that passes is flattened, in a declared and in an undeclared place."""

    def payload(key: str, depth: int) -> bytes:
        return f'{{"number": "A1", "{key}": {"[" * depth + "]" * depth}}}'.encode()

    def passes(depth: int) -> bool:
        try:
            check(payload("extra_field", depth), "A1")
        except PermanentError:
            return False
        return True

    deepest = max(filter(passes, range(100, 2_000)))
    for key in ("extra_field", "surprise", "amount", "customer", "\\ud800"):
        orders, _ = Flattener().flatten([("A1", payload(key, deepest))])
        assert "[" * deepest in str(orders.to_pylist()[0])


@settings(max_examples=examples(150), deadline=None)
@given(payload_texts)
def test_valid_json_passes_and_flattens(text: str) -> None:
    """Whatever valid object carries the right number passes, and what passes can be flattened."""
    payload = render(Members([*tree(text), ("number", "A1")])).encode()
    check(payload, "A1")
    Flattener().flatten([("A1", payload)])


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_what_passes_after_damage_still_flattens(data: st.DataObject) -> None:
    """No damaged byte slips through the check and then breaks flattening."""
    payload = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        check(bytes(payload), _NUMBER)
    except (BadResponseError, PermanentError):
        return
    Flattener().flatten([(_NUMBER, bytes(payload))])


def test_numbers_are_compared_as_written() -> None:
    """`1e2` is not the order number 100."""
    with pytest.raises(PermanentError):
        check(render(Members([("number", Number("1e2"))])).encode(), "100")
