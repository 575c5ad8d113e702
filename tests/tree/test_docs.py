"""The documents hold true: what they print runs, what they name exists, and where they link there is something."""

import doctest
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import polars as pl
import pytest
import typer

import medalion
from medalion.cli import app
from medalion.core.datasets import DATASETS
from medalion.core.enums import CorporateActionType
from medalion.core.environment import DEBUG
from medalion.core.settings import Settings
from medalion.services.mirror import Mirror
from medalion.stats import forecasts
from medalion.stats.performance import PerformanceStatistics
from medalion.stats.trades import TradeStatistics
from medalion.store.store import AsyncStore, Store
from medalion.venues.states import TRANSITIONS
from oltp.entities.base import Base
from oltp.entities.trading import Trade
from oltp.repositories.unit_of_work import UnitOfWork
from tests.support.commands import run
from tests.support.postgres import fresh_database
from tests.support.real_data import SHARED

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
README = (ROOT / "README.md").read_text("utf-8")
MAP, STORAGE, STATISTICS, TRADING = (
    (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    for name in ("requirements-map", "storage", "statistics", "trading")
)
ORIGINAL = SHARED / "REQUIREMENTS.md"
PIECES = ("feeds",)
CLI = ".venv/bin/medalion "
OURS = re.compile(r"((medalion|oltp|olap|store)[. ]|make |MEDALION_)[A-Za-z_]")

REQUIRED = {
    "entities": """
        Assets PolymarketEvents PolymarketMarkets StockQuoteSnapshots StockBarData CryptoQuoteSnapshots CryptoBarData
        OptionContracts OptionQuoteSnapshots PolymarketSnapshots PolymarketTradeData PolymarketOrderBookSnapshots
        Strategies TradingSignals Trades Positions ApplicationLogs ErrorLogs PerformanceMetrics AuditLogs
    """,
    "repositories": """
        IRepository<T> Repository<T> ITradeRepository TradeRepository IPositionRepository PositionRepository
        IAssetRepository AssetRepository IStrategyRepository StrategyRepository ITradingSignalRepository
        TradingSignalRepository IPolymarketEventRepository PolymarketEventRepository IStockBarDataRepository
        IStockQuoteSnapshotRepository ICryptoBarDataRepository IPolymarketSnapshotRepository
    """,
    "services": """
        ITradingService TradingService ExecuteMarketOrderAsync() ExecuteLimitOrderAsync() OpenPositionAsync()
        ClosePositionAsync() GetPortfolioSummaryAsync() GetPortfolioPerformanceAsync() IMarketDataService
        StoreStockQuoteAsync() StoreStockBarAsync() StoreCryptoQuoteAsync() StorePolymarketSnapshotAsync()
        GetOpenPositionsAsync() GetActiveSignalsAsync()
    """,
    "read models": """
        TradeDto CreateTradeRequest PositionDto OpenPositionRequest PortfolioSummaryDto PortfolioPerformanceDto
        StrategyDto TradingSignalDto AssetDto MarketBarDto PolymarketEventDto
    """,
}


def blocks(text: str, language: str) -> list[str]:
    """The code of every fenced block of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every line that the README tells a reader to type into a shell."""
    return [line for block in blocks(README, "sh") for line in block.splitlines()]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def rows() -> list[tuple[str, str, str]]:
    """(requirement, here, how) of every row of the map."""
    cells = [line.strip("|").split("|") for line in MAP.splitlines() if line.startswith("| ")]
    found = [(left.strip(), here.strip(), how.strip()) for left, here, how in cells]
    return [row for row in found if row[0] != "requirement"]


def store_members() -> dict[str, Any]:
    """What an open store has, by name: its own methods, the types of its services, its repositories."""
    members: dict[str, Any] = dict(UnitOfWork.repositories()) | {"mirror": Mirror}
    for name, member in inspect.getmembers(AsyncStore):
        if isinstance(member, property) and name not in members:
            members[name] = get_type_hints(member.fget)["return"]
        elif inspect.isfunction(member) and name[0] != "_":
            members[name] = member
    return members


STORE = store_members()
TABLES = Base.metadata.tables
CONSTRAINTS = {
    *(index.name for table in TABLES.values() for index in table.indexes),
    *(constraint.name for table in TABLES.values() for constraint in table.constraints),
}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def has_path(holder: Any, names: list[str]) -> bool:
    """Whether attributes of `holder` lead along `names`."""
    for name in names:
        if not hasattr(holder, name):
            return False
        holder = getattr(holder, name)
    return True


def is_importable(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return has_path(module, parts[length:])
    return False


def is_command(name: str) -> bool:
    command: Any = typer.main.get_command(app)
    for word in name.split()[1:]:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return False
    return True


def exists(name: str) -> bool:
    first, _, rest = name.partition(".")
    if name.startswith("medalion "):
        return is_command(name)
    if name.startswith("make "):
        return name.removeprefix("make ") in TARGETS
    if name.startswith("MEDALION_"):
        return name == DEBUG or name.removeprefix("MEDALION_").lower() in Settings.model_fields
    if first == "store":
        member, *names = rest.split(".")
        return member in STORE and has_path(STORE[member], names)
    if first in TABLES:
        return not rest or rest in TABLES[first].columns
    if first in ("medalion", "oltp", "olap") and is_importable(name):
        return True
    return name in CONSTRAINTS or (("/" in name or "." in name) and (ROOT / name).exists())


@pytest.mark.parametrize(
    "name",
    [
        "oltp.entities.reference.Assets",
        "medalion.nothing",
        "store.trades.by_mood",
        "store.nothing",
        "trades.mood",
        "ix_trades_mood",
        "medalion mirror fly",
        "make nothing",
        "MEDALION_MOOD",
        "docs/nothing.md",
        "nothing",
    ],
)
def test_a_name_that_is_not_there_is_noticed(name: str) -> None:
    assert not exists(name)


@pytest.mark.parametrize("kind", REQUIRED)
def test_every_name_of_the_requirements_has_a_row(kind: str) -> None:
    named = {name for left, _, _ in rows() for name in quoted(left)}
    assert set(REQUIRED[kind].split()) - named == set()


def test_every_name_in_the_map_exists_here() -> None:
    missing = [(left, name) for left, here, _ in rows() for name in quoted(here) if not exists(name)]
    assert missing == []


def test_what_is_explained_exists_too() -> None:
    names = [name for _, _, how in rows() for name in quoted(how) if OURS.match(name) or "." in name]
    assert [name for name in names if not exists(name)] == []


def test_every_row_says_where_or_which_piece_brings_it() -> None:
    for left, here, how in rows():
        planned = [piece.strip() for piece in re.findall(r"planned: ([a-z ]+)", f"{here} {how}")]
        assert quoted(here) or planned, left
        assert set(planned) <= set(PIECES), left
    assert all(f"- **{piece}**: " in MAP for piece in PIECES)


def test_every_dataset_and_repository_is_in_the_map() -> None:
    here = {name for _, cell, _ in rows() for name in quoted(cell)}
    assert set(DATASETS) <= here
    of_requirements = "assets strategies signals trades positions option_contracts polymarket_events polymarket_markets"
    assert {f"store.{name}" for name in of_requirements.split()} <= here


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the requirements are not beside the checkout")
def test_the_map_names_all_that_the_original_names() -> None:
    original = ORIGINAL.read_text("utf-8")
    names = set(quoted(re.sub(r"^```.*?^```$", "", original, flags=re.DOTALL | re.MULTILINE)))
    assert len(names) > 80
    assert sorted(name for name in names if f"`{name}`" not in MAP) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert target.startswith("https://") or (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    code = [name for name in quoted(document.read_text("utf-8")) if "\n" not in name]
    named = [re.split(r" -| [A-Z\"…{]|[=(,]", name)[0].strip() for name in code]
    assert [name for name in named if OURS.match(name) and not exists(name)] == []


def figures(heading: str) -> set[str]:
    """The names in the first column of the table under a heading of the statistics."""
    section = STATISTICS.split(f"## {heading}\n")[1].split("\n## ")[0]
    return {name for line in section.splitlines() if line.startswith("| `") for name in quoted(line.split("|")[1])}


def test_every_figure_of_a_report_has_its_formula() -> None:
    said = {"start", "end", "periods", "periods_per_year", "risk_free"}
    assert figures("Returns and ratios") == {field.name for field in fields(PerformanceStatistics)} - said


def test_every_figure_of_closed_trades_has_its_formula() -> None:
    columns = {"mae", "mfe", "excursions"}
    of_fields = {field.name for field in fields(TradeStatistics)}
    assert figures("Closed trades") - columns <= of_fields
    counted = {"total_trades", "winning_trades", "losing_trades", "total_commissions", "best", "worst", "net_profit"}
    assert of_fields - figures("Closed trades") == counted


def test_every_figure_of_prediction_markets_is_a_function() -> None:
    functions = {name for name, _ in inspect.getmembers(forecasts, inspect.isfunction) if name[0] != "_"}
    own = {name for name in functions if getattr(forecasts, name).__module__ == forecasts.__name__}
    assert figures("Prediction markets") == own


def test_every_column_of_the_mirrors_status_is_explained(store: Store) -> None:
    explained = {name for line in STORAGE.splitlines() if line.startswith("| `") for name in quoted(line.split("|")[1])}
    assert set(store.mirror.status().columns) - {"dataset"} <= explained


def test_the_life_of_an_order_is_the_table_of_the_code() -> None:
    section = TRADING.split("## The life of an order\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    said = {quoted(status)[0]: set(quoted(following)) for status, following in cells}
    assert said == {status.value: {to.value for to in following} for status, following in TRANSITIONS.items()}


def test_the_examples_of_statistics_give_what_they_print() -> None:
    examples = "\n".join(blocks(STATISTICS, "pycon"))
    parsed = doctest.DocTestParser().get_doctest(examples, {}, "statistics.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(parsed, out=said.append)
    assert not result.failed, "".join(said)
    assert result.attempted > 7


def test_the_examples_of_trading_give_what_they_print(store: Store) -> None:
    examples = "\n".join(blocks(TRADING, "pycon"))
    parsed = doctest.DocTestParser().get_doctest(examples, {"store": store}, "trading.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(parsed, out=said.append)
    assert not result.failed, "".join(said)
    assert result.attempted > 40


@pytest.fixture(scope="module")
def demo(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as `make demo` leaves it, with less in it: bars of a stock around its split, and an account."""
    folder = tmp_path_factory.mktemp("checkout")
    data_dir = folder / "medalion-data"
    days = [datetime(2005, 2, 1, 5, tzinfo=UTC) + timedelta(days=day) for day in range(40)]
    bars = pl.DataFrame({"ts": days}).with_columns(symbol=pl.lit("AAPL"), timeframe=pl.lit("1Day"))
    closes = pl.Series([80 + day / 4 for day in range(20)] + [88.5] * 7 + [44.25] * 13)
    prices = dict.fromkeys(("open", "high", "low", "close"), closes)
    with fresh_database() as url, pytest.MonkeyPatch.context() as patch:
        with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
            asset = store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
            store.corporate_actions.create(
                asset_id=asset.id,
                action_type=CorporateActionType.SPLIT,
                ex_date=datetime(2005, 2, 28, tzinfo=UTC).date(),
                new_shares=2,
                old_shares=1,
            )
            store.write("stock_bars", bars.with_columns(**prices, volume=pl.lit(1_000_000)), source="demo")
            store.mirror.run()
            account = store.accounts.create(name="demo")
            store.trading.deposit(account, 10_000, at=days[0])
            for side, day in (("buy", days[2]), ("sell", days[30])):
                store.trading.execute_market_order(account=account, symbol="AAPL", side=side, quantity=10, at=day)
        (data_dir / "reports").mkdir()
        patch.chdir(folder)
        patch.setenv("MEDALION_DATABASE_URL", url)
        yield folder


def test_python_of_the_readme_runs_twice_in_order(demo: Path) -> None:
    for _ in range(2):
        names: dict[str, Any] = {"__name__": "__main__"}
        for place, code in enumerate(blocks(README, "python"), 1):
            exec(compile(code, f"README.md, block {place}", "exec"), names)  # noqa: S102 - it is ours
        assert names["adjusted"]["close"].to_list() == [Decimal("44.25")] * names["adjusted"].height
        assert names["adjusted"].height == 9
        assert names["highest"].height == 1
        assert names["newest"]["ask_price"] == Decimal("67251.3")
        assert (names["now"], names["then"]) == (Decimal(66900), Decimal("67000.5"))
        assert names["decided"]["close"].null_count() == 0
        assert names["decided"].height == 2
        assert names["ratios"].sharpe_ratio is not None
        assert names["own"].beta == pytest.approx(0.9669, abs=1e-4)
        assert names["chart"].to_dict()["layer"]
        assert names["position"].status == "closed"
        assert names["summary"].open_positions_count == 0
        with medalion.open() as store:
            (ordered,) = store.trades.find(order=(Trade.id.desc(),), limit=1)
        assert (ordered.trade_type, ordered.status) == ("limit", "cancelled")


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith(CLI)])
def test_every_command_of_the_readme_runs(demo: Path, line: str) -> None:
    result = run(*shlex.split(line.removeprefix(CLI)))
    assert result.exit_code == 0, result.output
    assert result.output


def test_the_readme_tells_nothing_else_to_type() -> None:
    others = [line for line in commands() if not line.startswith(CLI)]
    assert others[:2] == ["make demo", "make test"]
    for line in others:
        assert exists(line) or exists(line.removeprefix("export ").partition("=")[0]), line
    assert len(README.splitlines()) < 250
