r"""Paths in `_unmapped`: keys joined by `.`, so that every path can be split into its keys again.

Inside a key `\` is written `\\`, `.` is written `\.`, and an empty key is written `\e`. The empty path
is the value itself (an entry of `orderitem_set` that is not an object).
"""

from __future__ import annotations

import re

Path = tuple[str, ...]

_EMPTY_KEY = "\\e"
_KEY = re.compile(r"((?:[^.\\]|\\.)*)(?:\.|$)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def join(path: Path) -> str:
    r"""Write a path as one text.

    >>> join(("customer", "a.b", ""))
    'customer.a\\.b.\\e'
    """
    return ".".join(key.replace("\\", "\\\\").replace(".", "\\.") or _EMPTY_KEY for key in path)


def split(text: str) -> Path:
    r"""Undo `join`.

    >>> split('customer.a\\.b.\\e')
    ('customer', 'a.b', '')
    """
    if not text:
        return ()
    keys = [found.group(1) for found in _KEY.finditer(text + ".")][:-1]
    return tuple("" if key == _EMPTY_KEY else _ESCAPED.sub(r"\1", key) for key in keys)
