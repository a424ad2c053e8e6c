"""What devices with yesterday's app cannot follow. It is refused and changes nothing; see README.md."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.alter_column("todos", "title", new_column_name="text")


def downgrade() -> None:
    op.alter_column("todos", "text", new_column_name="title")
