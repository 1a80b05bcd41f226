"""A Matplotlib figure as SVG elements that take their colours and their font from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, fromstring

from matplotlib.figure import Figure

#: What a chart is drawn with: stand-in colours, each of which becomes a CSS variable of the page.
INK, MUTED, GRID, ACCENT, WARN, BAD, GOOD, TRACK = (f"#00000{digit}" for digit in range(1, 9))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ACCENT: "--accent",
    WARN: "--warn",
    BAD: "--bad",
    GOOD: "--good",
    TRACK: "--track",
}
_COLOUR = re.compile(r"#00000[1-8]")
_DECIMALS = re.compile(r"-?\d+\.\d+")
_NAMESPACE = re.compile(r"\{[^}]*\}")
_FONT_FAMILY = re.compile(r"font-family: [^;]*(?:; )?")
#: The only attributes that are kept, from what Matplotlib writes.
_KEPT = ("d", "x", "y", "style")


def svg(figure: Figure, titles: Mapping[str, str]) -> Element:
    """Return a figure as an inline SVG element without ids, that scales with its container.

    Args:
        figure: Drawn with the stand-in colours, at 72 dots an inch, so that units are CSS pixels.
        titles: For artists with a gid: what a mouse over it shows.
    """
    width, height = (round(72 * float(inches)) for inches in figure.get_size_inches())
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    source = fromstring(drawn.getvalue())  # noqa: S314 (Matplotlib's own output, a moment old)
    root = Element("svg", {"viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height)})
    _copy(source, root, titles)
    return root


def _copy(source: Element, target: Element, titles: Mapping[str, str]) -> None:
    """Copy what is drawn; groups without a title dissolve, clips and styles of the page's own go."""
    for child in source:
        tag = _NAMESPACE.sub("", child.tag)
        if tag == "g":
            title = titles.get(child.get("id", ""))
            _copy(child, target if title is None else _titled(target, title), titles)
        elif tag in ("path", "text") and child.get("style") != "fill: none":
            drawn = SubElement(target, tag, _attributes(child))
            drawn.text = child.text if tag == "text" else None


def _titled(target: Element, title: str) -> Element:
    group = SubElement(target, "g")
    SubElement(group, "title").text = title
    return group


def _attributes(source: Element) -> dict[str, str]:
    return {name: _tidy(value) for name in _KEPT if (value := source.get(name)) is not None}


def _tidy(value: str) -> str:
    value = _FONT_FAMILY.sub("", value)
    value = _DECIMALS.sub(lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), value)
    value = _COLOUR.sub(lambda match: f"var({_VARIABLES[match[0]]})", value)
    return " ".join(value.split())
