"""Repair of what verification finds: from the hot rows, from copies, and from what damaged files still prove.

A row is taken back only where its whole write then has the count and checksum of the ledger, so that nothing unproven
enters the lake. What no source proves is booked as lost, by write, and everything that was whole stays as it is. The
repair of the lake is one commit, entered in the ledger before and noted after, like a removal; a crash at any step
leaves something that the next repair takes up.
"""

from collections.abc import Callable, Iterable
from io import BytesIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from medalion.core.checksum import signed
from medalion.core.errors import CorruptLakeError, StoreError
from medalion.core.frames import polars_schema
from medalion.mirror.compaction import staging
from medalion.mirror.verification import Findings, Sums, entered_of, examine, kept_of
from olap.delta.compaction import checked, current_since
from olap.delta.tables import LakeTable
from olap.files.index import Files
from oltp.hot.export import rows_of_writes
from oltp.ledger import batches, losses
from oltp.ledger.removals import enter_removal, note_removal, retention_bounds
from oltp.server.engine import Connection, Postgres

Outcome = tuple[str, str, str]
"""Subject, problem, and what became of it: `repaired`, `lost`, `changed` or `left`."""

_PLACE = ["write_id", "ordinal"]


def heal(postgres: Postgres, table: LakeTable, connection: Connection, finish: Callable[[], object]) -> list[Outcome]:
    """Repair what can be repaired; what became of everything that was found. The caller maintains and leads."""
    table.owned()
    first = examine(postgres, table, connection)
    if first.pin is None or not first.problems:
        return [(*problem, "left") for problem in first.problems]
    gone = _heal_hot(postgres, connection, table, first)
    try:
        finish()
    except CorruptLakeError:
        return [(*problem, "left") for problem in examine(postgres, table, connection).problems]
    now = examine(postgres, table, connection)
    gone |= _Repair(postgres, table, connection, now).run()
    _give_up_hot(connection, table, now)
    return _told(connection, table, first, gone, examine(postgres, table, connection))


def _heal_hot(
    postgres: Postgres, connection: Connection, table: LakeTable, found: Findings
) -> dict[int, tuple[int, int]]:
    """Remove copies of hot rows; of writes that are nowhere else, book what is missing or changed. What was booked."""
    wrong = [entry for entry in found.writes.iter_rows(named=True) if _is_wrong_hot(found, entry)]
    losses.remove_copies(connection, table.dataset, [entry["write_id"] for entry in wrong])
    only_here = [entry for entry in wrong if not entry["is_done"]]
    held = Sums()
    with postgres.arrow() as source:
        for part in rows_of_writes(source, table.dataset, [entry["write_id"] for entry in only_here]):
            held.add(table.dataset, part)
    gone: dict[int, tuple[int, int]] = {}
    for entry in only_here:
        rows, checksum = entered_of(entry)
        count, total = held.of(entry["write_id"])
        if (rows, checksum) != (count, signed(total)):
            gone[entry["write_id"]] = (rows - count, signed(checksum - total))
    losses.book(connection, table.dataset, gone)
    return gone


def _is_wrong_hot(found: Findings, entry: dict[str, object]) -> bool:
    return bool(entry["is_hot"]) and found.in_hot.problem(int(str(entry["write_id"])), *entered_of(entry)) is not None


def _give_up_hot(connection: Connection, table: LakeTable, found: Findings) -> None:
    """Remove hot rows that differ from the ledger and are in the lake."""
    wrong = [entry for entry in found.writes.iter_rows(named=True) if _is_wrong_hot(found, entry)]
    losses.give_up(connection, table.dataset, [entry["write_id"] for entry in wrong if entry["is_done"]])


class _Repair:
    """The lake's part: which writes are not whole there, what proves them again, and the commit.

    Folded writes count together, under the number 0.
    """

    def __init__(self, postgres: Postgres, table: LakeTable, connection: Connection, found: Findings) -> None:
        if found.pin is None:
            raise CorruptLakeError(f"the log of {table.place} cannot be read; nothing was repaired")
        self._postgres, self._table, self._connection = postgres, table, connection
        self._found, self._pin = found, found.pin
        self._dataset = table.dataset
        self._known = set(found.writes["write_id"])
        self._files = {str(path): place for place, path in enumerate(self._pin.files.path)}
        self._good = [path for path in self._files if path not in set(found.damaged)]
        self._expected = {
            entry["write_id"]: kept_of(entry)
            for entry in found.writes.iter_rows(named=True)
            if entry["is_done"] and entry["batch"] <= self._pin.batch
        }
        self._expected[0] = (found.folded[0], found.folded[1])
        in_lake = self._sums_by_unit(found.in_lake)
        self._wrong = {unit: expected for unit, expected in self._expected.items() if _sum(in_lake, unit) != expected}

    def run(self) -> dict[int, tuple[int, int]]:
        """Put back what is proven, and commit; by unit, the rows and the sum that are lost."""
        if not self._wrong and not self._found.damaged:
            return {}
        salvaged, entered = self._salvaged(), self._hot()
        hot = self._retained(entered)
        places = self._of_good(self._wrong).select(_PLACE).collect()
        todo, extra, rebuilt = set(self._wrong), [self._empty()], [self._empty()]
        for candidate in (salvaged, hot, _joined(hot, salvaged), entered):
            missing = candidate.filter(self._of(todo)).join(places, on=_PLACE, how="anti")
            proven = self._proven(missing, beside=self._found.in_lake) & todo
            extra.append(missing.filter(self._of(proven)))
            todo -= proven
        # Rows that are there twice, or changed: the write is put together anew.
        anew = self._holding_all(places, todo) | self._holding_all(hot, todo)
        held = self._of_good(anew).collect().unique(maintain_order=True)
        for candidate in (held, _joined(held, hot), _joined(held, salvaged), hot, entered):
            proven = self._proven(candidate.filter(self._of(anew & todo))) & anew & todo
            rebuilt.append(candidate.filter(self._of(proven)))
            todo -= proven
        # What nothing proves stays as far as it lies in whole files or in the hot table.
        rebuilt.append(_joined(held, hot).filter(self._of(anew & todo)))
        extra.append(hot.filter(self._of(todo - anew)).join(places, on=_PLACE, how="anti"))
        return self._commit(pl.concat(extra), pl.concat(rebuilt), anew)

    def _commit(self, extra: pl.DataFrame, rebuilt: pl.DataFrame, anew: set[int]) -> dict[int, tuple[int, int]]:
        """One commit: without damaged files, with `extra` rows, and those of the units `anew` as they are rebuilt."""
        removed = list(self._found.damaged)
        gone = self._gone(extra, rebuilt, anew)
        with staging(self._table) as staged:
            for path in self._good if anew else ():
                rows = pl.read_parquet(checked(self._table, path), hive_partitioning=False)
                rest = rows.filter(~self._of(anew))
                if rest.height < rows.height:
                    removed.append(path)
                    staged += self._table.stage(rest, {}) if rest.height else []
            for rows in (extra, rebuilt):
                staged += self._table.stage(rows, {}) if rows.height else []
            nonce = batches.new_nonce()
            enter_removal(self._connection, self._dataset, gone, nonce=nonce, is_lost=True)
            if self._table.replace(self._pin, self._removed(removed), staged, removal=nonce) is None:
                raise StoreError(f"another has changed the files of {self._table.place} meanwhile; run it again")
        note_removal(self._connection, self._dataset)
        return gone

    def _gone(self, extra: pl.DataFrame, rebuilt: pl.DataFrame, anew: set[int]) -> dict[int, tuple[int, int]]:
        """By unit, the rows and the sum by which the lake will be short of the ledger."""
        after = self._sums_by_unit(self._counted(extra, rebuilt))
        before = self._sums_by_unit(self._found.in_lake)
        gone = {}
        for unit, (rows, checksum) in self._wrong.items():
            kept = [after.of(unit), before.of(unit) if unit not in anew else (0, 0)]
            short = (rows - sum(count for count, _ in kept), signed(checksum - sum(total for _, total in kept)))
            if short != (0, 0):
                gone[unit] = short
        return gone

    def _holding_all(self, rows: pl.DataFrame, units: set[int]) -> set[int]:
        """Those of the units of which there are at least as many rows as there should be."""
        counts = self._sums_by_unit(Sums({write: (n, 0) for write, n in rows.group_by("write_id").len().iter_rows()}))
        return {unit for unit in units if counts.of(unit)[0] >= max(1, self._wrong[unit][0])}

    def _counted(self, *frames: pl.DataFrame) -> Sums:
        sums = Sums()
        for rows in frames:
            if rows.height:
                sums.add(self._dataset, rows)
        return sums

    def _removed(self, paths: list[str]) -> Files:
        wanted = set(paths)
        return self._pin.files.where(np.array([path in wanted for path in self._files], np.bool_))

    def _proven(self, rows: pl.DataFrame, *, beside: Sums | None = None) -> set[int]:
        """The wrong units that have the ledger's count and checksum with these rows, and those counted beside them."""
        both = self._counted(rows)
        for write_id, (count, total) in beside.held.items() if beside is not None else ():
            both.count(write_id, count, total)
        by_unit = self._sums_by_unit(both)
        return {unit for unit, expected in self._wrong.items() if _sum(by_unit, unit) == expected}

    def _sums_by_unit(self, sums: Sums) -> Sums:
        found = Sums()
        for write_id, (rows, total) in sums.held.items():
            if (unit := self._unit(write_id)) is not None:
                found.count(unit, rows, total)
        return found

    def _unit(self, write_id: int) -> int | None:
        if write_id in self._known:
            return write_id
        return 0 if write_id <= self._found.folded[2] else None

    def _of(self, units: Iterable[int]) -> pl.Expr:
        """Rows of these units."""
        units = set(units)
        chosen = pl.col("write_id").is_in(sorted(units - {0}))
        if 0 in units:
            known = pl.col("write_id").is_in(sorted(self._known))
            chosen = chosen | (~known & (pl.col("write_id") <= self._found.folded[2]))
        return chosen

    def _of_good(self, units: Iterable[int]) -> pl.LazyFrame:
        """The rows of these units in files that are whole."""
        if not self._good:
            return self._empty().lazy()
        rows = self._table.scan(self._good)
        return rows.select(self._dataset.stored.names).filter(self._of(units))

    def _empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema=polars_schema(self._dataset.stored))

    def _hot(self) -> pl.DataFrame:
        with self._postgres.arrow() as source:
            return pl.concat([self._empty(), *rows_of_writes(source, self._dataset, sorted(self._wrong))])

    def _retained(self, hot: pl.DataFrame) -> pl.DataFrame:
        """The hot rows without those that retention took from the lake.

        The ledger says of a write how many went, and their sum, not which. They lay in partitions that ended by then,
        or later rows of their keys had superseded them.
        """
        writes = self._found.writes
        shortened = self._of(writes.filter(pl.col("dropped_rows") != 0)["write_id"])
        if hot.filter(shortened).is_empty():
            return hot
        bounds = retention_bounds(self._connection, self._dataset)
        left = hot.filter(~shortened | (pl.col("ts") >= bounds.kept_from))
        rows = self._table.scan(self._good) if self._good else self._empty().lazy()
        others = rows.select(hot.columns).join(left.lazy(), on=list(self._dataset.key), how="semi").collect()
        every = _joined(left, others).sort(*self._dataset.key, *_PLACE)
        current = current_since(self._dataset, every, bounds.known_from, below=max(writes["write_id"]) + 1)
        return left.filter(~shortened).vstack(left.filter(shortened).join(current, on=_PLACE, how="semi"))

    def _salvaged(self) -> pl.DataFrame:
        """What can still be decoded of damaged files, a row group at a time; none of it is proven yet."""
        found = [self._empty()]
        for path in self._found.damaged:
            try:
                content = self._table.place.read(path)
            except OSError:
                continue
            found += _decodable(content, self._empty().schema)
        return pl.concat(found).filter(self._of(self._wrong)).unique(_PLACE, keep="first", maintain_order=True)


def _decodable(content: bytes, schema: pl.Schema) -> list[pl.DataFrame]:
    found = []
    try:
        file = pq.ParquetFile(BytesIO(content))
        for group in range(file.num_row_groups):
            try:
                decoded = file.read_row_group(group)
                decoded.validate(full=True)  # or a text that is none any more would be refused where it is hashed
                rows = pl.DataFrame(decoded)
                found.append(rows.select(schema.names()).cast(schema))
            except (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
                continue
    except (pa.ArrowException, OSError, ValueError):
        return []
    return found


def _joined(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """The rows of both; of one place, that of the first."""
    return pl.concat([first, second.join(first, on=_PLACE, how="anti")])


def _sum(sums: Sums, unit: int) -> tuple[int, int]:
    rows, total = sums.of(unit)
    return rows, signed(total)


def _told(
    connection: Connection, table: LakeTable, first: Findings, gone: dict[int, tuple[int, int]], last: Findings
) -> list[Outcome]:
    """What became of each problem of the first look, what is lost, and what the last look still finds."""
    left = set(last.problems)
    named = {f"write {unit}": unit for unit in gone if unit} | ({"folded writes": 0} if 0 in gone else {})
    told: list[Outcome] = []
    for problem in first.problems:
        is_of_loss = any(problem[0] == name or problem[0].startswith((f"{name},", f"{name} ")) for name in named)
        if problem not in left and not is_of_loss:
            told.append((*problem, "repaired"))
    for name, unit in named.items():
        rows, _ = gone[unit]
        text = losses.described(connection, table.dataset, unit) if unit else "of entries that were folded"
        if rows > 0:
            told.append((name, f"{rows:,} rows are lost, {text}", "lost"))
        else:
            told.append((name, f"rows of it, or its entry, were changed and stay as they are, {text}", "changed"))
    return told + [(*problem, "left") for problem in last.problems]
