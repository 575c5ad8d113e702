"""Rules 9 to 15: reads, imports, last values."""

from tests.machines.mutants.base import Mutant

_AS_TEXT = """text = statement.as_string(None)
        for place, value in reversed(list(enumerate(given.values(), 1))):
            text = text.replace(f"${place}::text", f"'{value}'::text")
        cursor.execute(text)"""

_PLAIN = "self._table.replace(self._table.pin(), self._table.pin().files.where(np.zeros(0, np.int64)), staged)"

READING = (
    Mutant(
        9,
        "floor is not looked at",
        "medalion/observations/selection.py",
        {"return tail.floor <= pin.batch and": "return"},
        ("mirror/test_mirror.py::test_a_stale_pin_never_shortens_a_read",),
    ),
    Mutant(
        9,
        "the list of writes and their rows come from two statements",
        "medalion/observations/selection.py",
        {"tail, hot = tail_rows(": "_, hot = tail_rows("},
        ("observations/test_protocol.py::test_rows_that_go_between_two_looks_at_the_books_are_not_missed",),
    ),
    Mutant(
        9,
        "the rows are read in repeatable read",
        "medalion/observations/selection.py",
        {
            "with postgres.arrow() as connection:": "with snapshot(postgres) as connection:",
            "from oltp.hot.tail import": "from oltp.repositories.snapshot import snapshot\nfrom oltp.hot.tail import",
        },
        ("observations/test_protocol.py::test_rows_that_go_while_a_read_waits_for_them_are_not_missed",),
    ),
    Mutant(
        9,
        "the rows are read through COPY",
        "oltp/hot/tail.py",
        {"cursor.execute(statement.as_string(None), tuple(given.values()))": _AS_TEXT},
        ("observations/test_protocol.py::test_rows_that_go_while_a_read_waits_for_them_are_not_missed",),
    ),
    Mutant(
        9,
        "a write that ends where the range begins is left out",
        "oltp/hot/tail.py",
        {"AND last_ts >= {start}": "AND last_ts > {start}"},
        ("observations/test_protocol.py::test_rows_at_the_ends_of_a_range_are_found_while_they_are_hot",),
    ),
    Mutant(
        10,
        "a query pins lakes as they were last seen",
        "medalion/observations/sql.py",
        {"lake.table(dataset).refresh() for": "lake.table(dataset).pin() for"},
        ("observations/test_protocol.py::test_a_query_sees_an_import_that_is_done",),
    ),
    Mutant(
        10,
        "floor is not asked again after the snapshot",
        "medalion/observations/sql.py",
        {"if is_whole and all(": "if is_whole or all("},
        ("observations/test_protocol.py::test_rows_that_go_within_the_snapshot_of_a_query_are_not_missed",),
    ),
    Mutant(
        10,
        "a query reads each table at a moment of its own",
        "oltp/repositories/snapshot.py",
        {"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY": "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"},
        ("observations/test_protocol.py::test_a_query_sees_several_datasets_at_one_moment",),
    ),
    Mutant(
        11,
        "the nonce of the pin is not compared",
        "medalion/observations/selection.py",
        {"tail.nonce == pin.nonce and": ""},
        ("observations/test_protocol.py::test_two_stores_at_the_same_batch_are_told_apart",),
    ),
    Mutant(
        11,
        "a query does not compare the nonce of its pins",
        "medalion/observations/sql.py",
        {"is_whole = is_whole and fits(pin, tail)": "pass"},
        ("observations/test_protocol.py::test_two_stores_at_the_same_batch_are_told_apart",),
    ),
    Mutant(
        11,
        "a replica that is behind is not waited for",
        "medalion/observations/selection.py",
        {"if is_behind and time.monotonic() < self._until:": "if False:"},
        ("observations/test_protocol.py::test_a_replica_that_is_behind_is_waited_for_and_not_for_ever",),
    ),
    Mutant(
        12,
        "a time that is not settled may be asked for",
        "medalion/observations/selection.py",
        {"if as_of > settled:": "if False:"},
        ("mirror/test_mirror.py::test_a_time_is_settled_only_when_no_earlier_write_can_appear",),
    ),
    Mutant(
        12,
        "open writes do not hold the settled time back",
        "oltp/ledger/batches.py",
        {"(SELECT min(xact_start) FROM holders), ": ""},
        ("mirror/test_mirror.py::test_a_time_is_settled_only_when_no_earlier_write_can_appear",),
    ),
    Mutant(
        12,
        "the clock is read after the open writes are looked for",
        "oltp/ledger/batches.py",
        {"least(%(clock)s,": "least(clock_timestamp(),"},
        (
            "observations/test_protocol.py::test_a_time_is_settled_by_a_clock_read_before_the_open_writes_are_looked_for",
        ),
    ),
    Mutant(
        12,
        "an open write whose start is hidden is taken for none",
        "oltp/ledger/batches.py",
        {"WHEN EXISTS (SELECT FROM holders WHERE xact_start IS NULL) THEN": "WHEN false THEN"},
        ("observations/test_protocol.py::test_a_time_is_not_settled_while_the_start_of_an_open_write_is_hidden",),
    ),
    Mutant(
        12,
        "claimed imports do not hold the settled time back",
        "oltp/ledger/batches.py",
        {", (SELECT min(recorded_at) FROM imports))": ")"},
        ("observations/test_protocol.py::test_a_time_is_not_settled_while_an_import_is_claimed",),
    ),
    Mutant(
        13,
        "an import is committed without its list of files",
        "medalion/mirror/copy.py",
        {"            files = staged_files(batch)": "            files = []"},
        ("ingest/test_history.py::test_an_import_follows_and_precedes_hot_writes_in_order_of_arrival",),
    ),
    Mutant(
        13,
        "the list of files is not kept",
        "oltp/ledger/batches.py",
        {"None if batch.file_list is None else Jsonb(batch.file_list)": "None"},
        ("ingest/test_history.py::test_an_import_follows_and_precedes_hot_writes_in_order_of_arrival",),
    ),
    Mutant(
        13,
        "an import is claimed beside a batch that is not done",
        "medalion/ingest/history.py",
        {
            "number = self._copier.finish(leader, dataset) + 1": (
                "number = max([0, *(b.number for b in batches.last_batches(leader, dataset))]) + 1"
            )
        },
        ("observations/test_protocol.py::test_an_import_finishes_the_batch_that_was_claimed_before_it",),
    ),
    Mutant(
        13,
        "an import is claimed while another leads",
        "medalion/ingest/history.py",
        {"turn.enter_context(batches.leading(leader, dataset))": "pass"},
        ("observations/test_protocol.py::test_an_import_waits_for_who_leads_before_it_is_claimed",),
    ),
    Mutant(
        13,
        "an import is a plain commit of the lake, which no batch claims",
        "medalion/ingest/history.py",
        {
            "        batches.enter_batch(writer, dataset, batch)": (
                f"        import numpy as np\n        staged = [file.file for file in files]\n        {_PLAIN}"
            )
        },
        ("mirror/test_mirror.py::test_a_stale_pin_never_shortens_a_read",),
    ),
    Mutant(
        14,
        "a pin below the newest import is used",
        "medalion/observations/selection.py",
        {" and tail.newest_import <= pin.batch": ""},
        ("mirror/test_mirror.py::test_a_stale_pin_never_shortens_a_read",),
    ),
    Mutant(
        14,
        "a pin below a claimed import is not refreshed",
        "medalion/observations/selection.py",
        {"if fits(pin, tail) and (has_refreshed or not is_import_coming):": "if fits(pin, tail):"},
        ("observations/test_protocol.py::test_an_import_that_is_in_the_lake_is_seen_by_all_or_none",),
    ),
    Mutant(
        15,
        "the last values of an import are shown before it is claimed",
        "medalion/ingest/history.py",
        {
            "turn.enter_context(batches.leading(leader, dataset))\n": (
                "turn.enter_context(batches.leading(leader, dataset))\n"
                "                from oltp.hot.writes import keep_last\n"
                "                newest = self._table.newest_rows([file.file for file in self.found.files])\n"
                "                keep_last(leader, dataset, newest, opened.recorded_at)\n"
            )
        },
        ("observations/test_protocol.py::test_the_latest_value_of_an_import_is_shown_no_earlier_than_its_rows",),
    ),
    Mutant(
        15,
        "the last values of an import are never kept",
        "medalion/mirror/copy.py",
        {"if newest.height:": "if False:"},
        ("observations/test_protocol.py::test_the_latest_value_of_an_import_is_shown_no_earlier_than_its_rows",),
    ),
    Mutant(
        15,
        "the latest value ignores a claimed import",
        "oltp/hot/last.py",
        {' and not held["has_claimed_import"]': ""},
        ("observations/test_protocol.py::test_the_latest_value_is_read_from_the_range_while_an_import_is_claimed",),
    ),
    Mutant(
        15,
        "a repair does not notice that it was overtaken",
        "oltp/hot/last.py",
        {"AND is_stale AND touched_by = %s": "AND %s IS NOT NULL"},
        ("observations/test_protocol.py::test_a_repair_that_a_write_has_overtaken_changes_nothing",),
    ),
    Mutant(
        15,
        "a tombstone leaves an entry that is shown",
        "oltp/hot/writes.py",
        {"is_stale=pl.lit(is_deleted)": "is_stale=pl.lit(False)"},
        ("observations/test_protocol.py::test_a_deletion_before_there_is_an_entry_shows_no_deleted_row",),
    ),
    Mutant(
        15,
        "a tombstone leaves the entry that it may have hit as it was",
        "oltp/hot/writes.py",
        {'"is_stale": sql.SQL("true")}': '"is_stale": sql.SQL("held.is_stale")}'},
        ("observations/test_observations.py::test_deleted_rows_are_absent_and_can_be_written_again",),
    ),
)
