"""What callers may name an account, a strategy, a signal or an instrument by."""

from typing import TypeAlias
from uuid import UUID

from medalion.market.instrument import Instrument
from oltp.entities.reference import Asset, OptionContract, PolymarketOutcome
from oltp.entities.trading import Account, Strategy, TradingSignal

AccountLike: TypeAlias = Account | UUID | str
"""An account, its id or its name."""


StrategyLike: TypeAlias = Strategy | UUID | str
"""A strategy, its id or its name."""


SignalLike: TypeAlias = TradingSignal | UUID | str
"""A signal or its id."""


Tradable: TypeAlias = Asset | OptionContract | PolymarketOutcome | Instrument | str
"""What to trade: the asset, contract or outcome, or its ticker, contract symbol or token id."""
