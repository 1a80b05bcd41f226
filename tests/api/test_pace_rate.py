"""Rates and Retry-After as people and servers write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.errors import UsageError
from exporter.model.rate import Rate, concurrency_hint, parse_retry_after

pytestmark = pytest.mark.fast

NOW = datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "per_s", "written"),
    [
        ("10/s", 10, "10/s"),
        (" 600 / M ", 10, "600/m"),
        ("5000/h", 5000 / 3600, "5000/h"),
        ("0.50/s", 0.5, "0.5/s"),
        ("1/h", 1 / 3600, "1/h"),
        ("AUTO", math.inf, "auto"),
        ("unlimited", math.inf, "unlimited"),
    ],
)
def test_a_rate_is_read_and_written(text: str, per_s: float, written: str) -> None:
    """A rate in the user's words becomes requests a second, and is written back in its shortest form."""
    rate = Rate.parse(text)
    assert rate.per_s == pytest.approx(per_s)
    assert str(rate) == written


@given(
    requests=st.floats(min_value=1e-9, max_value=1e15, allow_nan=False),
    period_s=st.sampled_from([1.0, 60.0, 3600.0]),
)
def test_a_written_rate_reads_as_itself(requests: float, period_s: float) -> None:
    """No digit of a rate is lost between an options file and the run."""
    rate = Rate(requests=requests, period_s=period_s)
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "/s",
        "0/s",
        "0.0/h",
        "-1/s",
        "nan/s",
        "inf/s",
        "1e3/s",
        "10/d",
        "10/s/s",
        "²/s",
        "1,5/s",
        "9" * 400 + "/s",
    ],
)
def test_junk_is_no_rate(text: str) -> None:
    """What is no rate is refused with a sentence that says what to write."""
    with pytest.raises(UsageError, match=r"Write 10/s, 600/m, 5000/h, auto or unlimited\."):
        Rate.parse(text)


@pytest.mark.parametrize(
    "value",
    [
        "37",
        " 37 ",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_retry_after_in_seconds_and_dates(value: str) -> None:
    """Whole seconds and all three date forms of RFC 9110 say the same wait."""
    assert parse_retry_after(value, NOW) == 37


@pytest.mark.parametrize("value", ["-3", "0", "Sun, 06 Nov 1994 08:48:00 GMT"])
def test_a_past_retry_after_is_no_wait(value: str) -> None:
    """A moment that is over asks for no wait, never for a negative one."""
    assert parse_retry_after(value, NOW) == 0


@pytest.mark.parametrize("value", [None, "", "soon", "1.5", "²", "1,2", "Sun, 99 Nov 1994 08:49:37 GMT"])
def test_an_unreadable_retry_after_is_none(value: str | None) -> None:
    """Junk counts as a missing header."""
    assert parse_retry_after(value, NOW) is None


def test_an_endless_retry_after_is_a_long_wait() -> None:
    """A header of five thousand digits is a wait too long, not a crash."""
    wait_s = parse_retry_after("9" * 5000, NOW)
    assert wait_s is not None
    assert wait_s > 900


@given(value=st.text())
def test_no_header_breaks_the_parser(value: str) -> None:
    """Whatever a server sends, the answer is a wait of 0 or more, or None."""
    wait_s = parse_retry_after(value, NOW)
    assert wait_s is None or wait_s >= 0


@given(seconds=st.integers(min_value=0, max_value=10**6))
def test_a_date_and_seconds_agree(seconds: int) -> None:
    """A date in the future means as many seconds as lie between."""
    date = (NOW + timedelta(seconds=seconds)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert parse_retry_after(date, NOW) == parse_retry_after(str(seconds), NOW)


def test_the_hint_names_a_concurrency_that_suffices() -> None:
    """Where concurrency / latency is under the rate, the hint is a number that is not."""
    hint = concurrency_hint(100, 32, 0.5)
    assert hint is not None
    assert hint / 0.5 >= 100
    assert concurrency_hint(100, hint, 0.5) is None


@pytest.mark.parametrize(("rate_per_s", "latency_s"), [(math.inf, 0.5), (10, 0.5), (100, 0.0)])
def test_no_hint_where_concurrency_suffices(rate_per_s: float, latency_s: float) -> None:
    """Nothing is said where the rate can be used up, or has no bound."""
    assert concurrency_hint(rate_per_s, 32, latency_s) is None
