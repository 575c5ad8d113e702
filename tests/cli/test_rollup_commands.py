"""The commands that keep bars."""

import polars as pl

from medalion.core.datasets import STOCK_BARS
from medalion.store.store import Store
from tests.support.bar_rows import MINUTES
from tests.support.commands import refused, run
from tests.support.kept_bars import reason
from tests.support.observed import instruments


def test_bars_are_kept_listed_refreshed_and_dropped(own_place: tuple[str, ...], store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, pl.concat([MINUTES, MINUTES.with_columns(symbol=pl.lit("BBB"))]))
    before = store.bars("AAA", "5Min")
    done = run(*own_place, "rollup", "keep", "stock_bars", "5Min", "--symbol", "AAA")
    assert "from the next refresh on" in done.stderr
    assert "refreshed 1 series: wrote 3 bars, deleted 0" in run(*own_place, "rollup", "refresh").stderr
    again = run(*own_place, "rollup", "refresh", "stock_bars", "--timeframe", "5Min")
    assert "refreshed 0 series: wrote 0 bars" in again.stderr
    assert '"AAA"' in run(*own_place, "rollup", "list", "--format", "json").stdout
    assert "kept" in reason(store, "5Min")
    assert store.bars("AAA", "5Min").equals(before)
    assert "deleted 3 bars" in run(*own_place, "rollup", "drop", "stock_bars", "5Min").stderr
    assert store.rollups.list().is_empty()


def test_what_cannot_be_meant_is_one_line(own_place: tuple[str, ...]) -> None:
    assert "kept: none" in refused(run(*own_place, "rollup", "drop", "stock_bars", "5Min"))
    assert "only stored" in refused(run(*own_place, "rollup", "keep", "stock_bars", "2Day"))
    assert "no stock symbol 'ZZZ'" in refused(
        run(*own_place, "rollup", "keep", "stock_bars", "5Min", "--symbol", "ZZZ")
    )
