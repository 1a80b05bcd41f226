"""HTML as a tree of elements: text and attributes are escaped because nothing is ever pasted together."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

Child = Element | str | None


def h(tag: str, *children: Child, **attributes: str | None) -> Element:
    """Make one element.

    Args:
        tag: Its name.
        children: Elements and texts in their order; None is left out.
        attributes: `aria_label` stands for `aria-label`, `class_` for `class`; None is left out.

    >>> html(h("p", "a < b", h("br"), "c", class_="x"))
    '<p class="x">a &lt; b<br>c</p>'
    """
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.rstrip("_").replace("_", "-"), value)
    for child in children:
        _append(element, child)
    return element


def _append(element: Element, child: Child) -> None:
    if isinstance(child, Element):
        element.append(child)
    elif child is not None and len(element):
        element[-1].tail = (element[-1].tail or "") + child
    elif child is not None:
        element.text = (element.text or "") + child


def html(element: Element) -> str:
    """Return an element as HTML."""
    return tostring(element, encoding="unicode", method="html")
