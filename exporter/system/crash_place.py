"""Where in our code something broke, without what it was working on: an exception's own text may quote a payload."""

import traceback
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def crash_text(error: BaseException) -> str:
    """Return an error's type and the innermost place in this package, as `TypeError in exporter/store.py:120`."""
    place = "code that it uses"
    for frame in traceback.extract_tb(error.__traceback__):
        if (file := Path(frame.filename)).is_relative_to(_PACKAGE):
            place = f"{file.relative_to(_PACKAGE.parent).as_posix()}:{frame.lineno}"
    return f"{type(error).__name__} in {place}"
