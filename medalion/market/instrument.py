"""What can be traded, and what its observations are known by."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from medalion.core.enums import InstrumentKind


@dataclass(frozen=True, slots=True)
class Instrument:
    """What can be ordered: its number, its name, units per contract, and the entities it stands for.

    One that is not tradable can still be closed; one that is resolved or has expired is settled instead.
    """

    kind: InstrumentKind
    instrument_id: int
    symbol: str
    multiplier: Decimal = Decimal(1)
    asset_id: UUID | None = None
    option_contract_id: UUID | None = None
    outcome_id: UUID | None = None
    polymarket_event_id: UUID | None = None
    is_tradable: bool = True
    is_resolved: bool = False
    expiration_date: date | None = None
    tick_size: Decimal | None = None
    min_order_size: Decimal | None = None
