"""Read damaged workbooks by the thousand: each is read or refused, in bounded memory; none is a death of the run.

usage: python -m tests.benchmarks.workbook_mutants [COUNT [SEED]]
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import resource
import sys
import tempfile
import zipfile
from collections import Counter

import xlsxwriter

from exporter.lists import workbook_list

_WILD = ("0", "-1", "65535", "1048577", "4294967295", "99999999999999999999", "XFD1048576", "ZZZZZ9", "", "é")
#: Of one reading: what the process may take beside what it has at the start.
MOST_MIB = 300
_SECONDS = 20


def workbook() -> bytes:
    """Write a workbook that has what lists have: texts, numbers, formats, a formula, two sheets."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        zeros = book.add_format({"num_format": "000000"})
        sheet, other = book.add_worksheet("Orders"), book.add_worksheet("Other")
        other.write(0, 0, "note")
        sheet.write_row(0, 0, ["Order No", "total"])
        for row in range(1, 30):
            sheet.write(row, 0, f"A{row}" if row % 3 else row, zeros)
            sheet.write(row, 1, row * 1.5)
        sheet.write_formula(30, 0, "=1+1", None, 2)
    return buffer.getvalue()


def mutant(whole: bytes, chance: random.Random) -> bytes:
    """Return the workbook with some damage: inside a part, or to the file itself."""
    if chance.random() < 0.3:
        return _damaged(whole, chance)
    source = zipfile.ZipFile(io.BytesIO(whole))
    target = chance.choice([name for name in source.namelist() if name.startswith("xl/")])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            content = source.read(name)
            archive.writestr(name, _changed(content, chance) if name == target else content)
    return buffer.getvalue()


def _changed(content: bytes, chance: random.Random) -> bytes:
    numbers = list(re.finditer(rb'(?<=["A-Z>])\d+|(?<=")[A-Z]+\d+', content))
    if chance.random() < 0.3 or not numbers:
        return _damaged(content, chance)
    for found in sorted(chance.sample(numbers, min(3, len(numbers))), key=lambda one: -one.start()):
        content = content[: found.start()] + chance.choice(_WILD).encode() + content[found.end() :]
    return content


def _damaged(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged) or 1)
        kind = chance.randrange(3)
        if kind == 0:
            damaged[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del damaged[at : at + chance.randint(1, 50)]
        else:
            damaged[at:at] = damaged[max(0, at - 40) : at]
    return bytes(damaged)


def outcome(content: bytes) -> tuple[str, float]:
    """Read one workbook as the real process does; return how it ended, and MiB at the most."""
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as told:
        file.write(content)
        file.seek(0)
        child = os.fork()
        if child == 0:
            os.dup2(file.fileno(), 0)
            os.dup2(told.fileno(), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
            sys.stdout = os.fdopen(1, "w")
            request = {"name": "list.xlsx", "column": None, "sheet": None, "slim": len(content) % 2}
            code = 1
            try:
                code = workbook_list.main(json.dumps(request))
                sys.stdout.flush()
            finally:
                os._exit(code)
        _, status, usage = os.wait4(child, 0)
        told.seek(0)
        last = told.read().splitlines()[-1:]
    if os.WIFSIGNALED(status):
        return f"ended by signal {os.WTERMSIG(status)}", usage.ru_maxrss / 1024
    kind = next(iter(json.loads(last[0]))) if last and not os.WEXITSTATUS(status) else "ended itself"
    return kind, usage.ru_maxrss / 1024


def main(count: int = 10_000, seed: int = 1) -> dict[str, int]:
    """Read so many mutants; return how often each outcome came, and the most MiB."""
    chance, whole = random.Random(seed), workbook()
    outcomes: Counter[str] = Counter()
    most = 0.0
    for _ in range(count):
        kind, mib = outcome(mutant(whole, chance))
        outcomes[kind] += 1
        most = max(most, mib)
    return {**outcomes, "most MiB": round(most)}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
