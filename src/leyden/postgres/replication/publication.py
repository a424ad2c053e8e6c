"""Names under which the replication stream is found in Postgres.

Owns the name of the publication and the rule for the slot's name. Must not know who reads the stream.
"""

from __future__ import annotations

import re

#: The publication: ``leyden.row_state``, ``leyden.versions``, ``leyden.tables`` and every electrified table.
#: Made by the schema.
PUBLICATION = "leyden"

#: Longest name Postgres keeps (NAMEDATALEN - 1), in bytes.
_LONGEST_NAME = 63


def slot_name(database: str) -> str:
    """Name of the slot for ``database``: slots are cluster-wide and allow only ``[a-z0-9_]``."""
    return ("leyden_" + re.sub(r"[^a-z0-9_]", "_", database.lower()))[:_LONGEST_NAME]
