"""Where in our code something broke, without what it was working on: an exception's own text may quote a payload."""

from __future__ import annotations

import traceback
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def place_in_our_code(error: BaseException) -> str:
    """Return the innermost place in this package that the error came through, as `exporter/store.py:120`."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    if not ours:
        return "code that it uses"
    return f"{Path(ours[-1].filename).relative_to(_PACKAGE.parent).as_posix()}:{ours[-1].lineno}"


def crash_text(error: BaseException) -> str:
    """Return an error's type and place, as `TypeError in exporter/store.py:120`."""
    return f"{type(error).__name__} in {place_in_our_code(error)}"
