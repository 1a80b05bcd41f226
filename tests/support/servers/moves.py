"""What a faulty server can do to a request: behaviours, each a function of order number and count."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain, repeat

from exporter.demo.orders import order_payload

LOGIN = "/api/i1/auth/login/"
MIB = 1024 * 1024


class End(Enum):
    """How a connection ends."""

    CLOSE = "the server hangs up"
    RESET = "the server resets the connection"
    STALL = "nothing more comes until the client hangs up"


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait in the middle of an answer."""

    seconds: float


Step = bytes | Pause | End
Behaviour = Callable[[str, int], Iterable[Step]]
"""Gets the order number (for other requests, the target) and its nth request, from 1."""


def head(status: int = 200, headers: Mapping[str, str] | None = None, length: int | None = None) -> bytes:
    """Write a status line and headers; without a length the body is chunked."""
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    fields = {"Content-Type": "application/json", **framing, **(headers or {})}
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def order_body(number: str) -> bytes:
    return json.dumps(order_payload(number), ensure_ascii=False, separators=(",", ":")).encode()


def answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """A whole answer; the connection goes on."""
    return lambda _number, _nth: (head(status, headers, len(body)) + body,)


def good(number: str, nth: int) -> Iterable[Step]:
    """The order asked for; a login gets `token-1`, then `token-2`, and so on; the order list names one order."""
    if number == LOGIN:
        return answer(json.dumps({"key": f"token-{nth}"}).encode())(number, nth)
    if number.startswith("/api/i1/orders/?"):
        return answer(b'{"count": 1, "next": null, "results": [{"number": "listed"}]}')(number, nth)
    if number.startswith("/"):
        return status(404)(number, nth)
    return answer(order_body(number))(number, nth)


def bare(number: str, nth: int) -> Iterable[Step]:
    """An order of nothing but its number: cheap, for tests that count requests in time."""
    return answer(json.dumps({"number": number}).encode())(number, nth)


def status(code: int, headers: Mapping[str, str] | None = None) -> Behaviour:
    """A refusal in the API's own form."""
    return answer(b'{"detail": "Told to."}', code, headers)


def throttled(retry_after: str | None = None) -> Behaviour:
    """A 429; `retry_after` is the header's text, None leaves it out."""
    body = b'{"detail": "Request was throttled. Expected available in 1 second."}'
    return answer(body, 429, None if retry_after is None else {"Retry-After": retry_after})


def redirect(location: str, code: int = 301) -> Behaviour:
    return answer(b"", code, {"Location": location})


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first request of a number meets the first one, and so on; the last one stays."""
    return lambda number, nth: behaviours[min(nth, len(behaviours)) - 1](number, nth)


def by_number(behaviours: Mapping[str, Behaviour], otherwise: Behaviour = good) -> Behaviour:
    return lambda number, nth: behaviours.get(number, otherwise)(number, nth)


# ---- connections that break


def end(how: End) -> Behaviour:
    """No answer at all."""
    return lambda _number, _nth: (how,)


def cut_headers(how: End = End.CLOSE) -> Behaviour:
    return lambda number, _nth: (head(length=len(order_body(number)))[:40], how)


def cut_body(how: End = End.CLOSE, share: float = 0.5) -> Behaviour:
    """The whole body is promised, a share of it is sent."""

    def steps(number: str, _nth: int) -> Iterable[Step]:
        body = order_body(number)
        return head(length=len(body)) + body[: int(len(body) * share)], how

    return steps


def cut_chunked(how: End = End.CLOSE) -> Behaviour:
    """The body comes whole, but its last chunk does not."""
    return lambda number, _nth: (head() + chunk(order_body(number)), how)


def close_after(behaviour: Behaviour) -> Behaviour:
    """The answer does not say so, but the connection ends with it."""
    return lambda number, nth: chain(behaviour(number, nth), [End.CLOSE])


def late(seconds: float, behaviour: Behaviour = good) -> Behaviour:
    return lambda number, nth: chain([Pause(seconds)], behaviour(number, nth))


def drip(delay_s: float, behaviour: Behaviour = good) -> Behaviour:
    """The answer byte by byte."""

    def steps(number: str, nth: int) -> Iterator[Step]:
        for step in behaviour(number, nth):
            if isinstance(step, bytes):
                for position in range(len(step)):
                    yield step[position : position + 1]
                    yield Pause(delay_s)
            else:
                yield step

    return steps


# ---- lies


def another_number(number: str, nth: int) -> Iterable[Step]:
    return answer(order_body(f"not-{number}"))(number, nth)


def a_list(number: str, nth: int) -> Iterable[Step]:
    return answer(b"[%b]" % order_body(number))(number, nth)


def wrong_content_type(number: str, nth: int) -> Iterable[Step]:
    return answer(order_body(number), headers={"Content-Type": "text/plain"})(number, nth)


def html(code: int = 200) -> Behaviour:
    page = "<!doctype html><html><body><h1>Bakımdayız</h1></body></html>".encode()
    return answer(page, code, {"Content-Type": "text/html; charset=utf-8"})


def with_bom(number: str, nth: int) -> Iterable[Step]:
    return answer(b"\xef\xbb\xbf" + order_body(number))(number, nth)


def not_utf8(number: str, nth: int) -> Iterable[Step]:
    return answer(order_body(number).decode().encode("iso8859-9", "replace"))(number, nth)


def broken_json(number: str, nth: int) -> Iterable[Step]:
    """Cut JSON in an answer whose length is right."""
    return answer(order_body(number)[:-20])(number, nth)


def not_gzip(number: str, nth: int) -> Iterable[Step]:
    return answer(order_body(number), headers={"Content-Encoding": "gzip"})(number, nth)


def nested(depth: int) -> Behaviour:
    """An order with the right number and a value `depth` arrays deep."""

    def steps(number: str, nth: int) -> Iterable[Step]:
        deep = b"[" * depth + b"]" * depth
        return answer(b'{"number": "%b", "extra_field": %b}' % (number.encode(), deep))(number, nth)

    return steps


# ---- floods, made while they are read


def flood(size: int) -> Behaviour:
    """An order with a text of `size` bytes in it, chunked."""

    def steps(number: str, _nth: int) -> Iterator[Step]:
        yield head()
        yield from (chunk(piece) for piece in _big_order(number, size))
        yield b"0\r\n\r\n"

    return steps


def gzip_bomb(size: int) -> Behaviour:
    """The same flood, some thousand times smaller on the wire."""

    def steps(number: str, _nth: int) -> Iterator[Step]:
        yield head(headers={"Content-Encoding": "gzip"})
        packer = zlib.compressobj(wbits=31)
        for piece in _big_order(number, size):
            if packed := packer.compress(piece):
                yield chunk(packed)
        yield chunk(packer.flush()) + b"0\r\n\r\n"

    return steps


def giant_length(size: int = 10**15) -> Behaviour:
    """A `Content-Length` that nobody can hold, and a body that tries to fill it."""
    return lambda number, _nth: chain([head(length=size)], _big_order(number, size))


def header_flood(count: int = 100_000) -> Behaviour:
    def steps(number: str, _nth: int) -> Iterator[Step]:
        yield head(length=0)[:-2]
        for index in range(0, count, 100):
            yield b"".join(b"X-Flood-%d: %b\r\n" % (index + each, b"x" * 80) for each in range(100))
        yield b"\r\n"

    return steps


def _big_order(number: str, size: int) -> Iterator[bytes]:
    yield b'{"number": "%b", "notes": "' % number.encode()
    yield from repeat(b" " * MIB, size // MIB)
    yield b" " * (size % MIB) + b'"}'
