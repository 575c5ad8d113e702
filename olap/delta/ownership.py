"""Whose a table of the lake is: a random number, which the ledger of its store has too."""

from deltalake import DeltaTable, Transaction

from medalion.core.errors import CorruptLakeError
from olap.places.open import Place

OWNER = "medalion-store"
"""The application transaction whose version is the number of the store that a table belongs to."""


def shown_store(number: int) -> str:
    """The number of a store as people see it, and type it."""
    return f"{number:016x}"


def foreign(place: Place, owner: int | None, store: int | None) -> CorruptLakeError:
    """That a table belongs to another store than the one that would change it."""
    this = "" if store is None else f", and this is store {shown_store(store)}"
    if owner is None:
        return CorruptLakeError(
            f"{place} was written by a store that had no number yet{this}, whose ledger knows nothing of it: nothing "
            "was changed; give the lake of this store with lake=, or bind this one to it with `medalion mirror rebind`"
        )
    return CorruptLakeError(
        f"{place} belongs to store {shown_store(owner)}{this}: nothing was changed; give the lake of this store with "
        f"lake=, or take this one over with `medalion mirror rebind --adopt {shown_store(owner)}`"
    )


def owner_mark(place: Place, handle: DeltaTable, store: int | None, *, is_adopting: bool = False) -> list[Transaction]:
    """What a commit has to set, that the table be the store's from then on: nothing where it is.

    Raises:
        CorruptLakeError: it is another store's, and `is_adopting` does not say to take it.
    """
    owner = handle.transaction_version(OWNER)
    if owner == store:
        return []
    if store is None or (owner is not None and not is_adopting):
        raise foreign(place, owner, store)
    return [Transaction(OWNER, store)]
