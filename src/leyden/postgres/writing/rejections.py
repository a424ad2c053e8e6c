"""Uploads refused for good: the record for the operator, the truth for the author, who may have missed it at first.

The wire has no message for "refused". Instead the transaction that stores the refusal announces itself as the
client's own, which makes the client drop its pending changes, and carries in the announcement the true
state of every row that the upload touched, which the stream sends to the author alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from leyden.conflict.tags import format_tags
from leyden.model import Author, ClientChange, Table, Upload
from leyden.postgres.clients import claim_upload, note_echo, require_owner
from leyden.postgres.writing.change_json import change_to_json
from leyden.postgres.writing.rights import tell_author
from leyden.postgres.writing.rows import Connection, RawKey, RowReader, StoredRow, text
from leyden.postgres.writing.sqlstates import Refusal
from leyden.postgres.writing.upload_plan import change_keys

#: How often rows are looked for that came while they were looked for, before what was seen last is the truth.
READINGS: Final = 3


async def announce(conn: Connection, upload: Upload, corrections: Iterable[Mapping[str, Any]] = ()) -> None:
    """Write into the WAL whose transaction this is: ``{client, ms, corrections}``."""
    message = {"client": upload.client_id, "ms": upload.timestamp_ms, "corrections": list(corrections)}
    await conn.execute("SELECT leyden.announce(%s)", [json.dumps(message, ensure_ascii=False)])


async def record_refusal(conn: Connection, upload: Upload, author: Author, refusal: Refusal) -> bool:
    """Store the refusal and tell the author, in one transaction. False when the LSN was reached before.

    Raises :class:`~leyden.postgres.clients.ClientBelongsToOther` and database errors.
    """
    async with conn.transaction():
        claim = await claim_upload(conn, upload)
        if claim.rowcount == 0:
            await require_owner(conn, upload)
            return False
        # Tables with FORCE ROW LEVEL SECURITY ask the service itself for the author.
        await tell_author(conn, author, upload.client_id)
        await conn.execute(
            "INSERT INTO leyden.rejected"
            " (client_id, user_id, lsn, ms, claims, scoped_claims, role, sqlstate, message, ops)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                upload.client_id,
                upload.user_id,
                upload.lsn,
                upload.timestamp_ms,
                author.claims,
                author.scoped_claims,
                author.role,
                refusal.sqlstate,
                refusal.message,
                Jsonb([change_to_json(change) for change in upload.changes]),
            ],
        )
        await announce(conn, upload, await _corrections(conn, upload.changes))
    return True


async def tell_again(conn: Connection, upload: Upload) -> bool:
    """Tell the author of an upload that was dealt with before what has become of it: of each row that it touched, the
    state of now. No row is written. True.

    Raises :class:`~leyden.postgres.clients.ClientBelongsToOther` and database errors.
    """
    async with conn.transaction():
        await require_owner(conn, upload)
        await note_echo(conn, upload)
        await announce(conn, upload, await _corrections(conn, upload.changes))
    return True


async def _corrections(conn: Connection, changes: Iterable[ClientChange]) -> list[dict[str, Any]]:
    touched: dict[int, tuple[Table, list[RawKey]]] = {}
    for change in changes:
        try:
            keys = [key for key in change_keys(change) if key is not None]
        except UnicodeDecodeError:
            # No row has such a key, and no message could name it.
            continue
        touched.setdefault(change.table.id, (change.table, []))[1].extend(keys)
    corrections = []
    for _, (table, keys) in sorted(touched.items()):
        if not keys:
            continue
        corrections += [_correction(table, key, row) for key, row in (await _truth(conn, table, keys)).items()]
    return corrections


async def _truth(conn: Connection, table: Table, keys: list[RawKey]) -> dict[RawKey, StoredRow | None]:
    """The rows as they stand, locked until the commit, and so are those that are not there: no later version reaches
    the author earlier.

    ``None`` for a key that cannot be a key of this table. Nothing at all when the table itself cannot be
    read as described: there is no truth to tell, and the author will hear of the changed schema otherwise.
    """
    try:
        return dict(await _read(conn, table, keys))
    except psycopg.DataError:
        if len(keys) == 1:
            return {keys[0]: None}
        truth: dict[RawKey, StoredRow | None] = {}
        for key in dict.fromkeys(keys):
            truth |= await _truth(conn, table, [key])
        return truth
    except psycopg.ProgrammingError:
        return {}


async def _read(conn: Connection, table: Table, keys: list[RawKey]) -> dict[RawKey, StoredRow]:
    rows: dict[RawKey, StoredRow] = {}
    wanted = list(keys)
    for _ in range(READINGS):
        reader = RowReader(table, wanted)
        async with conn.transaction():
            await reader.send(conn)
        read = reader.rows()
        rows |= read
        absent = {row.pk: key for key, row in read.items() if row.state.main is None}
        # A state that was locked while the row was there: it came after the one was looked for and before the other.
        come = {pk for pk, key in absent.items() if read[key].tags}
        stateless = [pk for pk, key in absent.items() if read[key].tags is None]
        come |= await _come_meanwhile(conn, table, stateless)
        wanted = [key for pk, key in absent.items() if pk in come]
        if not wanted:
            break
    return rows


async def _come_meanwhile(conn: Connection, table: Table, keys: list[str]) -> set[str]:
    """Those of the rows, none of which had a state, that have one by now. The others cannot come before the commit:
    what was stored for a moment in place of their state makes who wants to store it wait."""
    if not keys:
        return set()
    cursor = await conn.execute(
        "INSERT INTO leyden.row_state (table_id, pk, tags, col_tags, touched)"
        " SELECT %s, pk, '{}', '{}', now() FROM unnest(%s::text[]) AS pk ORDER BY pk"
        " ON CONFLICT DO NOTHING RETURNING pk",
        [table.id, keys],
    )
    held = [pk for (pk,) in await cursor.fetchall()]
    await conn.execute("DELETE FROM leyden.row_state WHERE table_id = %s AND pk = ANY(%s)", [table.id, held])
    return set(keys) - set(held)


def _correction(table: Table, key: RawKey, row: StoredRow | None) -> dict[str, Any]:
    if row is None or row.state.main is None:
        return {"table": table.id, "key": list(key if row is None else row.key), "row": None, "tags": []}
    return {
        "table": table.id,
        "key": list(row.key),
        "row": [text(row.state.main[column.name]) for column in table.columns],
        "tags": format_tags(row.state.tags),
    }
