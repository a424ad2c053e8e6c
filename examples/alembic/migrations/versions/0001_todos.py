"""The table, and that clients may have it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "todos",
        sa.Column("id", sa.Uuid, primary_key=True),  # made by whoever inserts: devices cannot draw from a sequence
        sa.Column("title", sa.Text, nullable=False),  # not String(200): SQLite would not keep the limit
        sa.Column("done", sa.Boolean, nullable=False),
    )
    op.execute("CALL electric.electrify('todos')")


def downgrade() -> None:
    op.execute("SELECT leyden.disable('todos')")
    op.drop_table("todos")
