"""A table as aligned text or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def render(headers: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Return the table; the first column is a name, the others stand to the right as text."""
    if markdown:
        rule = "|---|" + "---|" * (len(headers) - 1)
        return "\n".join([_pipes(headers), rule, *map(_pipes, rows)])
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    return "\n".join(_aligned(row, widths) for row in (headers, *rows))


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *others = zip(cells, widths, strict=True)
    return "  ".join([name[0].ljust(name[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
