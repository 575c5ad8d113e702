"""What is copied in binary arrives as it was, to the last digit."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from oltp.hot.binary import HEADER, TRAILER, copy_binary
from tests.support.interleaved import connected

LEVELS = pl.List(pl.Struct({"price": pl.Decimal(18, 8), "size": pl.Decimal(18, 8)}))
MOMENTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(9999, 1, 1, tzinfo=UTC),
]
KINDS: dict[str, tuple[pl.DataType, list[Any]]] = {
    "text": (pl.String(), ["", "AAA", 'a "b",\n\\N\t', "é€"]),
    "timestamptz": (pl.Datetime("us", "UTC"), MOMENTS),
    "numeric(18,8)": (pl.Decimal(18, 8), [0, 1, -1, 10**8, -(10**12), 10**16, 10**18 - 1, 1 - 10**18]),
    "numeric(28,8)": (pl.Decimal(28, 8), [0, -1, 10**16 - 1, 10**16, -(10**19), 10**28 - 1, 1 - 10**28]),
    "int8": (pl.Int64(), [0, -1, 2**63 - 1, -(2**63)]),
    "int4": (pl.Int32(), [0, -1, 2**31 - 1, -(2**31)]),
    "int2": (pl.Int16(), [0, 7]),
    "bool": (pl.Boolean(), [True, False]),
    "jsonb": (LEVELS, [[], [("-0.00000001", "1234567890.12345678"), ("2.00000000", "0.50000000")]]),
}


def as_polars(kind: str, value: Any) -> Any:
    if kind.startswith("numeric"):
        return Decimal(value).scaleb(-8)
    return [{"price": Decimal(p), "size": Decimal(s)} for p, s in value] if kind == "jsonb" else value


def as_read(kind: str, value: Any) -> Any:
    return [list(level) for level in value] if kind == "jsonb" else as_polars(kind, value)


@pytest.mark.parametrize("nulls", ["none", "some", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_value_arrives_as_it_was(database_url: str, kind: str, nulls: str) -> None:
    dtype, values = KINDS[kind]
    held = {"none": values * 2, "some": [*values, None, *values], "all": [None] * 3}[nulls]
    column = pl.Series([None if value is None else as_polars(kind, value) for value in held], dtype=dtype)
    rows = pl.DataFrame({"place": pl.int_range(len(held), eager=True), "it": column, "source": "import", "slot": 3})
    with connected(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE held (place int8, it {kind}, source text, slot int4)")
        with cursor.copy("COPY held FROM STDIN (FORMAT binary)") as copy:
            copy.write(HEADER)
            for part in (rows[:1], rows[1:]):
                copy.write(copy_binary(part))
            copy.write(TRAILER)
        read = cursor.execute("SELECT * FROM held ORDER BY place").fetchall()
    expected = [None if value is None else as_read(kind, value) for value in held]
    assert read == [(place, value, "import", 3) for place, value in enumerate(expected)]
