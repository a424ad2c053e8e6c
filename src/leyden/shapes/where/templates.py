"""SQL patterns whose operators cannot be anybody else's.

In a pattern ``[+]`` is Postgres' own ``+``: operators of the same name in other schemas, which may fit the types
better, are never meant.
"""

from __future__ import annotations

import re
from typing import LiteralString

from psycopg import sql

_OPERATOR = re.compile(r"\[([-+*/<>=~!@#%^&|]+)\]")


def template(pattern: LiteralString) -> sql.SQL:
    return sql.SQL(_OPERATOR.sub(r"OPERATOR(pg_catalog.\1)", pattern))
