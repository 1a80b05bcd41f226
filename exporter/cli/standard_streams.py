"""The standard streams as cron and shells hand them over: also closed, full, or with nobody who reads."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path


def prepare_streams() -> None:
    """Make all three standard streams usable.

    A closed one becomes the null device: the next file that is opened would take its descriptor, and what
    is meant for stderr would land in it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - it lives as long as we
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal or crontab of another encoding than UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")


def drop_unwritable() -> None:
    """Drop what a standard stream refuses, so that Python's own flush at the exit keeps our exit code.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
