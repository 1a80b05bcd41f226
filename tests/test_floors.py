"""The house stands on its floors: imports run downwards only, and the lowest rooms are pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "exporter"

#: Every room and its floor; a room that is a package stands for all of its modules.
FLOORS = {
    5: ["cli", "__main__"],
    4: ["run", "dry_run", "status"],
    3: [
        "fetching",
        "fetch_job",
        "refresh",
        "outage",
        "publish",
        "publishing",
        "publisher",
        "numbers",
        "verify",
        "keep",
        "metrics",
        "report",
    ],
    2: [
        "client",
        "deadlines",
        "foreign",
        "identity",
        "credentials",
        "wire",
        "pace",
        "store",
        "store_file",
        "frames",
        "holdings",
        "durable",
        "publish_job",
        "lean",
        "child_process",
        "destination",
        "object_store",
        "s3",
        "plan",
        "input",
        "workdir",
        "tables",
        "rows",
        "groups",
        "stop",
    ],
    1: [
        "options",
        "freshness",
        "units",
        "rate",
        "retry",
        "steering",
        "statistics",
        "order_numbers",
        "flatten",
        "payload",
        "columns",
        "schema_text",
        "manifest",
        "summary",
        "progress",
    ],
    0: ["catalog", "errors", "records", "__init__"],
}
#: Rooms beside the house: each behind `run` or `cli`, each imported only when used.
BESIDE = ["demo", "engines"]
IMPURE_MODULES = {"asyncio", "aiohttp", "time", "random", "secrets", "socket", "subprocess", "threading"}
IMPURE_CALLS = {"open", "print", "input"}

FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_at_run_time(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of what a module imports, but for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports_at_run_time(node)


def rooms_imported(path: Path) -> set[str]:
    names = imports_at_run_time(ast.parse(path.read_text("utf-8")))
    parts = [name.split(".") for name in names if name.split(".")[0] == "exporter" and "." in name]
    return {part[1] for part in parts} & {room_of(module) for module in modules()}


def test_every_room_is_on_a_floor() -> None:
    """A module that stands on no floor is noticed."""
    rooms = {room_of(path) for path in modules()}
    assert rooms - FLOOR_OF.keys() - set(BESIDE) == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_downwards(path: Path) -> None:
    """No module imports from a floor above its own, nor, from within the house, what stands beside it."""
    room = room_of(path)
    if room in (*BESIDE, "__init__"):
        return
    above = {
        other
        for other in rooms_imported(path) - {room}
        if other in BESIDE or FLOOR_OF.get(other, 0) > FLOOR_OF[room]
    }
    if FLOOR_OF[room] >= 4:
        above -= set(BESIDE)
    assert above == set(), f"{room} is on floor {FLOOR_OF[room]}"


@pytest.mark.parametrize("room", FLOORS[1] + FLOORS[0])
def test_the_lowest_rooms_are_pure(room: str) -> None:
    """No clock, no randomness, no files and no event loop on the two lowest floors."""
    for path in (path for path in modules() if room_of(path) == room):
        tree = ast.parse(path.read_text("utf-8"))
        modules_used = {name.split(".")[0] for name in imports_at_run_time(tree)}
        calls = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        methods = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert modules_used & IMPURE_MODULES == set(), path.name
        assert calls & IMPURE_CALLS == set(), path.name
        assert methods & {"read_text", "read_bytes", "write_text", "write_bytes", "now", "today"} == set(), (
            path.name
        )


def test_rooms_on_a_floor_do_not_lean_on_each_other() -> None:
    """No two rooms import each other, however far round."""
    graph = {room: set[str]() for room in FLOOR_OF}
    for path in modules():
        if room_of(path) in graph and room_of(path) != "__init__":
            graph[room_of(path)] |= rooms_imported(path) - {room_of(path), "__init__"}
    done: set[str] = set()

    def visit(room: str, behind: tuple[str, ...]) -> None:
        assert room not in behind, " → ".join((*behind, room))
        if room not in done:
            for other in sorted(graph.get(room, ())):
                visit(other, (*behind, room))
            done.add(room)

    for room in sorted(graph):
        visit(room, ())
