r"""What fits no column, gathered by row into the texts of `_unmapped`, and counted by path.

Keys of a path are joined by `.`, so that every path can be split into its keys again: inside a key `\` is written
`\\`, `.` is written `\.`, and an empty key is written `\e`. The empty path is the value itself (an entry of
`orderitem_set` that is not an object).
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pyarrow as pa

from exporter.dataset.flatten.json_literals import has_utf8_form, write_text
from exporter.model import manifest

Path = tuple[str, ...]

_EMPTY_KEY = "\\e"
_KEY = re.compile(r"((?:[^.\\]|\\.)*)(?:\.|$)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MOST_PATHS = 1000
_OTHER_PATHS = "*"


def join(path: Path) -> str:
    r"""Write a path as one text.

    >>> join(("customer", "a.b", ""))
    'customer.a\\.b.\\e'
    """
    return ".".join(key.replace("\\", "\\\\").replace(".", "\\.") or _EMPTY_KEY for key in path)


def split(text: str) -> Path:
    r"""Undo `join`.

    >>> split('customer.a\\.b.\\e')
    ('customer', 'a.b', '')
    """
    if not text:
        return ()
    keys = [found.group(1) for found in _KEY.finditer(text + ".")][:-1]
    return tuple("" if key == _EMPTY_KEY else _ESCAPED.sub(r"\1", key) for key in keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How often the API left the catalogue, by path; an item's paths begin with `orderitem_set[]`.

    Undeclared keys, and declared paths whose value did not fit. After 1,000 different paths, further ones are
    counted together as `*`: an API that makes keys of ids must not fill memory. With `hides_keys`, undeclared
    keys are counted under their parent as `*`: they may be e-mail addresses.
    """

    hides_keys: bool = False
    unmapped_paths: Counter[str] = field(default_factory=Counter)
    uncoerced: Counter[str] = field(default_factory=Counter)

    def add(self, found: manifest.Drift) -> None:
        """Add what was counted elsewhere."""
        for counter, more in ((self.unmapped_paths, found.unmapped_paths), (self.uncoerced, found.uncoerced)):
            for path, times in more.items():
                count(counter, path, times)

    def counts(self) -> manifest.Drift:
        """Return the counts, by path."""
        both = self.unmapped_paths, self.uncoerced
        unmapped_paths, uncoerced = (dict(sorted(each.items())) for each in both)
        return manifest.Drift(unmapped_paths=unmapped_paths, uncoerced=uncoerced)


def count(counter: Counter[str], path: str, times: int) -> None:
    """Count a path that often, or as one of the others where there are too many."""
    counter[path if path in counter or len(counter) < _MOST_PATHS else _OTHER_PATHS] += times


class Leftovers:
    """The leftovers of one table's batch; `prefix` leads to this table's paths in the counts."""

    def __init__(self, prefix: str) -> None:
        self._literals: dict[str, dict[int, str]] = {}
        self._prefix = prefix

    def add_undeclared(self, path: Path, literals: dict[int, str], drift: Drift) -> None:
        """Add what is under a key that nobody declared, by row, and count it."""
        told = (*path[:-1], _OTHER_PATHS) if drift.hides_keys else path
        self.add(path, literals, drift.unmapped_paths, told=told)

    def add(
        self, path: Path, literals: dict[int, str], counter: Counter[str], *, told: Path | None = None
    ) -> None:
        """Add what is under a path, by row, and count it; `told` is what it is counted as."""
        if not literals:
            return
        counted = ".".join(filter(None, (self._prefix, join(path if told is None else told))))
        if not has_utf8_form(counted):
            counted = counted.encode(errors="backslashreplace").decode()
        count(counter, counted, len(literals))
        self._literals.setdefault(join(path), {}).update(literals)

    def texts(self, rows: int) -> pa.Array:
        """Make the column: a JSON object for each row, null where nothing is left over."""
        if not self._literals:
            return pa.nulls(rows, pa.string())
        members: defaultdict[int, list[str]] = defaultdict(list)
        for name in sorted(self._literals):
            key = write_text(name)
            for row, literal in self._literals[name].items():
                members[row].append(f"{key}:{literal}")
        texts = {row: "{" + ",".join(parts) + "}" for row, parts in members.items()}
        return pa.array(map(texts.get, range(rows)), pa.string(), size=rows)
