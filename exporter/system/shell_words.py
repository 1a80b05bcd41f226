"""The words of a printed command, as this machine's shell takes them: a POSIX shell, or `cmd` and PowerShell."""

import re
import shlex
import sys
from collections.abc import Iterable

_NEEDS_NO_QUOTES = frozenset("-_.,:/\\@=+~")


def shell_word(word: str) -> str:
    """Return one word, quoted where that shell needs it.

    >>> shell_word("orders.csv")
    'orders.csv'
    """
    if sys.platform != "win32":
        return shlex.quote(word)
    if word and all(one.isalnum() or one in _NEEDS_NO_QUOTES for one in word):
        return word
    # A backslash means itself there, but before a quote.
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), word) + '"'


def shell_command(words: Iterable[str]) -> str:
    """Return a whole command."""
    return " ".join(map(shell_word, words))
