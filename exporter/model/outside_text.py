"""Text that came from outside (the API, a list, a file's name) on its way to a terminal, a log or a mail.

A control character in it could forge a line, a mail command, or what the terminal shows.
"""

import json


def visible(text: str) -> str:
    r"""Return text so that nothing in it is invisible, ends the line or turns it around.

    >>> visible("a\u202eb\n")
    'a\\u202eb\\u000a'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def json_line(value: object) -> str:
    r"""Return a value as JSON on one line, its text as it is but for what a terminal would obey; amounts and times are text.

    >>> json_line({"a": "ç\u009b"})
    '{"a": "ç\\u009b"}'
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
