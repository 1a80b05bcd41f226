"""The token that was given, by itself or in a file of its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from exporter.model.errors import UsageError
from exporter.model.options import Options, is_token

_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def token_of(options: Options) -> str | None:
    """Return the token as given or as the token file has it; None where a login must bring one.

    Raises:
        UsageError: The token file cannot be read, is empty, or others can read it.
    """
    if options.token is not None or options.token_file is None:
        return options.token
    path = Path(options.token_file)
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().strip()
    except (OSError, UnicodeError):
        raise UsageError(
            "it cannot be read as text.", "Give a file that holds the token.", option="token_file", value=path
        ) from None
    if os.name == "posix" and mode & _READABLE_BY_OTHERS:
        raise UsageError("others can read it.", f"Run: chmod 600 {path}", option="token_file", value=path)
    if not is_token(text):
        raise UsageError(
            "expected one token.", "Write the token alone into it.", option="token_file", value=path
        )
    return text
