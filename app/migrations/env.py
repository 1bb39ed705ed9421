"""What Alembic runs: migrations on the connection it was given."""

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from app.migrations import all_tables


def render_plainly(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our column types as the plain ones they are: history must not follow the code."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=all_tables(),
    render_as_batch=True,  # SQLite alters a table by copying it
    render_item=render_plainly,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
