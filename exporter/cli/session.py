"""One run of the program, as far as its last words need to know it."""

from __future__ import annotations

from dataclasses import dataclass

import click


@dataclass
class Session:
    """What the command line turned out to be.

    Attributes:
        context: Of the command, once it is known.
    """

    context: click.Context | None = None

    @property
    def log_format(self) -> str:
        """How the last words are written: `text` or `json`."""
        return str(self.context.params.get("log_format", "text")) if self.context else "text"
