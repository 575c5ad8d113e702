"""What can be traded: assets, option contracts and the outcomes of prediction markets."""

from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from medalion.core.enums import AssetType, CorporateActionType, OptionStyle, OptionType
from oltp.entities.base import Base, Entity, live_unique, reference
from oltp.entities.columns import WIDE, JsonObject

INSTRUMENT_IDS = sa.Sequence("instrument_id_seq", data_type=sa.BigInteger, metadata=Base.metadata)

INSTRUMENTS = sa.table(
    "instruments",
    sa.column("instrument_id", sa.BigInteger),
    sa.column("kind", sa.Text),
    sa.column("symbol", sa.Text),
    sa.column("entity_id", sa.Uuid),
)
"""The view of every live instrument: its number, `InstrumentKind`, symbol and the id of its entity."""


class ObservedEntity:
    """Known to the observations by a small number that is never used again, whatever its symbol becomes."""

    instrument_id: Mapped[int] = mapped_column(
        sa.BigInteger, unique=True, server_default=INSTRUMENT_IDS.next_value(), sort_order=-9
    )


class Asset(ObservedEntity, Entity):
    """A stock, coin or currency pair, named uniquely per asset type."""

    __tablename__ = "assets"
    __table_args__ = (live_unique("asset_type", "symbol"),)

    symbol: Mapped[str] = mapped_column(sa.String(50))
    name: Mapped[str] = mapped_column(sa.String(200))
    asset_type: Mapped[AssetType] = mapped_column(default=AssetType.STOCK)
    asset_class: Mapped[str] = mapped_column(sa.String(50), default="", doc="The venue's word, e.g. us_equity.")
    exchange: Mapped[str] = mapped_column(sa.String(50), default="")
    is_active: Mapped[bool] = mapped_column(default=True, index=True, doc="Whether it is followed.")
    is_tradable: Mapped[bool] = mapped_column(default=True)
    is_fractionable: Mapped[bool] = mapped_column(default=False)
    min_order_quantity: Mapped[Decimal] = mapped_column(
        sa.CheckConstraint("min_order_quantity > 0", name="min_order_quantity"), default=Decimal(1)
    )
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    option_contracts: Mapped[list["OptionContract"]] = relationship(back_populates="asset", lazy="raise")
    corporate_actions: Mapped[list["CorporateAction"]] = relationship(back_populates="asset", lazy="raise")


class OptionContract(ObservedEntity, Entity):
    """An option on `asset`; `symbol` is its OCC symbol."""

    __tablename__ = "option_contracts"
    __table_args__ = (
        live_unique("symbol"),
        live_unique("contract_id"),
        sa.Index(None, "underlying_symbol", "expiration_date"),
        sa.Index(None, "expiration_date"),
    )

    asset_id: Mapped[UUID] = reference("assets.id")
    contract_id: Mapped[str | None] = mapped_column(sa.String(50), doc="The vendor's id.")
    symbol: Mapped[str] = mapped_column(sa.String(50))
    underlying_symbol: Mapped[str] = mapped_column(sa.String(50))
    root_symbol: Mapped[str | None] = mapped_column(sa.String(50))
    status: Mapped[str] = mapped_column(sa.String(50), default="active")
    is_tradable: Mapped[bool] = mapped_column(default=True)
    expiration_date: Mapped[date]
    option_type: Mapped[OptionType]
    option_style: Mapped[OptionStyle] = mapped_column(default=OptionStyle.AMERICAN)
    strike_price: Mapped[Decimal] = mapped_column(sa.CheckConstraint("strike_price >= 0", name="strike_price"))
    multiplier: Mapped[Decimal] = mapped_column(
        sa.CheckConstraint("multiplier > 0", name="multiplier"), default=Decimal(100), doc="Units per contract."
    )
    open_interest: Mapped[int | None] = mapped_column(sa.BigInteger)
    open_interest_date: Mapped[date | None]
    close_price: Mapped[Decimal | None]
    close_price_date: Mapped[date | None]
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    asset: Mapped[Asset] = relationship(back_populates="option_contracts", lazy="raise")


class PolymarketEvent(Entity):
    """A question of the world with one or more markets on it."""

    __tablename__ = "polymarket_events"
    __table_args__ = (live_unique("event_id"),)

    event_id: Mapped[str] = mapped_column(sa.String(100), doc="The venue's id.")
    slug: Mapped[str] = mapped_column(sa.String(200), default="", index=True)
    title: Mapped[str] = mapped_column(sa.String(500))
    description: Mapped[str] = mapped_column(default="")
    category: Mapped[str] = mapped_column(sa.String(100), default="", index=True)
    tags: Mapped[list[str]] = mapped_column(default=list)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_closed: Mapped[bool] = mapped_column(default=False)
    is_monitored: Mapped[bool] = mapped_column(default=False, index=True)
    event_created_at: Mapped[datetime | None]
    end_date: Mapped[datetime | None]
    total_volume: Mapped[Decimal] = mapped_column(WIDE, default=Decimal(0), doc="Quote currency.")
    total_liquidity: Mapped[Decimal] = mapped_column(WIDE, default=Decimal(0), doc="Quote currency.")
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    markets: Mapped[list["PolymarketMarket"]] = relationship(
        back_populates="event", lazy="raise", order_by="PolymarketMarket.id"
    )


class PolymarketMarket(Entity):
    """One question that resolves to one of its outcomes."""

    __tablename__ = "polymarket_markets"
    __table_args__ = (live_unique("condition_id"), live_unique("market_id"))

    polymarket_event_id: Mapped[UUID] = reference("polymarket_events.id")
    market_id: Mapped[str | None] = mapped_column(sa.String(100), doc="The venue's number of the market.")
    condition_id: Mapped[str] = mapped_column(sa.String(100), doc="The market's id on the chain and in its feeds.")
    question_id: Mapped[str] = mapped_column(sa.String(100), default="")
    question: Mapped[str] = mapped_column(sa.String(1000))
    slug: Mapped[str] = mapped_column(sa.String(200), default="", index=True)
    start_date: Mapped[datetime | None]
    end_date: Mapped[datetime | None]
    is_active: Mapped[bool] = mapped_column(default=True)
    is_closed: Mapped[bool] = mapped_column(default=False)
    is_neg_risk: Mapped[bool] = mapped_column(default=False, doc="Exactly one market of the event resolves to Yes.")
    tick_size: Mapped[Decimal | None] = mapped_column(sa.CheckConstraint("tick_size > 0", name="tick_size"))
    min_order_size: Mapped[Decimal | None]
    volume: Mapped[Decimal] = mapped_column(WIDE, default=Decimal(0), doc="Quote currency.")
    liquidity: Mapped[Decimal] = mapped_column(WIDE, default=Decimal(0), doc="Quote currency.")
    resolved_at: Mapped[datetime | None]
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    event: Mapped[PolymarketEvent] = relationship(back_populates="markets", lazy="raise")
    outcomes: Mapped[list["PolymarketOutcome"]] = relationship(
        back_populates="market", lazy="raise", order_by="PolymarketOutcome.outcome_index"
    )


class PolymarketOutcome(ObservedEntity, Entity):
    """One outcome of a market and the token that pays 1 if it comes true."""

    __tablename__ = "polymarket_outcomes"
    __table_args__ = (live_unique("token_id"), live_unique("polymarket_market_id", "outcome_index"))

    polymarket_market_id: Mapped[UUID] = reference("polymarket_markets.id")
    token_id: Mapped[str] = mapped_column(sa.String(100), doc="Up to 78 digits, and therefore text.")
    outcome: Mapped[str] = mapped_column(sa.String(200), doc="Its name, e.g. Yes.")
    outcome_index: Mapped[int] = mapped_column(sa.SmallInteger)
    price: Mapped[Decimal | None] = mapped_column(doc="Last known probability, 0 to 1.")
    winner: Mapped[bool | None] = mapped_column(doc="Null until the market is resolved.")
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    market: Mapped[PolymarketMarket] = relationship(back_populates="outcomes", lazy="raise")


class CorporateAction(Entity):
    """What a company did to its shares, effective before the open of `ex_date`."""

    __tablename__ = "corporate_actions"
    __table_args__ = (
        live_unique("asset_id", "action_type", "ex_date"),
        sa.CheckConstraint("action_type <> 'split' OR num_nulls(new_shares, old_shares) = 0", name="split"),
        sa.CheckConstraint("action_type <> 'dividend' OR amount IS NOT NULL", name="dividend"),
        sa.CheckConstraint("action_type <> 'rename' OR new_symbol IS NOT NULL", name="rename"),
    )

    asset_id: Mapped[UUID] = reference("assets.id")
    action_type: Mapped[CorporateActionType]
    ex_date: Mapped[date]
    # Two numbers, because the ratio of a 1-for-3 split is no decimal.
    new_shares: Mapped[Decimal | None] = mapped_column(
        sa.CheckConstraint("new_shares > 0", name="new_shares"), doc="4 for a 4-for-1 split."
    )
    old_shares: Mapped[Decimal | None] = mapped_column(
        sa.CheckConstraint("old_shares > 0", name="old_shares"), doc="1 for a 4-for-1 split."
    )
    amount: Mapped[Decimal | None] = mapped_column(doc="Cash per share, in the asset's quote currency.")
    old_symbol: Mapped[str | None] = mapped_column(sa.String(50))
    new_symbol: Mapped[str | None] = mapped_column(sa.String(50))
    source: Mapped[str] = mapped_column(sa.String(100), default="manual")
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    asset: Mapped[Asset] = relationship(back_populates="corporate_actions", lazy="raise")

    @property
    def ratio(self) -> Fraction | None:
        """New shares per old share, exactly; None unless a split."""
        if self.new_shares is None or self.old_shares is None:
            return None
        return Fraction(self.new_shares) / Fraction(self.old_shares)
