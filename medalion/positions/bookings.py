"""What happened to an account, as frames of one moment: its cash, what it held, and the instruments behind it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import polars as pl
import sqlalchemy as sa

from medalion.core.errors import InputError
from medalion.stats.equity import CASH, CHANGES, MONEY, TIME
from oltp.entities.trading import Account
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated

# One statement, so that cash and holdings are of the same moment. A busted fill counts until it was undone. Settlements
# say what they added to the position, signed; of a dividend only the cash moved. An exercised option ends at 0, which
# is no price of those that are left.
_EVENTS = sa.text("""
    SELECT occurred_at AS at, NULL::bigint AS instrument_id, NULL::numeric AS units, NULL::numeric AS price, amount,
           CASE WHEN movement_type IN ('deposit', 'withdrawal') THEN amount ELSE 0 END AS flow, currency
    FROM cash_movements WHERE account_id = :account AND NOT is_deleted
    UNION ALL
    SELECT booked.at, fills.instrument_id,
           booked.sign * trades.multiplier * CASE fills.side WHEN 'buy' THEN fills.quantity ELSE -fills.quantity END,
           booked.price, NULL, NULL, NULL
    FROM fills JOIN trades ON trades.id = fills.trade_id
    CROSS JOIN LATERAL (VALUES (fills.executed_at, 1, fills.price), (fills.busted_at, -1, NULL))
        AS booked (at, sign, price)
    WHERE fills.account_id = :account AND NOT fills.is_deleted AND booked.at IS NOT NULL
    UNION ALL
    SELECT occurred_at, positions.instrument_id, positions.multiplier * settlements.quantity,
           CASE WHEN settlement_type IN ('exercise', 'assignment') THEN nullif(settlements.price, 0)
                ELSE settlements.price END,
           NULL, NULL, NULL
    FROM settlements JOIN positions ON positions.id = settlements.position_id
    WHERE settlements.account_id = :account AND NOT settlements.is_deleted AND settlement_type <> 'dividend'
    ORDER BY 1
""")

_INSTRUMENTS = sa.text("""
    SELECT instrument_id, symbol, asset_type AS kind, CASE asset_type WHEN 'stock' THEN symbol END AS calendar
    FROM assets WHERE instrument_id = ANY(:ids)
    UNION ALL
    SELECT contract.instrument_id, contract.symbol, 'option', CASE asset_type WHEN 'stock' THEN underlying.symbol END
    FROM option_contracts AS contract JOIN assets AS underlying ON underlying.id = contract.asset_id
    WHERE contract.instrument_id = ANY(:ids)
    UNION ALL
    SELECT instrument_id, token_id, 'outcome', NULL FROM polymarket_outcomes WHERE instrument_id = ANY(:ids)
    ORDER BY 1
""")

_EVENT = pl.Schema(
    {
        "at": TIME,
        "instrument_id": pl.Int64(),
        "units": MONEY,
        "price": MONEY,
        "amount": MONEY,
        "flow": MONEY,
        "currency": pl.String(),
    }
)
_INSTRUMENT = pl.Schema(
    {"instrument_id": pl.Int64(), "symbol": pl.String(), "kind": pl.String(), "calendar": pl.String()}
)


@dataclass(frozen=True, slots=True)
class Bookings:
    """`cash` and `changes` as `medalion.stats.equity` takes them, ascending; `instruments` names what was traded.

    `calendar` of an instrument is the stock whose bars are its sessions; null where there is none. `first` and `last`
    are when anything happened; None if nothing did.
    """

    cash: pl.DataFrame
    changes: pl.DataFrame
    instruments: pl.DataFrame
    first: datetime | None
    last: datetime | None

    @property
    def digest(self) -> str:
        """SHA-256 of all that happened, as hexadecimal digits: equal books have equal digests."""
        digest = sha256()
        for frame in (self.cash, self.changes):
            digest.update(frame.sort(frame.columns).write_csv().encode())
        return digest.hexdigest()

    def held_since(self, start: datetime | None) -> pl.DataFrame:
        """The instruments of which anything was held at `start` or changed from then on."""
        if start is None:
            return self.instruments
        before = pl.col("at") < start
        held = self.changes.group_by("instrument_id").agg(
            units=pl.col("units").filter(before).sum(), later=before.not_().sum()
        )
        kept = held.filter((pl.col("units") != 0) | (pl.col("later") > 0))["instrument_id"]
        return self.instruments.filter(pl.col("instrument_id").is_in(kept.implode()))


async def bookings_of(unit: UnitOfWork, account: Account) -> Bookings:
    """Everything that ever happened to the account.

    Raises:
        InputError: cash in another currency than the account's, which cannot be added up.
    """
    with translated():
        rows = (await unit.session.execute(_EVENTS, {"account": account.id})).all()
        events = pl.DataFrame([tuple(row) for row in rows], schema=_EVENT, orient="row")
        traded = events["instrument_id"].drop_nulls().unique().sort()
        found = (await unit.session.execute(_INSTRUMENTS, {"ids": traded.to_list()})).all()
    foreign = events["currency"].drop_nulls().unique().sort().to_list()
    if foreign not in ([], [account.base_currency]):
        raise InputError(
            f"account {account.name!r} has cash in {', '.join(foreign)}; statistics are of one currency, "
            f"{account.base_currency}: keep an account for each",
            given=foreign,
            expected=account.base_currency,
        )
    return Bookings(
        cash=events.filter(pl.col("amount").is_not_null()).select(CASH.names()),
        changes=events.filter(pl.col("instrument_id").is_not_null()).select(CHANGES.names()),
        instruments=pl.DataFrame([tuple(row) for row in found], schema=_INSTRUMENT, orient="row"),
        first=rows[0].at.astimezone(UTC) if rows else None,
        last=rows[-1].at.astimezone(UTC) if rows else None,
    )
