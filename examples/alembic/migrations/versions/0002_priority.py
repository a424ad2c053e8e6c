"""A column more. Clients that are connected have it a moment later, others when they come back."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # NOT NULL, so the rows that devices have need a value as well: a constant
    op.add_column("todos", sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
    op.create_index("todos_priority", "todos", ["priority"])
    # for databases without event triggers, where nobody else would tell clients; otherwise it does nothing
    op.execute("CALL electric.electrify('todos')")


def downgrade() -> None:
    raise NotImplementedError("devices keep the column: leave it here as well")
