"""SQLAlchemy over PostgreSQL: mapped classes, an index over series and time, rows as the driver gives them.

Only some symbols are loaded, as they would arrive: in order of time, so that a symbol's rows lie among the others'.
Fewer neighbours mean fewer pages a read, which favours this side.
"""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import orm

from benchmarks.lake.processes import Contender, serve
from benchmarks.lake.sizes import (
    SYMBOL,
    Sizes,
    all_days,
    all_years,
    bars_files,
    neighbours,
    one_day,
    quotes_of,
)

QUOTED, BARRED = 10, 250
_PRICE = sa.Numeric(18, 8)
_COPY = "COPY plain.{} ({}) FROM STDIN (FORMAT csv)"


class Base(orm.DeclarativeBase):
    metadata = sa.MetaData(schema="plain")


class Quote(Base):
    __tablename__ = "quotes"

    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    symbol: orm.Mapped[str]
    ts: orm.Mapped[datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    bid_price: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    bid_size: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    ask_price: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    ask_size: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    event_id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)


class Bar(Base):
    __tablename__ = "bars"

    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    symbol: orm.Mapped[str]
    timeframe: orm.Mapped[str]
    ts: orm.Mapped[datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    open: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    high: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    low: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    close: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)
    volume: orm.Mapped[Decimal] = orm.mapped_column(sa.Numeric(28, 8))
    trade_count: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    vwap: orm.Mapped[Decimal] = orm.mapped_column(_PRICE)


class Rows(Contender):
    packages = ("sqlalchemy", "psycopg")

    def load(self, source: str, sizes: dict[str, int], libpq: str) -> None:
        given = Sizes(**sizes)
        url = sa.make_url(libpq).set(drivername="postgresql+psycopg")
        self._engine = engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.schema.CreateSchema("plain"))
        Base.metadata.create_all(engine)
        quotes, bars = neighbours(QUOTED, among=given.quoted), neighbours(min(BARRED, given.barred), among=given.barred)
        for day in range(given.days):
            self._copy(Quote, quotes_of(Path(source), day), quotes)
        for path in bars_files(Path(source)):
            self._copy(Bar, path, bars)
        sa.Index("ix_quotes_symbol_ts", Quote.symbol, Quote.ts).create(engine)
        sa.Index("ix_bars_symbol_timeframe_ts", Bar.symbol, Bar.timeframe, Bar.ts).create(engine)
        with engine.connect() as connection:
            connection.execute(sa.text("VACUUM ANALYZE plain.quotes, plain.bars"))
        self.works = {
            "symbol_day": (lambda: self._rows(Quote, *one_day(given)), _bids),
            "symbol_days": (lambda: self._rows(Quote, *all_days(given)), _bids),
            "symbol_bars": (lambda: self._rows(Bar, *all_years(given)), _closes),
        }

    def _copy(self, mapped: type[Quote | Bar], path: Path, names: list[str]) -> None:
        rows = pl.scan_parquet(path).filter(pl.col("symbol").is_in(names)).collect()
        text = rows.write_csv(include_header=False, datetime_format="%Y-%m-%d %H:%M:%S%.6f+00")
        columns = ", ".join(rows.columns)
        with self._engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor, cursor.copy(_COPY.format(mapped.__tablename__, columns)) as copy:
                copy.write(text)

    def _rows(self, mapped: type[Quote | Bar], start: datetime, end: datetime) -> Any:
        """Rows, not entities, which would take longer still."""
        wanted = sa.select(*mapped.__table__.columns).where(
            mapped.symbol == SYMBOL, mapped.ts >= start, mapped.ts < end
        )
        if mapped is Bar:
            wanted = wanted.where(Bar.timeframe == "1Day")
        with orm.Session(self._engine) as session:
            return session.execute(wanted.order_by(mapped.ts)).all()

    def bytes_per_quote(self) -> float:
        statement = "SELECT pg_total_relation_size('plain.quotes')::float8 / count(*) FROM plain.quotes"
        with self._engine.connect() as connection:
            return float(connection.execute(sa.text(statement)).scalar_one())


def _bids(rows: Any) -> tuple[int, float]:
    return len(rows), float(sum(row.bid_price for row in rows))


def _closes(rows: Any) -> tuple[int, float]:
    return len(rows), float(sum(row.close for row in rows))


if __name__ == "__main__":
    serve(Rows())
