"""The known word that a mistyped one most looks like."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the one of `words` that looks most like `word`.

    >>> nearest("--max-reject", ["--max-rate", "--max-rejects"])
    '--max-rejects'
    """
    from difflib import get_close_matches

    return get_close_matches(word, sorted(words), n=1, cutoff=0.0)[0]
