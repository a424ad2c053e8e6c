"""How Alembic reaches the database: DATABASE_URL, the same that Leyden is given."""

import os

import psycopg
from alembic import context
from sqlalchemy import create_engine

# libpq reads the URL, as it does for Leyden
engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["DATABASE_URL"]))

with engine.connect() as connection:
    # each migration in a transaction of its own, and so with a version of its own for clients
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
