"""New orders of the simulated venue."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from oltp.entities.venue import NEXT_EXECUTION_ID, PaperExecution, PaperOrder
from oltp.statements.base import attributes_of, table_of
from oltp.statements.prepared import Prepared

_ORDERS, _EXECUTIONS = table_of(PaperOrder), table_of(PaperExecution)
_EXECUTED = ("account_id", "quantity", "price", "commission", "quoted_at", "executed_at")


# The venue's answer is worth nothing before it is booked, and the commit that books it reaches the disk after this one,
# in the same log: no crash can keep the books and lose the order. So nobody waits for the disk twice.
_NOT_AWAITED = sa.func.set_config("synchronous_commit", "off", True)


def _placing() -> tuple[Prepared, Prepared]:
    """What stores an order unless its id is taken, alone and with an execution of it."""
    place = postgresql.insert(_ORDERS).on_conflict_do_nothing().returning(_ORDERS.c.id, _NOT_AWAITED)
    placed = place.values({column: sa.bindparam(column.name, type_=column.type) for column in _ORDERS.c}).cte("placed")
    values = [sa.bindparam(f"executed_{name}", type_=_EXECUTIONS.c[name].type) for name in _EXECUTED]
    execute = sa.insert(_EXECUTIONS).from_select(
        ["execution_id", "order_id", *_EXECUTED],
        sa.select(NEXT_EXECUTION_ID, placed.c.id, *values),
        include_defaults=False,
    )
    return Prepared(place), Prepared(execute.returning(_EXECUTIONS.c.execution_id, _NOT_AWAITED))


_PLACE, _PLACE_EXECUTED = _placing()


def place(connection: sa.Connection, order: PaperOrder, execution: PaperExecution | None) -> bool:
    """Store a new order and what was executed of it, which is given its id; False if the order's id is taken."""
    given = {name: getattr(order, name) for name in attributes_of(PaperOrder)}
    if execution is None:
        return _PLACE.row(connection, given) is not None
    given |= {f"executed_{name}": getattr(execution, name) for name in _EXECUTED}
    placed = _PLACE_EXECUTED.row(connection, given)
    if placed is not None:
        execution.execution_id = placed[0]
    return placed is not None
