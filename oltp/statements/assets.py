"""Assets by their ticker."""

import sqlalchemy as sa

from medalion.core.enums import AssetType
from oltp.entities.reference import Asset
from oltp.statements.base import made, table_of
from oltp.statements.prepared import Prepared

_ASSETS = table_of(Asset)
_NAMED = sa.select(_ASSETS).where(
    _ASSETS.c.symbol == sa.bindparam("symbol", type_=sa.String()), sa.not_(_ASSETS.c.is_deleted)
)
_OF_ANY_TYPE = Prepared(_NAMED.where(_ASSETS.c.asset_type != AssetType.OPTION))
_OF_TYPE = Prepared(_NAMED.where(_ASSETS.c.asset_type == sa.bindparam("asset_type", type_=_ASSETS.c.asset_type.type)))


def named(connection: sa.Connection, symbol: str, asset_type: AssetType | None = None) -> list[Asset]:
    """The assets of that ticker, of one type or of every type that is traded under a ticker."""
    if asset_type is None:
        rows = _OF_ANY_TYPE.rows(connection, {"symbol": symbol})
    else:
        rows = _OF_TYPE.rows(connection, {"symbol": symbol, "asset_type": asset_type})
    return [made(Asset, row) for row in rows]
