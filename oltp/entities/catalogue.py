"""Every mapped class: whoever asks for all of them imports them by this."""

from oltp.entities import journal, operations, reference, trading, venue
from oltp.entities.base import Base, Entity

MODULES = (journal, operations, reference, trading, venue)
"""The modules whose classes, with the datasets' tables, make up the schema."""

METADATA = Base.metadata
"""The tables of all of them."""


def entities() -> list[type[Entity]]:
    """The classes with an identity and a history."""
    return [mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, Entity)]
