"""Bars of any timeframe: those that are stored, those that are made on reading, and those that are kept beforehand.

Bars are stored rows of their dataset, continued by bars made of finer ones (`continuation`), else made of quotes
(`routes`, `read`). What is asked for often is made beforehand and kept (`kept`, `refresh`); `downsampling` makes bars
that outlive their quotes.

What a bar is made of may not depend on the range that was asked for: else a bar would be there in a read of its day and
another in a read of its year. So `continuation` looks for the first and last stored bar beyond the range too.

What must hold of kept bars at all times, what keeps it, and what would break it:

1. **The answer is the same with kept bars and without.** `KeptBars.split` takes them only for the spans in which the
   ledger knows of no change since they were made, and `still_hold` asks again after they were read. It would break if
   either question were left out: the first answer alone is old by the time the bars have been read.
2. **A series that is entered up to write N holds what every write at or below N brought.** N is drawn before anything
   is read, and only where no write at or below it is still open (`oltp.ledger.rollups.complete_until`); the entry comes
   after the bars (`put_series`, `advance_series`). It would break with the newest write's number instead, since writes
   commit out of order, and with an entry made before the bars, since a refresh may be killed between the two.
3. **Every later change is told by a ledger entry above N, whose span in time and instruments leaves out no row.**
   `changed_spans` widens it to whole bars, for one row changes its whole bar. It would break where rows change without
   a write: folded entries (`folded_until`) and retention (`RemovalMarks`) are asked for by name, and a repair or a
   rebinding forgets the series (`oltp.ledger.rollups.forget`). Whatever new way to change rows there is does likewise.
4. **Kept bars are made from what a read would make them from now.** An entry has its origin (source, dataset, finer
   timeframe). Once finer bars are stored beside quotes, the routes lead elsewhere, the origin differs, and what was
   kept is passed over until a refresh has made it anew.
5. **Nobody takes a kept bar for a stored one.** They lie in the bars' dataset under the source `rollup:…`, which is
   never entered among an instrument's sources and to which no caller may write (`oltp.hot.sources.is_made`). Only what
   shows the rows of every source, as the views `…_by_source` of `store.sql`, shows them too.
6. **One refresh at a time writes a rollup.** An advisory lock says so, and all its writes go through the connection
   that holds it: a refresh that has lost the lock has lost its connection, and cannot write any more.
7. **A refresh can die at any step.** Reads do not depend on it: a series that is being built has no entry, and one that
   is brought up keeps its old N until the end, so that what was changed counts as changed still. The next refresh
   compares with what is held, and writes only what differs.
8. **No bar is made from a part of its rows.** Changes are widened to edges between bars (`bars_of`), and the finer rows
   are read for whole bars (`Grid.rows`).
9. **What depends on more than the current rows of one series is never kept**: reads with `as_of`, with prices adjusted
   for splits, or with the columns of arrival make their bars, and so do those of several sources or timeframes, among
   which a row that comes changes bars outside of its own span (`Route.keepable`).
"""
