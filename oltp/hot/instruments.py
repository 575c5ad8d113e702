"""Names → instruments: which number a symbol has."""

import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.enums import InstrumentKind
from medalion.core.errors import InputError, NotFoundError
from oltp.server.engine import Connection


def instrument_ids(connection: Connection, dataset: Dataset, symbols: Sequence[str]) -> dict[str, int]:
    """The number of each symbol's instrument.

    Raises:
        NotFoundError: a symbol is not known.
    """
    known = known_instruments(connection, dataset, symbols)
    for symbol in symbols:
        if symbol not in known:
            raise unknown_symbol(connection, dataset, symbol)
    return known


def known_instruments(connection: Connection, dataset: Dataset, symbols: Sequence[str]) -> dict[str, int]:
    """The number of each symbol's instrument; one that names nothing is absent."""
    return dict(
        connection.execute(
            "SELECT symbol, instrument_id FROM instruments WHERE kind = %s AND symbol = ANY(%s)",
            (dataset.kind.value, list(symbols)),
        ).fetchall()
    )


def with_instruments(connection: Connection, dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the `instrument_id` of each symbol.

    Raises:
        NotFoundError: a symbol is not known.
        InputError: the rows name another instrument than the symbol's.
    """
    known = instrument_ids(connection, dataset, rows["symbol"].unique().to_list())
    resolved = rows["symbol"].replace(known).cast(pl.Int64)  # every symbol is known by now
    wrong = rows["instrument_id"].is_not_null() & (rows["instrument_id"] != resolved)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise InputError(
            f"instrument_id {rows['instrument_id'][row]} in row {row} is not that of {rows['symbol'][row]!r}, "
            f"which is {resolved[row]}; leave the column out",
            given=rows["instrument_id"][row],
            expected=resolved[row],
        )
    return rows.with_columns(resolved.alias("instrument_id"))


def unknown_symbol(connection: Connection, dataset: Dataset, symbol: str) -> NotFoundError:
    """The error for a symbol without instrument, with the nearest names."""
    return unknown_instrument(connection, [dataset.kind], symbol)


def unknown_instrument(connection: Connection, kinds: Sequence[InstrumentKind], symbol: str) -> NotFoundError:
    """The error for a symbol that names none of some kinds: with the nearest names, what it is instead, and the call
    that makes it one of the first kind.
    """
    named = [kind.value for kind in kinds]
    known = connection.execute(
        """(SELECT symbol FROM instruments WHERE kind = ANY(%(kinds)s) AND lower(symbol) = lower(%(symbol)s) LIMIT 10)
           UNION (SELECT symbol FROM instruments WHERE kind = ANY(%(kinds)s) ORDER BY symbol LIMIT 10000)""",
        {"kinds": named, "symbol": symbol},
    ).fetchall()
    others = sorted(kinds_of(connection, [symbol]).get(symbol, ()))
    is_other = f"{symbol!r} is {' and '.join(others)}; to have it as {named[0]} too, " if others else ""
    return NotFoundError(
        f"{' or '.join(named)} symbol",
        symbol,
        known=sorted(name for (name,) in known),
        hint=f"{is_other}create it first: {creation(kinds[0], symbol)}",
    )


def creation(kind: InstrumentKind, symbol: str) -> str:
    """The call that makes an instrument of that name; in backticks where it is complete.

    >>> creation(InstrumentKind.STOCK, "AAPL")
    "`store.assets.create(symbol='AAPL', name='AAPL', asset_type='stock')`"
    """
    if kind is InstrumentKind.OUTCOME:
        market = f"{{'condition_id': '0x…', 'outcomes': [{{'token_id': {symbol!r}, 'outcome': 'Yes'}}]}}"
        return f"store.market_data.store_polymarket_event(event_id='…', title='…', markets=[{market}])"
    if kind is not InstrumentKind.OPTION:
        return f"`store.assets.create(symbol={symbol!r}, name={symbol!r}, asset_type={kind.value!r})`"
    terms = _OCC.fullmatch(symbol)
    if terms is None:
        return "store.market_data.store_option_contract(symbol=…, underlying_symbol=…, …), as AAPL240119C00190000"
    year, month, day = (int(terms["expiry"][place : place + 2]) for place in (0, 2, 4))
    strike, side = Decimal(terms["strike"]) / 1000, "call" if terms["side"] == "C" else "put"
    return (
        "`from datetime import date; from decimal import Decimal; store.market_data.store_option_contract("
        f"symbol={symbol!r}, underlying_symbol={terms['root']!r}, expiration_date=date({2000 + year}, {month}, {day}), "
        f"option_type={side!r}, strike_price=Decimal('{strike.normalize():f}'))`"
    )


_OCC = re.compile(r"(?P<root>[A-Z][A-Z0-9.]{0,5}) *(?P<expiry>[0-9]{6})(?P<side>[CP])(?P<strike>[0-9]{8})")


def kinds_of(connection: Connection, symbols: Sequence[str]) -> dict[str, set[str]]:
    """The kinds of instrument that each symbol names; a symbol that names none is absent."""
    kinds: dict[str, set[str]] = {}
    for symbol, kind in connection.execute(
        "SELECT symbol, kind FROM instruments WHERE symbol = ANY(%s)", (list(symbols),)
    ).fetchall():
        kinds.setdefault(symbol, set()).add(kind)
    return kinds


def splits_of(
    connection: Connection, instruments: Sequence[int], *, as_of: datetime | None
) -> list[tuple[int, date, Fraction]]:
    """(instrument_id, ex-date, new shares per old) of the splits that were effective by `as_of`, oldest first."""
    rows = connection.execute(
        """SELECT instrument_id, ex_date, new_shares, old_shares FROM corporate_actions AS action
           JOIN assets ON assets.id = action.asset_id
           WHERE instrument_id = ANY(%s) AND action_type = 'split' AND NOT action.is_deleted
             AND (%s::timestamptz IS NULL OR ex_date <= %s::timestamptz) ORDER BY ex_date""",
        (list(instruments), as_of, as_of),
    ).fetchall()
    return [(instrument, ex_date, Fraction(new) / Fraction(old)) for instrument, ex_date, new, old in rows]
