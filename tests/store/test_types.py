"""What a type checker says of a program that uses the store, and that nothing on its faces is of any type at all."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints, is_typeddict

import pandas as pd
import pyarrow as pa
import pytest

import medalion
from medalion.store.faces import Face
from medalion.store.store import AsyncStore, Store
from tools.bodies import is_part

ROOT = Path(__file__).resolve().parents[2]

# Behind each line what mypy says of it: the kind of the error, or the type that it reveals.
PROGRAM = """
from decimal import Decimal
import medalion
from medalion import AccountType, AsyncStore, PositionDto, Store

def blocking(store: Store, held: PositionDto) -> None:
    store.tradinng  # attr-defined
    store.trading.execute_markt_order()  # attr-defined
    store.barz()  # attr-defined
    store.trading.deposit("paper", Decimal(5), when=None)  # call-arg
    store.trading.deposit("paper", "5")  # arg-type
    store.trading.execute_market_order(symbol="AAPL")  # call-arg
    store.assets.create(symbl="X")  # call-arg
    store.assets.create(symbol=5)  # arg-type
    store.assets.update("id", name=None)  # arg-type
    store.mirror.runn()  # attr-defined
    store.read("stock_bars", symbol="AAPL")  # call-arg
    reveal_type(store.trading.close_position(held.id))  # PositionDto
    store.market_data.store_stock_quote(store.read("stock_bars"))  # arg-type
    reveal_type(store.live)  # def (venue: Venue) -> BlockingTradingService
    reveal_type(store.trading.get_portfolio_summary("paper").cash)  # Decimal
    reveal_type(store.assets.create(symbol="X"))  # Asset
    reveal_type(store.assets.page().items)  # list[Asset]
    reveal_type(store.trades.by_status())  # list[Trade]
    reveal_type(store.accounts.create(name="a", account_type=AccountType.PAPER).name)  # str
    reveal_type(store.read("stock_bars"))  # DataFrame
    reveal_type(store.latest("stock_bars", "AAPL"))  # dict[str, Any] | None
    reveal_type(store.mirror.run())  # MirrorRun
    reveal_type(store.stats.equity("paper"))  # DataFrame
    reveal_type(store.jobs.recent())  # list[JobRun]

async def awaited(store: AsyncStore, held: PositionDto) -> None:
    store.tradinng  # attr-defined
    await store.trading.execute_markt_order()  # attr-defined
    await store.barz()  # attr-defined
    await store.assets.create(symbl="X")  # call-arg
    await store.read("stock_bars", symbol="AAPL")  # call-arg
    store.read("stock_bars").height  # attr-defined
    reveal_type(await store.trading.close_position(held.id))  # PositionDto
    reveal_type(await store.assets.create(symbol="X"))  # Asset
    reveal_type(await store.positions.open())  # list[Position]
    reveal_type(await store.read("stock_bars"))  # DataFrame
    reveal_type(await store.mirror.run())  # MirrorRun
    reveal_type(await store.rollups.list())  # DataFrame

reveal_type(medalion.open())  # Store
medalion.open(mirror_backgrund=False)  # call-arg
medalion.open(lake_retention={"stock_bars": {"row_days": 1}})  # dict-item
medalion.opne()  # attr-defined
reveal_type(medalion.stats)  # ModuleType
reveal_type(medalion.TradeSide("buy"))  # TradeSide
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_type_checker_sees_what_the_store_has(tmp_path: Path) -> None:
    program = tmp_path / "program_of_a_user.py"
    program.write_text(PROGRAM, "utf-8")
    # From the project's folder, so that what mypy knows from `make types` is used again. What it knows of the program
    # itself it may tell under the path of an earlier run, so that lines are told apart by number alone.
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", str(program)]
    said = subprocess.run(mypy, capture_output=True, text=True, cwd=ROOT).stdout
    told = re.findall(rf"{program.name}:(\d+): (?:error: |note: (?=Revealed))(.*)$", said, re.MULTILINE)
    expected = {n: line.split("  # ")[1] for n, line in enumerate(PROGRAM.splitlines(), 1) if "  # " in line}
    assert {int(line): _told(text) for line, text in told} == expected, said


def _told(text: str) -> str:
    """The kind of an error, or a type without the modules' names."""
    revealed = re.fullmatch(r'Revealed type is "(.*)"', text)
    return re.sub(r"[a-z_]+\.", "", revealed[1]) if revealed else text.split("[")[-1].rstrip("]")


ARBITRARY = {
    r"\w+\.equal": "a filter compares a field, of any type, with a value of its type",
    r"\w+\.order": "what is ordered by is a column of any type",
    r"create\.fields|update\.changes": "fields have their types; a JSON object among them holds anything",
    r"update_where\.changes": "fields by name, of any type",
    r"create_or_update_asset\.fields": "the fields of an asset, of any type",
    r"(log|error)\.additional_data|metric\.tags|state_at\.return": "a JSON object holds anything",
    r"(latest|latest_at|_?newest\w*|get_latest_\w+)\.return": "a row has a value of its column's type under each name",
    r"_?store\w*\.values": "columns by name, of any type",
    r"_?store\w*\.(rows|contract|event)": "rows as feeds have them, as the columns above",
    r"sql\.params": "a query's parameters are of any type",
}
"""Where a value of any type is what is meant, by method and parameter."""


def test_nothing_else_on_the_faces_is_of_any_type() -> None:
    opening: list[Callable[..., object]] = [medalion.open, medalion.open_async, medalion.acting_as]
    found = {
        f"{method.__name__}.{name}"
        for method in (*opening, *_public_methods())
        for name, hint in _hints(method).items()
        if _is_any(hint)
    }
    unexplained = [name for name in sorted(found) if not any(re.fullmatch(pattern, name) for pattern in ARBITRARY)]
    unneeded = [pattern for pattern in ARBITRARY if not any(re.fullmatch(pattern, name) for name in found)]
    assert (unexplained, unneeded) == ([], [])


def _public_methods() -> Iterator[Callable[..., object]]:
    """Those of both stores and of every part that they lead to, properties among them."""
    waiting: list[type] = [Store, AsyncStore]
    for kind in waiting:  # grows meanwhile
        for name, member in inspect.getmembers(kind):
            method: Any = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and inspect.isfunction(method):
                yield method
                given = _hints(method)["return"]
                waiting += [each for each in (given, *get_args(given)) if _leads_on(each) and each not in waiting]


def _leads_on(kind: object) -> bool:
    return isinstance(kind, type) and (issubclass(kind, Face) or is_part(kind))


def _hints(method: Callable[..., object]) -> dict[str, Any]:
    # Aliases that are written as text name libraries that their modules import for types alone.
    return get_type_hints(method, localns={"pa": pa, "pd": pd, "ImportPart": str})


def _is_any(hint: object) -> bool:
    if is_typeddict(hint):
        return any(map(_is_any, get_type_hints(hint).values()))
    return hint is Any or any(map(_is_any, hint if isinstance(hint, list) else get_args(hint)))
