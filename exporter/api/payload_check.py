"""Tell, cheaply and without Arrow, whether an answer's body is the order that was asked for.

What passes here is JSON that `flatten` can take: valid UTF-8, valid syntax, an object that carries the
right `number`, nested no deeper than this Python can follow (about 1,000; RFC 8259 lets a parser set a limit). No error text quotes the body, which holds personal data.
"""

import codecs
import json

import msgspec

from exporter.model.errors import BadResponseError, PermanentError
from exporter.model.options import MAX_ITEMS

_OK = 200
_DECODED_AT_ONCE = 1024 * 1024
# Values that an order may hold beside its items, and for each item: documented are 100 and 28.
_FEWEST_VALUES = 10_000
_VALUES_PER_ITEM = 50
_TOO_DEEP = "JSON that is nested too deep"


class _Head(msgspec.Struct, gc=False):
    number: str | int
    status: str | int | None = None


class _Items(msgspec.Struct, gc=False):
    orderitem_set: list[msgspec.Raw] | None = None


_decode_items = msgspec.json.Decoder(_Items).decode
_decode_head = msgspec.json.Decoder(_Head).decode


def check(payload: bytes, order_number: str, max_items: int = MAX_ITEMS) -> str | None:
    """Check that a payload, decompressed, is the order asked for; return its status, None where it is no scalar.

    One with more than `max_items` items is none, nor is one with fifty times as many values.

    Raises:
        BadResponseError: The body is HTML, or cut or broken JSON; it may be whole next time.
        PermanentError: With the reason `bad_response`: not an object, an object without an order number
            or with another one, nested too deep, or of more than flattening has memory for.

    >>> check(b'{"number": "A1", "status": "400"}', "A1")
    '400'
    """
    # A value takes a byte at least; too many would take far more memory than their bytes, once they are made.
    if len(payload) > max_items and (separators := payload.count(b",")) >= max_items:
        values = separators + payload.count(b"[") + payload.count(b"{")
        if values > _FEWEST_VALUES + _VALUES_PER_ITEM * max_items or _items(payload) > max_items:
            raise _refusal(f"an order of more than {max_items} items, or as long")
    number, status = _head(payload)
    if number is None:
        raise _refusal("an object without an order number")
    if number != order_number:
        raise _refusal("another order's number")
    return status


def _items(payload: bytes) -> int:
    try:
        return len(_decode_items(payload).orderitem_set or ())
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        items = json.loads(payload)["orderitem_set"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0  # no order: `_head` tells
    return len(items) if isinstance(items, list) else 0


def _head(payload: bytes) -> tuple[str | None, str | None]:
    try:
        # msgspec does not look at what it skips.
        if len(payload) <= _DECODED_AT_ONCE:
            payload.decode()
        else:
            _decode_in_parts(payload)
        head = _decode_head(payload)
    except UnicodeDecodeError:
        raise BadResponseError("The API answered with something that is not UTF-8.", _OK) from None
    except RecursionError:
        raise _refusal(_TOO_DEEP) from None
    except msgspec.DecodeError:
        return _head_of_odd(payload.decode())
    return str(head.number), head.status if head.status is None else str(head.status)


def _decode_in_parts(payload: bytes) -> None:
    # One character beyond 16 bits makes Python hold 4 bytes for each of a text's characters.
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(payload), _DECODED_AT_ONCE):
        decoder.decode(payload[start : start + _DECODED_AT_ONCE])
    decoder.decode(b"", final=True)


def _head_of_odd(text: str) -> tuple[str | None, str | None]:
    """Read what msgspec refuses: broken JSON, another type than an object, an odd number or status, lone surrogates."""
    try:
        value = json.loads(text, parse_int=str, parse_float=str, parse_constant=int)  # refuses NaN, Infinity
    except RecursionError:
        raise _refusal(_TOO_DEEP) from None
    except ValueError:
        raise BadResponseError("The API answered with HTML, or with truncated or broken JSON.", _OK) from None
    if not isinstance(value, dict):
        raise _refusal("JSON that is not an object")
    return _writable(value.get("number")), _writable(value.get("status"))


def _writable(value: object) -> str | None:
    """Pass on text that has a UTF-8 form; a lone surrogate has none."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() or value.encode(errors="replace").decode() == value else None


def _refusal(what: str) -> PermanentError:
    return PermanentError("bad_response", f"The API answered with {what}.", _OK)
