"""Bytes of a lake's files that change by themselves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from olap.delta.log import LOG


def files_of(folder: Path, *, of_log: bool) -> list[Path]:
    """Those of the log or those of the data, in an order that no random name decides: of their last change."""
    files = folder.glob(f"{LOG}/*.json") if of_log else folder.glob("period=*/*.parquet")
    return sorted(files, key=lambda file: file.stat().st_mtime_ns)


def change(file: Path, chance: Random) -> None:
    """A bit, or one to eight bytes, anywhere; or the end is cut off."""
    content, kind = bytearray(file.read_bytes()), chance.random()
    if kind < 0.15:
        del content[chance.randrange(len(content)) :]
    elif kind < 0.5:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    else:
        for _ in range(chance.choice((1, 1, 2, 8))):
            content[chance.randrange(len(content))] ^= chance.randint(1, 255)
    file.write_bytes(content)


@contextmanager
def damaged(file: Path, chance: Random) -> Iterator[None]:
    """Within, the file is damaged; afterwards it is as it was."""
    content = file.read_bytes()
    kept = file.stat()
    change(file, chance)
    try:
        yield
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
