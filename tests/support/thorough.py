"""How much the widest tests try: all of it in the check, a part of it in the README's test command."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("EXPORTER_TEST_NO_SKIPS"))


def examples(most: int) -> int:
    """Return how many of `most` examples to try."""
    return most if THOROUGH else most // 4
