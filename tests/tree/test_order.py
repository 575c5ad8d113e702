"""The law of the tree: every module has a room, and a room knows only those that stand before it."""

import ast
from collections.abc import Iterator

from tests.tree.modules import MODULES, ROOT, files, imports, module_name

# A module imports from its own package or from an earlier one; those of one line do not know each other.
ORDER = """
    core
    oltp | olap
    market
    stats
    plot
    journal
    observations
    mirror
    bars
    ingest
    feeds
    positions
    venues
    trading
    research
    report
    jobs
    services
    store
    demo
    cli
"""
WITHIN = {
    "oltp": "server | entities\n statements\n repositories | hot\n ledger | schema",
    "olap": "places\n files\n reads\n delta",
}
ABOVE_ALL = {"medalion", "medalion.__main__"}
LONGEST_FUNCTION = 60


def ranks(order: str) -> dict[str, int]:
    lines = [line.split(" | ") for line in (line.strip() for line in order.split("\n")) if line]
    return {room: rank for rank, rooms in enumerate(lines) for room in rooms}


def edges() -> Iterator[tuple[str, str]]:
    """Every import of a module of ours by another, those for types too."""
    for module, path in MODULES.items():
        yield from ((module, name) for name in sorted(imports(path)) if name in MODULES and name != module)


def room_of(module: str) -> str:
    """The package in which a module lies: of `medalion` the one below it, else the store's."""
    parts = module.split(".")
    return parts[1] if parts[0] == "medalion" and len(parts) > 1 else parts[0]


def breaks(rank: dict[str, int], room: str, other: str) -> bool:
    return room != other and rank[other] >= rank[room]


def test_nothing_lies_at_the_root_but_the_face() -> None:
    at_root = {path.name for path in (ROOT / "medalion").glob("*.py")}
    assert at_root == {"__init__.py", "__main__.py"}
    assert {room_of(module) for module in MODULES if module not in ABOVE_ALL} <= set(ranks(ORDER))


def test_a_package_imports_from_earlier_ones_only() -> None:
    rank = ranks(ORDER)
    outwards = [
        f"{module} imports {name}"
        for module, name in edges()
        if module not in ABOVE_ALL and (name in ABOVE_ALL or breaks(rank, room_of(module), room_of(name)))
    ]
    # What stands above all is asked for its version, and started, by programs.
    assert [line for line in outwards if not line.endswith("imports medalion")] == []
    assert {room_of(line.split()[0]) for line in outwards} <= {"demo", "cli"}


def test_within_a_store_rooms_have_an_order_too() -> None:
    outwards = []
    for store, order in WITHIN.items():
        rank = ranks(order)
        inner = {module: module.split(".")[1] for module in MODULES if module.startswith(f"{store}.")}
        assert set(inner.values()) == set(rank)
        outwards += [
            f"{module} imports {name}"
            for module, name in edges()
            if module in inner and name in inner and breaks(rank, inner[module], inner[name])
        ]
    assert outwards == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    # A package's own file counts as what it imports: whoever imports a module of it runs it first.
    known: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, name in edges():
        if module not in ABOVE_ALL and name not in ABOVE_ALL:
            known[module].add(name)
    waiting = dict(known)
    while free := {module for module, names in waiting.items() if not names & waiting.keys()}:
        waiting = {module: names for module, names in waiting.items() if module not in free}
    assert sorted(waiting) == []


def test_tests_share_helpers_through_their_folder_or_support_and_no_test_file_is_imported() -> None:
    strangers = [
        f"{module_name(path)} imports {name}"
        for path in files(".py")
        if len(path.relative_to(ROOT).parts) > 2  # not what lies above the rooms, such as conftest.py
        for name in imports(path)
        if name.startswith("tests.")
        and ("test_" in name or name.split(".")[1] not in ("support", path.relative_to(ROOT).parts[1]))
    ]
    assert strangers == []


def test_no_name_is_two_classes() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    lengths = {
        f"{module}.{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_every_package_says_what_lies_in_it() -> None:
    silent = [
        module
        for module, path in MODULES.items()
        if path.name == "__init__.py" and ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None
    ]
    assert silent == []
