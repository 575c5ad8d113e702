"""A query's relation, whose evaluation raises the store's errors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import duckdb
import polars as pl

from medalion.core.errors import CorruptLakeError, InputError, MedalionError
from olap.places.base import reaching

_WRAPPED = ("DuckDBPyRelation", "GroupedRelation")


@dataclass(frozen=True, slots=True)
class Query:
    """A user's query, and the places whose files it may read."""

    text: str
    places: Sequence[str] = ()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turns what DuckDB raises of it into the store's errors.

        Raises:
            InputError: something in the query is wrong.
            CorruptLakeError: a file of the lake is missing or damaged.
            StoreUnavailableError: an object store does not answer.
        """
        try:
            with reaching(duckdb.Error):
                yield
        except MedalionError:
            raise
        except (duckdb.Error, pl.exceptions.PolarsError, OSError) as error:
            is_of_file = isinstance(error, duckdb.IOException | duckdb.HTTPException | OSError)
            # A file that is gone looks like a folder to DuckDB, into which it may not look.
            is_missing = isinstance(error, duckdb.PermissionException) and any(p in str(error) for p in self.places)
            if is_of_file or is_missing:
                raise CorruptLakeError(
                    f"a file of the lake cannot be read: {error}; run `medalion mirror verify`"
                ) from error
            raise InputError(f"the query fails: {error}", given=self.text) from error


class Relation:
    """A DuckDB relation with all it can do; only its errors are others.

    What it can do is asked of the relation itself, and a relation that comes of it is wrapped likewise.
    """

    def __init__(self, relation: Any, query: Query) -> None:
        self._relation = relation
        self._query = query

    # To whoever asks it is what it stands for.
    __class__ = property(lambda self: type(self._relation))

    def __getattr__(self, name: str) -> Any:
        with self._query.answering():
            found = getattr(self._relation, name)
        return self._guarded(found) if callable(found) else self._wrapped(found)

    def __repr__(self) -> str:
        with self._query.answering():
            return repr(self._relation)

    def __len__(self) -> int:
        with self._query.answering():
            return len(self._relation)

    def __contains__(self, name: str) -> bool:
        return name in self._relation

    def __getitem__(self, column: str) -> Any:
        with self._query.answering():
            return self._wrapped(self._relation[column])

    def __dir__(self) -> list[str]:
        return dir(self._relation)

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            given = [each._relation if type(each) is Relation else each for each in arguments]
            with self._query.answering():
                return self._wrapped(method(*given, **named))

        return call

    def _wrapped(self, result: Any) -> Any:
        return Relation(result, self._query) if type(result).__name__ in _WRAPPED else result
