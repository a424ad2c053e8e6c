"""A clause's text → one expression of Postgres' grammar, within bounds, with places in the text.

Owns the first look at what a client sends. Knows nothing of tables and types.

The parser is the server's own (libpg_query), and like the server's it works recursively: how deep a text would lead
it is bounded from its tokens before it sees them, because out of stack it takes the process along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message
from postgast import PgQueryError, parse, pg_query_pb2, scan

#: Bytes of a clause. A thousand uuids in a list fit.
MAX_BYTES = 65_536
#: Operators and parentheses within each other, counted generously. The tree that results is limited to about 48
#: levels by the decoder of the parser's answer.
MAX_DEPTH = 200
#: Operators and keywords, AND and OR among them: the work that a clause makes grows with these.
MAX_OPERATORS = 2000
#: Operator characters in a row, and beginnings of comments: the scanner's time grows with the square of these.
MAX_RUN = 128

_PREFIX = "SELECT 1 WHERE "
#: What the parser says of a statement that consists of an expression and the prefix.
_STATEMENT_FIELDS = {"target_list", "where_clause", "limit_option", "op"}
_LONG_RUN = re.compile(rf"[-+*/<>=~!@#%^&|`?]{{{MAX_RUN + 1}}}")
_SYNTAX_ERROR = re.compile(r'syntax error at or near "([\w.(),=<>;]{1,64})"')


class WhereError(Exception):
    """A clause that is refused. ``message`` is for the app's developer; ``position`` counts characters from 0."""

    def __init__(self, reason: str, position: int) -> None:
        self.reason = reason
        self.message = f"At location {position}: {reason}"
        self.position = position
        super().__init__(self.message)


class Source:
    """A clause's text, by which the parser's byte offsets become places in it."""

    def __init__(self, text: str, *, subqueries: bool = False) -> None:
        """``subqueries`` may be in it, in parentheses. Raises :class:`WhereError` for a text that is too long or that
        cannot be in a database."""
        self._text = text
        self._subqueries = subqueries
        try:
            self._bytes = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise WhereError("half of a surrogate pair is not a character", error.start) from None
        if len(self._bytes) > MAX_BYTES:
            raise WhereError(f"the clause has more than {MAX_BYTES} bytes", 0)
        run = _LONG_RUN.search(text)
        if run is not None:
            raise WhereError(f"more than {MAX_RUN} operator characters in a row", run.start())
        if text.count("/*") > MAX_RUN:
            raise WhereError(f"/* occurs more than {MAX_RUN} times", text.index("/*"))
        if "\0" in text:
            raise WhereError("the character U+0000 cannot be part of a clause", text.index("\0"))

    def expression(self) -> Any:
        """The tree of the text, a ``pg_query_pb2.Node``. Raises :class:`WhereError`."""
        self._check_size()
        try:
            statements = parse(_PREFIX + self._text).stmts
        except PgQueryError as error:
            # Its position counts characters, from 1; 0 stands for none.
            position = min(max(error.cursorpos - 1 - len(_PREFIX), 0), len(self._text))
            raise WhereError(_reason(error), position) from None
        except DecodeError:
            raise WhereError("the expression is nested too deeply", 0) from None
        select = statements[0].stmt.select_stmt
        surplus = {field.name for field, _ in select.ListFields()} - _STATEMENT_FIELDS
        if len(statements) != 1 or surplus or not select.HasField("where_clause"):
            raise WhereError("only an expression is allowed, no further clauses", 0)
        return select.where_clause

    def error(self, reason: str, location: int) -> WhereError:
        """``location`` is the parser's, in bytes; -1 stands for none."""
        return WhereError(reason, len(self._before(location)))

    def at(self, location: int) -> str:
        """The text from a place on."""
        return self._text[len(self._before(location)) :]

    def _before(self, location: int) -> str:
        return self._bytes[: max(location - len(_PREFIX), 0)].decode("utf-8", "ignore")

    def _check_size(self) -> None:
        """Refuse a text with more than :data:`MAX_OPERATORS`, or whose tree could be deeper than :data:`MAX_DEPTH`.

        Counts, within each open parenthesis, the tokens that can make a level of the tree. AND, OR and commas join
        what stands on their two sides without a level more, so that the count begins anew after them; what else
        would make a chain of levels around them is refused by name.
        """
        try:
            tokens = scan(self._text).tokens
        except PgQueryError as error:
            position = min(max(error.cursorpos - 1, 0), len(self._text))
            raise WhereError(_reason(error), position) from None
        open_levels: list[_Level] = []
        level = outermost = _Level(0)
        after_dot = False
        operators = 0
        for token in tokens:
            kind = token.token
            name = _REFUSED.get(kind)
            if self._subqueries and level is not outermost:
                name = None  # what is in parentheses is refused by name later, unless it is understood
            if name is not None and not after_dot:  # after a dot even SELECT is the name of a column
                raise self.error(f"{name} is not supported", len(_PREFIX) + token.start)
            after_dot = kind == _DOT
            if kind in _NEUTRAL:
                continue
            if kind in _OPENING:
                open_levels.append(level)
                level = _Level(level.depth + 1)
            elif kind in _CLOSING and open_levels:
                inner, level = level, open_levels.pop()
                level.depth = inner.deepest
            elif kind in _JOINING and not (kind == _AND and level.between):
                level.depth = level.base
            else:
                level.between = kind == _BETWEEN or (level.between and kind != _AND)
                level.depth += 1
            level.deepest = max(level.deepest, level.depth)
            operators += kind not in _BRACKETS_AND_COMMA
            if level.depth > MAX_DEPTH:
                raise self.error("the expression is nested too deeply", len(_PREFIX) + token.start)
            if operators > MAX_OPERATORS:
                raise self.error(f"more than {MAX_OPERATORS} operators", len(_PREFIX) + token.start)


class _Level:
    """The count within one parenthesis: where it began, where it stands, how far it got; whether BETWEEN waits for
    its AND.
    """

    __slots__ = ("base", "between", "deepest", "depth")

    def __init__(self, base: int) -> None:
        self.base = self.depth = self.deepest = base
        self.between = False


def _reason(error: PgQueryError) -> str:
    """The parser's message without what it quotes of literals and comments."""
    message = error.message
    if _SYNTAX_ERROR.fullmatch(message) or " at or near " not in message:
        return message[:200]
    return message.split(" at or near ")[0]


_Token = pg_query_pb2.Token
_AND, _BETWEEN, _DOT = _Token.AND, _Token.BETWEEN, _Token.ASCII_46
_REFUSED = {
    _Token.ASCII_59: "a semicolon",
    _Token.CASE: "CASE",
    _Token.SELECT: "a subquery",
    _Token.VALUES: "VALUES",
    _Token.TABLE: "TABLE",
    _Token.WITH: "WITH",
    _Token.WITH_LA: "WITH",
    _Token.UNION: "UNION",
    _Token.INTERSECT: "INTERSECT",
    _Token.EXCEPT: "EXCEPT",
    _Token.JOIN: "JOIN",
}
_OPENING = frozenset((_Token.ASCII_40, _Token.ASCII_91))
_CLOSING = frozenset((_Token.ASCII_41, _Token.ASCII_93))
_BRACKETS_AND_COMMA = _OPENING | _CLOSING | {_Token.ASCII_44}
_JOINING = frozenset((_Token.AND, _Token.OR, _Token.ASCII_44))
_NEUTRAL = frozenset(
    (
        _Token.IDENT,
        _Token.SCONST,
        _Token.ICONST,
        _Token.FCONST,
        _DOT,
        _Token.SQL_COMMENT,
        _Token.C_COMMENT,
    )
)


def messages_in(message: Message) -> Iterator[Message]:
    """The parts of a node of the parse tree, without theirs."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            yield from value if isinstance(value, Sequence) or hasattr(value, "add") else (value,)
