"""What Python hands over for an option, made what `Options` holds; what does not fit is refused by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from functools import cache
from operator import index
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from exporter.model.errors import UsageError

_Fitting = Callable[[str, Any, Any], object]
_hints = cache(get_type_hints)


class GivenList(str):
    """The name of a list of order numbers that was given itself, and no file."""

    __slots__ = ("numbers",)
    numbers: tuple[str, ...]


#: What the API's own list is called where a list has a name.
API_LIST = GivenList("the API's order list")
API_LIST.numbers = ()


def fit(options: Any) -> None:
    """Make each field of some options what its type says.

    Raises:
        UsageError: A value does not fit; the error names the argument.
    """
    for name, hint in _hints(options.__class__).items():
        fitting: _Fitting = _FITS.get(name, _fitted)
        object.__setattr__(options, name, fitting(name, hint, getattr(options, name)))


def _fitted(name: str, hint: Any, value: Any) -> object:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in kinds:
        return None
    kind = kinds[0]
    if get_origin(kind) is tuple:
        return _tuple(name, get_args(kind)[0], value)
    if kind is str and isinstance(value, os.PathLike | date):
        value = value.isoformat() if isinstance(value, date) else os.fspath(value)
    is_choice = get_origin(kind) is Literal
    expected: Any = str if is_choice else {float: (int, float)}.get(kind, kind)
    if not isinstance(value, expected) or (isinstance(value, bool) and kind is not bool):
        names = {int: "an integer", float: "a number", bool: "True or False"}
        _refuse(name, names.get(kind, "a text"), value)
    return _chosen(name, kind, value) if is_choice else value


def _chosen(name: str, kind: Any, word: object) -> object:
    if word not in get_args(kind):
        known = ", ".join(get_args(kind))
        raise UsageError(f"expected one of {known}, got {word!r}.", "Give one of them.", option=name)
    return word


def _refuse(name: str, expected: str, value: object) -> None:
    what = f"expected {expected}, got {value!r:.60} ({type(value).__name__})."
    raise UsageError(what, "Give one.", option=name)


def _tuple(name: str, kind: Any, value: object) -> tuple[str, ...]:
    is_one = isinstance(value, str) or not isinstance(value, Iterable)
    texts: tuple[Any, ...] = (value,) if is_one else tuple(value)  # type: ignore[arg-type] # it is one that iterates
    for text in texts:
        if not isinstance(text, str):
            _refuse(name, "texts", text)
    if get_origin(kind) is Literal:
        texts = words(texts)
        for word in texts or ("nothing",):
            _chosen(name, kind, word)
    return texts


def words(texts: Iterable[str]) -> tuple[str, ...]:
    """Return each word once; one text may hold several, with commas between them."""
    return tuple(dict.fromkeys(word.strip() for text in texts for word in text.split(",")))


def _rate(name: str, hint: object, value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value}/s" if is_number else _fitted(name, hint, value)


def _age(name: str, hint: object, value: object) -> object:
    return f"{value.total_seconds()}s" if isinstance(value, timedelta) else _fitted(name, hint, value)


def _rejects(name: str, hint: object, value: object) -> object:
    if isinstance(value, float):
        return f"{value * 100:.10f}%"
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else _fitted(name, hint, value)


def _orders(name: str, hint: object, value: object) -> object:
    if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable):
        return _fitted(name, hint, value)
    numbers = []
    for number in value:
        try:
            numbers.append(number if isinstance(number, str) else str(index(number)))
        except TypeError:
            _refuse(name, "a path, or texts and integers", number)
    given = GivenList(f"{len(numbers):,} given order numbers")
    given.numbers = tuple(numbers)
    return given


#: Options that take more in Python than their type says.
_FITS: dict[str, _Fitting] = {
    "orders": _orders,
    "rate": _rate,
    "max_rate": _rate,
    "max_age": _age,
    "resume_within": _age,
    "patience": _age,
    "max_rejects": _rejects,
}
