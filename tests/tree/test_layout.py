"""What holds for the tree as a whole: which libraries it needs, how large a module grows, what no file may name."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tree.modules import MODULES, PACKAGES, ROOT, files, imports

LONGEST_MODULE = 400
GENERATED = {ROOT / "medalion" / "store" / f"{name}.py" for name in ("awaited", "blocking", "fields")}
ENGINES = ("adbc_driver_postgresql", "deltalake", "duckdb", "polars", "psycopg", "pyarrow", "sqlalchemy")


def distributions_of(*extras: str) -> set[str]:
    """What `medalion[extras]` asks for directly, through the extras that these contain as well."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    waiting, found = [*project["dependencies"]], set[str]()
    for extra in extras:
        waiting += project["optional-dependencies"][extra]
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == "medalion":
            waiting += [text for extra in requirement.extras for text in project["optional-dependencies"][extra]]
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def test_every_library_imported_is_a_declared_dependency() -> None:
    declared = distributions_of("all")
    owners = importlib.metadata.packages_distributions()
    undeclared = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        for name in sorted({name.split(".")[0] for name in imports(path, for_types=False)})
        if name not in PACKAGES
        and name not in sys.stdlib_module_names
        and declared.isdisjoint(canonicalize_name(owner) for owner in owners.get(name, [name]))
    ]
    assert undeclared == []


def test_every_extra_brings_what_a_module_imports() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    imported = {name.split(".")[0] for path in MODULES.values() for name in imports(path)}
    # A package with data alone is not imported but opened, by its name.
    opened = {word for path in MODULES.values() for word in re.findall(r'"(\w+)"', path.read_text("utf-8"))}
    used = {
        canonicalize_name(owner)
        for name, owners in importlib.metadata.packages_distributions().items()
        if name in imported | opened
        for owner in owners
    }
    tools = {"all", "bench", "dev", "docs", "notebooks"}  # for who works on the project, or on notebooks
    brought = {Requirement(text).name for extra in extras.keys() - tools for text in extras[extra]} - {"medalion"}
    assert {name for name in brought if canonicalize_name(name) not in used} == set()


def test_no_module_outgrows_400_lines() -> None:
    # A revision is a record of one step of the schema, and a face is generated: nobody edits them.
    revisions = ROOT / "migrations" / "versions"
    modules = [path.relative_to(ROOT) for path in files(".py") if path.parent != revisions and path not in GENERATED]
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in modules}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_import_medalion_loads_no_engine() -> None:
    listing = f"import medalion, sys; print(*sorted(sys.modules.keys() & set({ENGINES!r})))"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.split() == []


def test_no_file_names_a_package_registry_or_a_folder_of_one_machine() -> None:
    # Each name is put together here, or this file would be the first to be caught.
    hosts = [r"\.".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
    folders = [f"(?<![\\w.*])/{folder}/[a-z]" for folder in ("home", "Users", "root", "tmp", "work")]
    forbidden = re.compile("|".join(hosts + folders))
    named = []
    for path in files():
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        named += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if forbidden.search(line)]
    assert named == []


def test_every_dependency_is_pinned_with_hashes() -> None:
    pin = re.compile(r"[\w.-]+==[^;\s]+( ; [^\\]+)?( \\\n +--hash=sha256:[0-9a-f]{64})+")
    entries = re.split(r"\n(?=\S)", (ROOT / "constraints.txt").read_text("utf-8").strip())
    assert [entry for entry in entries if not pin.fullmatch(entry)] == []
    assert distributions_of("dev") - {entry.split("==")[0] for entry in entries} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The paths inside a wheel built from this tree."""
    target = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(build, capture_output=True, check=True, cwd=ROOT)
    (built,) = target.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_wheel_holds_every_file_of_the_packages_and_no_other_folder(wheel: set[str]) -> None:
    assert {path.split("/")[0] for path in wheel if ".dist-info/" not in path} == set(PACKAGES)
    paths = [path.relative_to(ROOT) for path in files()]
    assert {path.as_posix() for path in paths if path.parts[0] in PACKAGES} <= wheel
    assert {f"{package}/py.typed" for package in PACKAGES} <= wheel


def test_wheel_carries_the_migrations_inside_oltp(wheel: set[str]) -> None:
    paths = [path.relative_to(ROOT) for path in files()]
    assert {f"oltp/{path.as_posix()}" for path in paths if path.parts[0] == "migrations"} <= wheel
    assert "oltp/migrations/env.py" in wheel
