"""The token that was given, by itself or in a file of its own."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from exporter.model.errors import UsageError
from exporter.model.options import Options, is_token
from exporter.system.private_files import OTHERS_READ, fault_of


def token_of(options: Options) -> str | None:
    """Return the token as given or as the token file has it; None where a login must bring one.

    Raises:
        UsageError: The token file cannot be read, is empty, or others can read it.
    """
    if options.token is not None or options.token_file is None:
        return options.token
    path = Path(options.token_file)
    refused = partial(UsageError, option="token_file", value=path)
    try:
        with path.open(encoding="ascii") as file:
            found = os.fstat(file.fileno())
            text = file.read().strip()
    except (OSError, UnicodeError):
        raise refused("it cannot be read as text.", "Give a file that holds the token.") from None
    if others_can_read(found, path):
        raise refused("others can read it.", f"Run: chmod 600 {path}")
    if not is_token(text):
        raise refused("expected one token.", "Write the token alone into it.")
    return text


def others_can_read(found: os.stat_result, path: Path) -> bool:
    """Return whether somebody else can read the file of a secret."""
    # systemd.exec(5): what it hands over may show a mode of 0440, and a list that names this user alone.
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    if handed_over and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(handed_over)):
        return False
    owners = frozenset({found.st_uid})  # whoever wrote it
    return bool(found.st_mode & OTHERS_READ) and bool(
        fault_of(found, path.absolute(), forbidden=OTHERS_READ, owners=owners)
    )
