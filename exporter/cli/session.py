"""One run of the program, as far as its last words need to know it."""

from __future__ import annotations

from dataclasses import dataclass

import click


@dataclass
class Session:
    """What the command line turned out to be; once the dataset is published, no command of this kind goes on."""

    context: click.Context | None = None
    published: bool = False

    @property
    def log_format(self) -> str:
        """How the last words are written: `text` or `json`."""
        return str(self.context.params.get("log_format", "text")) if self.context else "text"

    @property
    def notify(self) -> str | None:
        """Where the end of the run is posted to."""
        return self.context.params.get("notify") if self.context else None

    @property
    def as_json(self) -> bool:
        """Whether stdout is for one JSON object."""
        return bool(self.context and self.context.params.get("as_json"))
