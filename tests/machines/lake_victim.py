"""A process that writes to a store and keeps its lake, made to be killed; what it had done is told before and after.

Rows have one of `KEYS` keys, spread over days, and a value that no other write has, so that what is read says which
writes it holds.
"""

import os
import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeAlias

import polars as pl

from medalion.core.datasets import STOCK_QUOTES
from medalion.core.frames import polars_schema
from tests.machines.lake_faces import Face, opened
from tests.machines.lake_steps import at_step
from tests.support.observed import START, SYMBOLS

KEYS = 48
FEED = "manual"
AT_ONCE = timedelta()
_GIVEN = ("symbol", "ts", "bid_price", "bid_size", "ask_price", "ask_size", "event_id")

Shelf: TypeAlias = dict[int, int]


@dataclass(frozen=True)
class Operation:
    """One call that changes rows: `write`, `import` or `delete` of keys."""

    kind: str
    keys: tuple[int, ...]
    value: int

    def after(self, shelf: Shelf) -> Shelf:
        """What is held once it is done."""
        kept = {key: value for key, value in shelf.items() if key not in self.keys}
        return kept if self.kind == "delete" else kept | dict.fromkeys(self.keys, self.value)

    def perform(self, face: Face) -> None:
        if self.kind == "write":
            face.ingestion.write(STOCK_QUOTES, rows_of(self.keys, self.value), source=FEED)
        elif self.kind == "import":
            face.ingestion.import_history(STOCK_QUOTES, rows_of(self.keys, self.value), source=FEED)
        else:
            start, end = (_ts(key) for key in (self.keys[0], self.keys[-1] + 1))
            face.ingestion.delete(STOCK_QUOTES, symbols=SYMBOLS, start=start, end=end)


def rows_of(keys: Iterable[int], value: int) -> pl.DataFrame:
    rows = [(SYMBOLS[key % 2], _ts(key), Decimal(value), Decimal(1), None, None, key) for key in keys]
    schema = {name: polars_schema(STOCK_QUOTES.stored)[name] for name in _GIVEN}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _ts(key: int) -> datetime:
    return START + timedelta(hours=key)


def shelf_of(rows: pl.DataFrame) -> Shelf:
    """What a read shows; a key that is there twice is an error."""
    assert rows["event_id"].is_unique().all()
    return dict(zip(rows["event_id"].to_list(), rows["bid_price"].cast(pl.Int64).to_list(), strict=True))


def drawn(chance: random.Random, value: int) -> Operation:
    kind = chance.choice(("write", "write", "write", "import", "delete"))
    if kind == "delete":
        first = chance.randrange(KEYS)
        return Operation(kind, tuple(range(first, min(KEYS, first + chance.randint(1, 6)))), value)
    return Operation(kind, tuple(chance.sample(range(KEYS), chance.randint(1, 8))), value)


UPKEEP = {
    "mirror": lambda face: face.mirror.run([STOCK_QUOTES], settle=True),
    "prune": lambda face: face.mirror.prune([STOCK_QUOTES]),
    "compact": lambda face: face.mirror.compact([STOCK_QUOTES]),
    "vacuum": lambda face: face.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE),
    "retain": lambda face: face.mirror.retain([STOCK_QUOTES], versions_older_than=AT_ONCE),
}


def face_of(postgres: Any, root: Path) -> Face:
    return Face.open(postgres, root, batch_rows=12, slot_rows=24)


def live(url: str, root: Path, name: str, first: int, upkeep: tuple[str, ...], told: Pipe) -> None:
    """Write for ever, with upkeep beside it; before and after each write say so."""
    lock, chance = Lock(), random.Random(name)

    def tell(what: str, of: object) -> None:
        with lock:
            told.send((what, of))

    with opened(url) as postgres:

        def keep() -> None:
            try:
                face, any_work = face_of(postgres, root), random.Random(f"{name} keeps")
                while True:
                    UPKEEP[any_work.choice(upkeep)](face)
            except BaseException as error:
                tell("wrong", f"{type(error).__name__}: {error}")

        Thread(target=keep, daemon=True).start()
        face = face_of(postgres, root)
        try:
            for value in count(first):
                op = drawn(chance, value)
                tell("begun", op)
                op.perform(face)
                tell("done", op)
        except BaseException as error:
            tell("wrong", f"{type(error).__name__}: {error}")


def die_at(url: str, root: Path, work: "Operation | str", step: str) -> None:
    """Do one work and be killed at a step of it: `module:attribute`, before it or once it is `done`."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with at_step(step, die), opened(url) as postgres:
        face = face_of(postgres, root)
        if isinstance(work, Operation):
            work.perform(face)
        else:
            UPKEEP[work](face)
