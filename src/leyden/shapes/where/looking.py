"""Whether a function in SQL looks at anything besides its arguments and the settings of the session.

In doubt it does. Operators are taken for Postgres' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError, Message
from postgast import PgQueryError, parse, pg_query_pb2

from leyden.shapes.where.analysis import names_of

#: Functions of Postgres with which claims are read and compared; none of them looks at a table.
_HARMLESS = frozenset(
    (
        "array_length",
        "btrim",
        "cardinality",
        "concat",
        "current_setting",
        "json_extract_path",
        "json_extract_path_text",
        "jsonb_array_elements_text",
        "jsonb_exists",
        "jsonb_extract_path",
        "jsonb_extract_path_text",
        "length",
        "lower",
        "regexp_replace",
        "split_part",
        "string_to_array",
        "to_jsonb",
        "upper",
    )
)


@lru_cache(maxsize=256)
def looks_at_tables(body: str) -> bool:
    """Whether a function with this ``body`` may read a table."""
    try:
        tree = parse(body)
    except (PgQueryError, DecodeError):
        return True
    return any(_may_look(message) for message in _messages(tree))


def _may_look(message: Message) -> bool:
    if isinstance(message, pg_query_pb2.FuncCall):
        *schema, name = names_of(message.funcname)
        return name not in _HARMLESS or schema not in ([], ["pg_catalog"])
    return isinstance(message, pg_query_pb2.RangeVar)


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            several = isinstance(value, Sequence) or hasattr(value, "add")
            for one in value if several else (value,):
                yield from _messages(one)
