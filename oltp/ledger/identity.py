"""Which store the ledger is that of, and whether it has ever had a lake."""

from oltp.server.engine import Connection, one


def store_id(connection: Connection) -> int:
    """The store's random number, the same for as long as its database lives; copies of the database have it too."""
    (number,) = one(connection.execute("SELECT id FROM store_identity").fetchone())
    return int(number)


def has_lake(connection: Connection) -> bool:
    """Whether a batch or an anchor was ever given to a lake."""
    (has,) = one(connection.execute("SELECT EXISTS (SELECT FROM mirror_batches)").fetchone())
    return bool(has)
