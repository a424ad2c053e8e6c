"""Random schemas, statements and shapes, and the rows that a client with some shapes must have.

The one place that draws them. Everything is drawn from a :class:`random.Random`, so a seed repeats it. What a client
must have is computed from Postgres' own answers to plain queries and shares nothing with the service: no parser of
filters, no snapshot, no stream.

Keys and values come from few, so that statements meet each other's rows, and filters overlap.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, Protocol

import psycopg

Connection = psycopg.AsyncConnection[Any]
Type = Literal["int4", "text", "bool"]

#: A value as the client holds it.
Value = int | str | None
Row = tuple[Value, ...]
Key = tuple[Value, ...]

#: The rows of some tables, by table and primary key, each as values by column.
Rows = dict[str, dict[Key, dict[str, Value]]]

USERS = ("ann", "bob")
OWNER = "electric_user_id"

_KEYS: dict[Type, tuple[str, ...]] = {
    "int4": tuple(str(number) for number in range(1, 9)),
    "text": tuple(f"'k{number}'" for number in range(1, 9)),
    "bool": (),
}
_VALUES: dict[Type, tuple[str, ...]] = {
    "int4": ("NULL", "0", "1", "2", "3", "-1"),
    "text": ("NULL", "''", "'a'", "'ann'", "'b%'", "'ab'"),
    "bool": ("NULL", "true", "false"),
}

#: Keys of rows that come and go by the hundred begin here.
_MANY_FROM = 1_000
_MANY = 700


@dataclass(frozen=True)
class Column:
    name: str
    type: Type


@dataclass(frozen=True)
class Reference:
    """A foreign key of one column, to the key of ``table``."""

    column: str
    table: str
    on_delete: str


@dataclass(frozen=True)
class Table:
    name: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    references: tuple[Reference, ...]

    @property
    def definition(self) -> str:
        parts = [f"{column.name} {column.type}" for column in (*self.key, *self.columns)]
        parts.append(f"PRIMARY KEY ({', '.join(column.name for column in self.key)})")
        parts += [
            f"FOREIGN KEY ({one.column}) REFERENCES {one.table} ON DELETE {one.on_delete} ON UPDATE CASCADE"
            for one in self.references
        ]
        return f"CREATE TABLE {self.name} ({', '.join(parts)})"

    @property
    def favourite(self) -> Column:
        """The column that filters ask for and statements change more than others, so that rows come and go."""
        return self.plain[0]

    @property
    def plain(self) -> list[Column]:
        """The columns that are in no key of any kind."""
        referring = {reference.column for reference in self.references}
        return [column for column in self.columns if column.name not in referring]

    def key_of(self, row: Mapping[str, Value]) -> Key:
        return tuple(row[column.name] for column in self.key)


@dataclass
class Schema:
    """Tables by name, parents before their children. Columns are added as time goes by."""

    tables: dict[str, Table] = field(default_factory=dict)

    def children(self, table: str) -> Iterator[tuple[Table, Reference]]:
        for child in self.tables.values():
            for reference in child.references:
                if reference.table == table:
                    yield child, reference

    def add_column(self, table: str, column: Column) -> None:
        described = self.tables[table]
        self.tables[table] = replace(described, columns=(*described.columns, column))


@dataclass(frozen=True)
class Shape:
    """What a client asks for: rows of ``table``, and with each those connected with it by ``includes``: the column of
    the foreign key, which may be on either side, and what to take of the other table."""

    table: str
    where: str = ""
    includes: tuple[tuple[str, Shape], ...] = ()

    def __str__(self) -> str:
        """For reports."""
        where = f" where {self.where}" if self.where else ""
        includes = "".join(f" +[{column}: {shape}]" for column, shape in self.includes)
        return f"{self.table}{where}{includes}"


@dataclass(frozen=True)
class Write:
    """A change that a client makes: an insert without ``old``, a deletion without ``new``."""

    table: str
    key: Key
    new: dict[str, Value] | None
    old: dict[str, Value] | None


class Reader(Protocol):
    """A database role with claims."""

    def taken(self, conn: Connection) -> AbstractAsyncContextManager[None]:
        """Reads as that one, within the transaction that is open."""

    async def sight(self, conn: Connection, table: Table) -> Sight:
        """What that one can select of ``table``."""


@dataclass(frozen=True)
class Sight:
    keys: frozenset[Key]
    columns: frozenset[str]


# ---- schemas ---------------------------------------------------------------------------------------------------------


def draw_schema(random: Random) -> Schema:
    """Two to four tables, which may reference earlier ones: there are single tables, chains, trees and diamonds."""
    schema = Schema()
    for _ in range(random.randint(2, 4)):
        table = draw_table(random, schema)
        schema.tables[table.name] = table
    return schema


def draw_table(random: Random, schema: Schema) -> Table:
    """One more."""
    key = [Column("id", random.choice(("int4", "int4", "text")))]
    if schema.tables and random.random() < 0.2:
        key.append(Column("part", random.choice(("int4", "text"))))
    columns = [Column(f"c{place}", random.choice(("int4", "text", "bool"))) for place in range(random.randint(1, 3))]
    if random.random() < 0.15:
        columns.append(Column(OWNER, "text"))
    references = []
    parents = [table for table in schema.tables.values() if len(table.key) == 1]
    for parent in random.sample(parents, min(len(parents), random.choice((0, 1, 1, 2)))):
        column = Column(f"{parent.name}_id", parent.key[0].type)
        columns.insert(random.randint(0, len(columns)), column)
        references.append(Reference(column.name, parent.name, random.choice(("CASCADE", "SET NULL", "NO ACTION"))))
    return Table(f"t{len(schema.tables)}", tuple(key), tuple(columns), tuple(references))


def draw_column(random: Random, schema: Schema) -> tuple[str, Column]:
    """A column to add, and to which table."""
    table = random.choice(list(schema.tables.values()))
    return table.name, Column(f"d{len(table.columns)}", random.choice(("int4", "text", "bool")))


# ---- statements ------------------------------------------------------------------------------------------------------


def first_rows(random: Random, schema: Schema) -> Iterator[str]:
    """Statements that fill the tables, parents first."""
    for table in schema.tables.values():
        for _ in range(4):
            yield _insert(random, table)


def draw_statement(random: Random, schema: Schema) -> str:
    """One statement that changes rows. It may well fail, or change nothing."""
    table = random.choice(list(schema.tables.values()))
    kinds = (_insert, _insert, _insert, _update, _update, _update, _delete, _other)
    return random.choice(kinds)(random, table)


def _key(random: Random, table: Table) -> list[str]:
    # a second column of a key takes few values, or no key would come twice
    return [random.choice(_KEYS[column.type][: 8 if place == 0 else 2]) for place, column in enumerate(table.key)]


def _value(random: Random, table: Table, column: Column) -> str:
    for reference in table.references:
        if reference.column == column.name:
            if random.random() < 0.2:
                return random.choice((*_KEYS[column.type], "NULL"))
            return f"(SELECT id FROM {reference.table} ORDER BY id OFFSET {random.randint(0, 4)} LIMIT 1)"
    if column.name == OWNER:
        return random.choice((*(f"'{user}'" for user in USERS), "NULL", "''"))
    return random.choice(_VALUES[column.type])


def _condition(random: Random, table: Table) -> str:
    if random.random() < 0.3 and table.plain:
        column = random.choice(table.plain)
        return f"{column.name} IS NOT DISTINCT FROM {_value(random, table, column)}"
    values = ", ".join(random.choice(_KEYS[table.key[0].type]) for _ in range(random.randint(1, 4)))
    return f"id IN ({values})"


def _insert(random: Random, table: Table) -> str:
    columns = [*table.key, *table.columns]
    names = ", ".join(column.name for column in columns)
    rows = ", ".join(
        "(" + ", ".join([*_key(random, table), *(_value(random, table, column) for column in table.columns)]) + ")"
        for _ in range(random.randint(1, 3))
    )
    return f"INSERT INTO {table.name} ({names}) VALUES {rows} ON CONFLICT DO NOTHING"


def _update(random: Random, table: Table) -> str:
    chosen = random.sample(table.columns, random.randint(1, min(2, len(table.columns))))
    if random.random() < 0.5:
        chosen = [table.favourite]
    changes = ", ".join(f"{column.name} = {_value(random, table, column)}" for column in chosen)
    return f"UPDATE {table.name} SET {changes} WHERE {_condition(random, table)}"


def _delete(random: Random, table: Table) -> str:
    return f"DELETE FROM {table.name} WHERE {_condition(random, table)}"


def _other(random: Random, table: Table) -> str:
    match random.randrange(6):
        case 0 if random.random() < 0.3:
            return f"TRUNCATE {table.name} CASCADE"
        case 1 if table.key[0].type == "int4" and random.random() < 0.4:
            return _many(random, table)
        case 2:
            new, old = _key(random, table)[0], random.choice(_KEYS[table.key[0].type])
            return f"UPDATE {table.name} SET id = {new} WHERE id = {old}"
        case 3:
            return f"DELETE FROM {table.name} WHERE id = {_key(random, table)[0]} RETURNING id"
    return f"UPDATE {table.name} SET id = id WHERE {_condition(random, table)}"


def _many(random: Random, table: Table) -> str:
    if random.random() < 0.4:
        return f"DELETE FROM {table.name} WHERE id >= {_MANY_FROM}"
    columns = [*table.key[1:], *table.plain]
    names = "".join(f", {column.name}" for column in columns)
    values = "".join(f", {_filled(random, column, table)}" for column in columns)
    rows = f"generate_series({_MANY_FROM}, {_MANY_FROM + _MANY}) AS n"
    return f"INSERT INTO {table.name} (id{names}) SELECT n{values} FROM {rows} ON CONFLICT DO NOTHING"


def _filled(random: Random, column: Column, table: Table) -> str:
    return random.choice(_KEYS[column.type][:2]) if column in table.key else random.choice(_VALUES[column.type])


# ---- writes of clients -----------------------------------------------------------------------------------------------


def draw_write(random: Random, schema: Schema, held: Rows) -> Write:
    """A change by a client that has the rows ``held``, of the tables that it knows. It may well be refused."""
    table = schema.tables[random.choice(list(held))]
    rows = held[table.name]
    if rows and random.random() < 0.7:
        key = random.choice(sorted(rows, key=str))
        old = rows[key]
        if random.random() < 0.3:
            return Write(table.name, key, None, old)
        changed = random.sample(table.columns, random.randint(1, min(2, len(table.columns))))
        new = old | {column.name: _written(random, table, column, held) for column in changed if column.name in old}
        return Write(table.name, key, new, old)
    values = (_constant(column.type, text) for column, text in zip(table.key, _key(random, table), strict=True))
    row = dict(zip((column.name for column in table.key), values, strict=True))
    row |= {column.name: _written(random, table, column, held) for column in table.columns}
    key = table.key_of(row)
    return Write(table.name, key, row, rows.get(key))


def _written(random: Random, table: Table, column: Column, held: Rows) -> Value:
    for reference in table.references:
        if reference.column == column.name and held[reference.table] and random.random() < 0.7:
            return random.choice(sorted(held[reference.table], key=str))[0]
    return _constant(column.type, random.choice((*_VALUES[column.type], *_KEYS[column.type])))


def _constant(type_name: Type, literal: str) -> Value:
    if literal == "NULL":
        return None
    if type_name == "bool":
        return int(literal == "true")
    return int(literal) if type_name == "int4" else literal[1:-1]


# ---- shapes ----------------------------------------------------------------------------------------------------------


def draw_shape(random: Random, schema: Schema) -> Shape:
    table = random.choice(list(schema.tables.values()))
    return _draw_shape(random, schema, table, depth=random.choice((0, 1, 2)))


def _draw_shape(random: Random, schema: Schema, table: Table, depth: int, may_filter: bool = True) -> Shape:
    where = draw_filter(random, table) if may_filter and random.random() < 0.7 else ""
    includes: dict[tuple[str, str], tuple[str, Shape]] = {}
    if depth:
        for child, reference in schema.children(table.name):
            if random.random() < 0.4:
                shape = _draw_shape(random, schema, child, depth - 1)
                includes[child.name, reference.column] = (reference.column, shape)
        for reference in table.references:
            if random.random() < 0.2:
                parent = schema.tables[reference.table]
                # a filter on the way to a parent is refused
                shape = _draw_shape(random, schema, parent, depth - 1, may_filter=False)
                includes[parent.name, reference.column] = (reference.column, shape)
    return Shape(table.name, where, tuple(includes.values()))


def draw_filter(random: Random, table: Table) -> str:
    terms = [_term(random, table) for _ in range(random.choice((1, 1, 1, 2, 2, 3)))]
    text = terms[0]
    for term in terms[1:]:
        text = f"({text}) {random.choice(('AND', 'OR'))} ({term})"
    return f"NOT ({text})" if random.random() < 0.15 else text


def _term(random: Random, table: Table) -> str:
    column = table.favourite if random.random() < 0.5 else random.choice((*table.key, *table.columns))
    name = f"this.{column.name}"
    if random.random() < 0.15:
        return f"{name} IS {random.choice(('', 'NOT '))}NULL"
    if column.type == "bool":
        return random.choice((name, f"NOT {name}", f"{name} IS TRUE"))
    values = [value for value in (*_VALUES[column.type], *_KEYS[column.type][:4]) if value != "NULL"]
    if column.type == "text" and random.random() < 0.2:
        return random.choice((f"{name} LIKE 'a%'", f"{name} = auth.sub", f"{name} <> auth.sub"))
    match random.randrange(4):
        case 0:
            return f"{name} IN ({', '.join(random.sample(values, 3))})"
        case 1 if column.type == "int4":
            return f"{name} {random.choice(('<', '>', '<=', '>='))} {random.choice(values)}"
        case 2:
            return f"{name} <> {random.choice(values)}"
    return f"{name} = {random.choice(values)}"


# ---- what a client must have -----------------------------------------------------------------------------------------

#: Why a reader cannot select anything: a policy looks at another table, or takes a claim for a number that is none.
UNREADABLE = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidTextRepresentation)


async def expected_rows(
    conn: Connection, schema: Schema, shapes: Iterable[Shape], user: str, reader: Reader | None = None
) -> Rows:
    """The rows that ``user`` must have for ``shapes``, as the database is at this moment; with a ``reader``, those that
    it can select, with NULL in the columns that it cannot. ``conn`` is in no transaction."""
    async with conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        everything = {table.name: await _rows(conn, table) for table in schema.tables.values()}
        sights = {
            table.name: _everything(table, everything) if reader is None else await reader.sight(conn, table)
            for table in schema.tables.values()
        }
        selected: dict[str, set[Key]] = {name: set() for name in schema.tables}
        for shape in shapes:
            async with contextlib.nullcontext() if reader is None else reader.taken(conn):
                found = await _selected(conn, schema, everything, shape, user)
            for table_name, keys in found.items():
                selected[table_name] |= keys
    _add_ancestors(schema, everything, sights, selected, user)
    return {name: {key: _shown(everything[name][key], sights[name]) for key in keys} for name, keys in selected.items()}


def _everything(table: Table, everything: Rows) -> Sight:
    return Sight(frozenset(everything[table.name]), frozenset(one.name for one in (*table.key, *table.columns)))


def _shown(row: dict[str, Value], sight: Sight) -> dict[str, Value]:
    return {name: value if name in sight.columns else None for name, value in row.items()}


async def current_tags(conn: Connection) -> dict[tuple[str, Key], tuple[str, ...]]:
    """The tags of rows, by table and key; those written before their table was electrified have none."""
    cursor = await conn.execute("SELECT table_id::regclass::text, pk, tags FROM leyden.row_state")
    return {(table, tuple(json.loads(key))): tuple(tags) for table, key, tags in await cursor.fetchall()}


async def _rows(conn: Connection, table: Table) -> dict[Key, dict[str, Value]]:
    columns = [*table.key, *table.columns]
    names = ", ".join(column.name for column in columns)
    result = (await conn.execute(f"SELECT {names} FROM {table.name}".encode())).pgresult
    assert result is not None
    rows = {}
    for number in range(result.ntuples):
        texts = (result.get_value(number, place) for place in range(len(columns)))
        row = {column.name: held(column.type, text) for column, text in zip(columns, texts, strict=True)}
        rows[table.key_of(row)] = row
    return rows


def held(type_name: str, text: bytes | None) -> Value:
    """A value as a client with SQLite holds it, from Postgres' text form."""
    if text is None:
        return None
    if type_name == "bool":
        return int(text == b"t")
    return int(text) if type_name == "int4" else text.decode()


async def _selected(conn: Connection, schema: Schema, everything: Rows, shape: Shape, user: str) -> dict[str, set[Key]]:
    """The keys of the rows of ``shape``, by table."""
    selected: dict[str, set[Key]] = {name: set() for name in schema.tables}

    async def follow(shape: Shape, candidates: set[Key]) -> None:
        table = schema.tables[shape.table]
        passing = candidates & await _passing(conn, table, shape.where, user)
        passing = {key for key in passing if _is_for(everything[table.name][key], user)}
        selected[shape.table] |= passing
        for column, other in shape.includes:
            await follow(other, _connected(schema, everything, shape.table, passing, column, other.table))

    await follow(shape, set(everything[shape.table]))
    return selected


async def _passing(conn: Connection, table: Table, where: str, user: str) -> set[Key]:
    condition = where.replace("auth.sub", f"'{user}'") or "true"
    names = ", ".join(column.name for column in table.key)
    statement = f"SELECT {names} FROM {table.name} AS this WHERE {condition}"
    try:
        async with conn.transaction():
            return set(await (await conn.execute(statement.encode())).fetchall())
    except UNREADABLE:
        return set()


def _connected(schema: Schema, everything: Rows, table: str, keys: set[Key], column: str, other: str) -> set[Key]:
    """Of ``other`` the rows that a foreign key with ``column`` connects with the rows ``keys`` of ``table``."""
    if any(one.column == column and one.table == other for one in schema.tables[table].references):
        parents: set[Key] = {(everything[table][key][column],) for key in keys}
        return parents & set(everything[other])
    return {child for child, row in everything[other].items() if (row[column],) in keys}


def _add_ancestors(
    schema: Schema, everything: Rows, sights: Mapping[str, Sight], selected: dict[str, set[Key]], user: str
) -> None:
    """Whatever a row refers to comes along, unless it belongs to somebody else or cannot be read, or it cannot be read
    what it refers to. Children are made after their parents, so that one pass in the opposite order finds all."""
    for table in reversed(schema.tables.values()):
        for reference in table.references:
            if reference.column not in sights[table.name].columns:
                continue
            parents: set[Key] = {(everything[table.name][key][reference.column],) for key in selected[table.name]}
            rows = everything[reference.table]
            selected[reference.table] |= {
                key for key in (parents - {(None,)}) & sights[reference.table].keys if _is_for(rows[key], user)
            }


def _is_for(row: Mapping[str, Value], user: str) -> bool:
    """Whether it is everybody's, or ``user`` owns it."""
    return row.get(OWNER) in (None, "", user)
