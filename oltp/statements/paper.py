"""New orders of the simulated venue."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from oltp.entities.venue import PaperExecution, PaperOrder
from oltp.statements.base import attributes_of, table_of

_ORDERS, _EXECUTIONS = table_of(PaperOrder), table_of(PaperExecution)
_PLACE = postgresql.insert(_ORDERS).on_conflict_do_nothing().returning(_ORDERS.c.id)
_EXECUTE = sa.insert(_EXECUTIONS).returning(_EXECUTIONS.c.execution_id)


def place(connection: sa.Connection, order: PaperOrder, execution: PaperExecution | None) -> bool:
    """Store a new order and what was executed of it, which is given its id; False if the order's id is taken."""
    given = {name: getattr(order, name) for name in attributes_of(PaperOrder)}
    if connection.execute(_PLACE, given).first() is None:
        return False
    if execution is not None:
        executed = {name: getattr(execution, name) for name in attributes_of(PaperExecution) if name != "execution_id"}
        execution.execution_id = connection.execute(_EXECUTE, executed).scalar_one()
    return True
