"""What Python hands over for an option, made what `Options` holds; what does not fit is refused by its name."""

from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache
from operator import index
from os import PathLike, fspath
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from exporter.model.errors import UsageError

_hints = cache(get_type_hints)


class GivenList(str):
    """The name of a list of order numbers that was given itself, and no file."""

    __slots__ = ("numbers",)
    numbers: tuple[str, ...]


API_LIST = GivenList("the API's order list")  # what the API's own list is called where a list has a name
API_LIST.numbers = ()


def fit(options: Any) -> None:
    """Make each field of some options what its type says; a `UsageError` names one that does not fit."""
    for name, hint in _hints(options.__class__).items():
        value = _fitted(name, hint, _spelled(name, getattr(options, name)))
        object.__setattr__(options, name, value)


def _fitted(name: str, hint: Any, value: Any) -> object:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in kinds:
        return None
    kind = kinds[0]
    if get_origin(kind) is tuple:
        return _tuple(name, get_args(kind)[0], value)
    if kind is str and isinstance(value, PathLike | date):
        value = value.isoformat() if isinstance(value, date) else fspath(value)
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


def _refuse(name: str, expected: str, value: object) -> NoReturn:
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


def _spelled(name: str, value: Any) -> object:
    """Return as text, in the command line's spelling, what options take in Python besides what their type says."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in ("rate", "max_rate") and is_number:
        return f"{value}/s"
    if name in ("max_age", "recheck", "resume_within", "patience") and isinstance(value, timedelta):
        return f"{value.total_seconds()}s"
    if name == "max_rejects" and is_number:
        return f"{value * 100:.10f}%" if isinstance(value, float) else str(value)
    if name == "orders" and isinstance(value, Iterable) and not isinstance(value, str | PathLike):
        numbers = tuple(map(_number, value))
        given = GivenList(f"{len(numbers):,} given order numbers")
        given.numbers = numbers
        return given
    return value


def _number(value: Any) -> str:
    try:
        return value if isinstance(value, str) else str(index(value))
    except TypeError:
        _refuse("orders", "a path, or texts and integers", value)
