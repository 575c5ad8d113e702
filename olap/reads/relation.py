"""A query's relation, whose evaluation raises the store's errors."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from threading import Lock, Thread
from typing import Any, TypeVar, cast

import duckdb
import polars as pl

from medalion.core.errors import CorruptLakeError, InputError, MedalionError, StoreError
from olap.places.base import reaching, reading

T = TypeVar("T")

_INTERRUPT_SECONDS = 0.1
_MAY_READ = re.compile(r"\b(select|from|table|describe|summarize|pivot|unpivot|show)\b", re.IGNORECASE)
"""In a text by which a relation is made of another, what may name a table, of which more is read than was proven."""
_WRAPPED = ("DuckDBPyRelation", "GroupedRelation")


@dataclass(frozen=True, slots=True)
class Query:
    """A user's query, the places whose files it may read, and how many seconds an evaluation may take; None is any.

    `prove` proves what it reads, `prove_all` all of its files: a relation may be evaluated long after it was made.
    """

    text: str
    connection: duckdb.DuckDBPyConnection
    places: Sequence[str] = ()
    timeout: float | None = None
    prove: Callable[[], None] = lambda: None
    prove_all: Callable[[], None] = lambda: None

    def evaluated(self, work: Callable[[], T]) -> T:
        """What the work gives. In a thread of its own, for DuckDB heeds no signal while it runs: so Ctrl-C ends it.

        Raises:
            StoreError: it took longer than it may.
        """
        self.prove()
        done = Lock()  # which, other than what is made of it, a signal leaves as it is while somebody waits
        done.acquire()
        outcome: list[tuple[T, None] | tuple[None, BaseException]] = []

        def fulfil() -> None:
            try:
                outcome.append((work(), None))
            except BaseException as error:  # of whichever kind, it is raised to who waits
                outcome.append((None, error))
            finally:
                done.release()

        Thread(target=fulfil, name="medalion-query", daemon=True).start()
        try:
            is_done = done.acquire(timeout=-1 if self.timeout is None else self.timeout)
        except BaseException:
            self._interrupt(done)
            raise
        if not is_done:
            self._interrupt(done)
            raise StoreError(f"the query was stopped after {self.timeout:g} s, as timeout= asks")
        ((result, error),) = outcome
        if error is not None:
            raise error
        return cast(T, result)

    def _interrupt(self, done: Lock) -> None:
        """Until it has ended: an interrupt that comes before a query begins is lost."""
        self.connection.interrupt()
        while not done.acquire(timeout=_INTERRUPT_SECONDS):
            self.connection.interrupt()

    def answering(self) -> AbstractContextManager[None]:
        """As the function of that name."""
        return answering(self.text, self.places, self.prove_all)


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
        return self._guarded(found) if callable(found) else _wrapped(found, self._query)

    def __repr__(self) -> str:
        with self._query.answering():
            return self._query.evaluated(lambda: repr(self._relation))

    def __len__(self) -> int:
        with self._query.answering():
            return self._query.evaluated(lambda: len(self._relation))

    def __contains__(self, name: str) -> bool:
        return name in self._relation

    def __getitem__(self, column: str) -> Any:
        with self._query.answering():
            return _wrapped(self._relation[column], self._query)

    def __dir__(self) -> list[str]:
        return dir(self._relation)

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            given = [each._relation if type(each) is Relation else each for each in arguments]
            with self._query.answering():
                query = self._query
                if any(_MAY_READ.search(text) for text in (*arguments, *named.values()) if isinstance(text, str)):
                    query = replace(query, prove=query.prove_all)
                return _wrapped(query.evaluated(lambda: method(*given, **named)), query)

        return call


def _wrapped(result: Any, query: Query) -> Any:
    return Relation(result, query) if type(result).__name__ in _WRAPPED else result


@contextmanager
def answering(query: str, places: Sequence[str], prove: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turns what DuckDB raises of a user's query over the lakes in some places into the store's errors.

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
        # To DuckDB a file that is gone is a folder into which it may not look, and one that is cut bad input.
        if is_of_file or any(place in str(error) for place in places):
            raise CorruptLakeError(
                f"a file of the lake cannot be read: {error}; run `medalion mirror verify`"
            ) from error
        with reading():
            prove()  # of what is damaged DuckDB may say anything
        raise InputError(f"the query fails: {error}", given=query) from error
