"""What spreadsheets, SQL and pandas leave around an order number, taken off; and what they leave instead of one."""

import re

#: White space, and what has no width: marks of direction, joiners, soft hyphens, byte order marks, padding.
INVISIBLE = (
    "\0\t\n\x0b\x0c\r\x1a\x1c\x1d\x1e\x1f \x85\xa0\xad\u034f\u061c\u115f\u1160\u1680\u180e\u2000\u2001\u2002\u2003\u2004"
    "\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
    "\u202f\u205f\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u3000\u3164\ufeff\uffa0"
)

_NOTHING = (
    "null nan none nil nat n/a na <na> undefined total toplam subtotal grandtotal sum \\n - -- – — ? (null) (blank)"
    " #n/a #yok #ref! #başv! #value! #değer! #div/0! #sayı/0! #name? #ad? #null! #num! #sayi! #spill! #calc! #boş!"
)
#: Words that are where an order number is missing, in the usual spellings.
NO_NUMBERS = frozenset({"NaN", "NaT"}).union(
    *((word, word.upper(), word.capitalize(), word.title()) for word in _NOTHING.split())
)

_WRAPPINGS = [
    re.compile(form, re.DOTALL)
    for form in (
        *(r'=\s*"(.*)"', r'"(.*)"', r"'(.*)'", r"`(.*)`", r"“(.*)”", r"\(([^()]*)\)", r"\[([^\[\]]*)\]"),
        *(r"[(\[]([^()\[\]]*)", r"([^()\[\]]*)[)\]]"),
        r"'(.+)",  # the last: before a bracket it would leave the closing one
    )
]
SUSPICIOUS = re.compile("[=\"'`“”,;:()\\[\\].+|<>#\\\\/–—-]")  # what makes a text worth a closer look
WHOLE_FLOAT = re.compile(r"(\d+)[.,]0+")
_SCIENTIFIC = re.compile(r"[+-]?\d+([.,]\d+)?[eE][+-]\d+|[+-]?\d+[.,]\d+[eE]\d+")
_GROUPED = re.compile(r"\d{1,3}([.,'’]\d{3})+|\d{1,3}(\.\d{3})+,\d+|\d{1,3}(,\d{3})+\.\d+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*|\d{1,2}[./]\d{1,2}[./](\d{4}|\d\d)")
_FURNITURE = re.compile(
    r"[-+=|: ]*-{2,}[-+=|: ]*|\(\d[\d.,]* (rows?|satır)\b.*\)|\d+ rows? (selected|in set|affected)\b.*",
    re.IGNORECASE,
)


def unwrapped(text: str) -> str:
    """Return a stripped text without what programs put around a value.

    >>> [unwrapped(text) for text in ('="000123"', "'000123", '"1",', "('1001',", "A(1)", "1001;")]
    ['000123', '000123', '1', '1001', 'A(1)', '1001']
    """
    for _ in range(4):  # as in `("1001"),`
        before = text
        text = text.rstrip(",;").strip(INVISIBLE)
        found = next(filter(None, (form.fullmatch(text) for form in _WRAPPINGS)), None)
        text = found[1].strip(INVISIBLE) if found else text
        if text == before:
            break
    return text


def is_furniture(text: str) -> bool:
    """Return whether a text is what programs draw around a table, as `-----` and `(40 rows)`."""
    return _FURNITURE.fullmatch(text) is not None


def doubt(text: str) -> str | None:
    """Return why nobody can know which number a text was; None where there is no such doubt."""
    if _SCIENTIFIC.fullmatch(text):
        return "a number in scientific notation, whose last digits are lost"
    if _GROUPED.fullmatch(text):
        return "a number with separators, which may be of thousands or of decimals"
    return None


def replaced(text: str) -> str | None:
    """Say what is where an order number should; None where it may be one."""
    if text in NO_NUMBERS or text.strip("#") == "":
        return "This marks a missing number or a sum; it is not an order number."
    if _DATE.fullmatch(text):
        return "An order number is a text or an integer, got a date."
    return None
