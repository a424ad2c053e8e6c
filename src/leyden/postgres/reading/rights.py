"""What database roles may read of electrified tables: read from the catalog, and again whenever it may have changed.

Owns the question to the catalog, and when it is asked. Nothing tells of every change (a role's membership, its
privileges in another database), so the catalog is compared twice a second. Whoever obeys the answer is told as well
when it is too old to be relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from leyden.cancellation import cancel
from leyden.events import Emit, ReadingRightsRead, ReadingRightsUnavailable, UnexpectedError
from leyden.model import Call, Function, Policy, ReadingRights, RightsByRole
from leyden.postgres.sessions import connect

Connection = psycopg.AsyncConnection[Any]

#: What decides is what the server itself asks (``get_policies_for_relation``): the policies for SELECT and for ALL with
#: a condition, of the role and of those whose rights it has. Roles that own tables or have BYPASSRLS are not taken.
RIGHTS = """
WITH wanted AS (
    SELECT r.oid, r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%s)
), electrified AS (
    SELECT c.oid, c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.relnamespace
    FROM leyden.tables t JOIN pg_catalog.pg_class c ON c.oid = t.table_id
), function AS (
    SELECT p.*, n.nspname, t.typname FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    JOIN pg_catalog.pg_type t ON t.oid = p.prorettype
    WHERE l.lanname = 'sql' AND p.prosqlbody IS NULL AND p.prokind = 'f' AND NOT p.proretset
      AND p.provariadic = 0 AND p.pronargdefaults = 0 AND p.proargmodes IS NULL
      AND (p.pronargs = 0 OR NOT p.proisstrict)
      AND t.typnamespace = 'pg_catalog'::regnamespace
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'leyden', 'electric')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
      -- which of several is called depends on types that are not known here
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc o
                      WHERE o.pronamespace = p.pronamespace AND o.proname = p.proname AND o.oid <> p.oid)
      -- any other setting may change what its body means
      AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS setting
                      WHERE NOT pg_catalog.starts_with(setting, 'search_path='))
), namesake AS MATERIALIZED (
    -- what others have made under the names of Postgres' own functions and operators: it may fit better, by its types
    SELECT 'pg_catalog.pg_proc'::regclass AS class, p.oid, p.proname AS name, p.pronamespace AS namespace,
        -- without those that may be left out
        (p.proargtypes::oid[])[0:p.pronargs - p.pronargdefaults - 1] AS types
    FROM pg_catalog.pg_proc p
    WHERE p.oid >= 16384 AND p.proname IN (SELECT o.proname FROM pg_catalog.pg_proc o WHERE o.oid < 16384)
    UNION ALL
    SELECT 'pg_catalog.pg_operator'::regclass, p.oid, p.oprname, p.oprnamespace, ARRAY[p.oprleft, p.oprright]
    FROM pg_catalog.pg_operator p
    WHERE p.oid >= 16384 AND p.oprname IN (SELECT o.oprname FROM pg_catalog.pg_operator o WHERE o.oid < 16384)
), ambiguous AS (
    SELECT DISTINCT n.name FROM namesake n
    -- an extension's is for types of its own, into which nothing else is turned unasked
    WHERE NOT (EXISTS (SELECT FROM pg_catalog.pg_depend d
                       WHERE d.classid = n.class AND d.objid = n.oid AND d.deptype = 'e')
               AND EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = ANY (n.types) AND t.oid >= 16384))
    UNION ALL
    -- what shows nowhere: casts by a function, and what has been put among Postgres' own
    SELECT '::' WHERE EXISTS (
        SELECT FROM pg_catalog.pg_cast c
        JOIN pg_catalog.pg_type s ON s.oid = c.castsource
        JOIN pg_catalog.pg_type t ON t.oid = c.casttarget
        WHERE c.oid >= 16384 AND c.castmethod = 'f'
          AND (s.oid < 16384 OR s.typtype = 'e') AND (t.oid < 16384 OR t.typtype = 'e'))
      OR EXISTS (SELECT FROM namesake n WHERE n.namespace = 'pg_catalog'::regnamespace)
), caller AS (
    SELECT r.oid, r.rolname FROM pg_catalog.pg_roles r
    WHERE r.oid IN (SELECT oid FROM wanted UNION SELECT f.proowner FROM function f WHERE f.prosecdef)
), named AS (
    SELECT DISTINCT d.objid, d.refobjid, c.relkind FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
), called AS (
    SELECT DISTINCT d.objid, s.nspname || '.' || f.proname AS name, f.provolatile = 'i' AS is_immutable,
        -- the oid: it may have been dropped and made anew; xmin: whatever may have been altered of it
        pg_catalog.concat_ws('/', f.oid, f.xmin) AS fingerprint,
        CASE WHEN l.lanname = 'sql' AND f.prosqlbody IS NULL THEN f.prosrc END AS body
    FROM pg_catalog.pg_depend d
    LEFT JOIN pg_catalog.pg_operator o
        ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
    JOIN pg_catalog.pg_proc f
        ON f.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
    JOIN pg_catalog.pg_namespace s ON s.oid = f.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = f.prolang
    WHERE d.classid = 'pg_catalog.pg_policy'::regclass
), described AS (
    SELECT f.oid, pg_catalog.jsonb_build_object(
        'name', f.nspname || '.' || f.proname, 'body', f.prosrc, 'returns', f.typname,
        'arguments', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                          coalesce(f.proargnames[a.number], ''), k.typname) ORDER BY a.number), '[]')
                      FROM pg_catalog.unnest(f.proargtypes::oid[]) WITH ORDINALITY AS a(type, number)
                      JOIN pg_catalog.pg_type k ON k.oid = a.type),
        'callers', (SELECT coalesce(pg_catalog.jsonb_agg(c.rolname ORDER BY c.rolname), '[]') FROM caller c
                    WHERE pg_catalog.has_function_privilege(c.oid, f.oid, 'EXECUTE')
                      AND pg_catalog.has_schema_privilege(c.oid, f.pronamespace, 'USAGE')),
        'owner', CASE WHEN f.prosecdef THEN o.rolname END,
        'bypasses', (SELECT coalesce(pg_catalog.jsonb_agg(e.oid::bigint ORDER BY e.oid), '[]') FROM electrified e
                     WHERE f.prosecdef AND pg_catalog.has_table_privilege(o.oid, e.oid, 'SELECT')
                       AND (o.rolsuper OR o.rolbypassrls OR NOT e.relrowsecurity
                            OR (NOT e.relforcerowsecurity AND pg_catalog.pg_has_role(o.oid, e.relowner, 'USAGE')))),
        'settings', coalesce(pg_catalog.to_jsonb(f.proconfig), '[]'),
        'has_own_schema', EXISTS (SELECT FROM pg_catalog.pg_namespace s JOIN caller c ON c.rolname = s.nspname)
        ) AS document
    FROM function f JOIN pg_catalog.pg_roles o ON o.oid = f.proowner
)
SELECT pg_catalog.jsonb_build_object(
    'search_path', (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'),
    'namesakes', (SELECT coalesce(pg_catalog.jsonb_agg(a.name ORDER BY a.name), '[]') FROM ambiguous a),
    'functions', (SELECT coalesce(pg_catalog.jsonb_agg(d.document ORDER BY d.oid), '[]') FROM described d),
    'rights', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'role', w.rolname,
        'table', e.oid::bigint,
        'all_columns', pg_catalog.has_table_privilege(w.oid, e.oid, 'SELECT'),
        'columns', CASE WHEN pg_catalog.has_schema_privilege(w.oid, e.relnamespace, 'USAGE') THEN (
            SELECT coalesce(pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = e.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND pg_catalog.has_column_privilege(w.oid, e.oid, a.attnum, 'SELECT')) ELSE '[]' END,
        'collated', (
            SELECT coalesce(pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
            WHERE a.attrelid = e.oid AND NOT a.attisdropped AND NOT (
                c.collnamespace = 'pg_catalog'::regnamespace AND c.collname IN ('default', 'C', 'POSIX'))),
        'policies', CASE WHEN e.relrowsecurity THEN (
            SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                       'name', p.polname, 'permissive', p.polpermissive,
                       'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                       'relations', (SELECT coalesce(pg_catalog.jsonb_agg(n.refobjid::bigint ORDER BY n.refobjid), '[]')
                                     FROM named n WHERE n.objid = p.oid AND n.relkind IN ('r', 'p')),
                       'has_views', EXISTS (SELECT FROM named n
                                            WHERE n.objid = p.oid AND n.relkind NOT IN ('r', 'p')),
                       'calls', (SELECT coalesce(pg_catalog.jsonb_agg(
                                     pg_catalog.jsonb_build_array(n.name, n.is_immutable, n.fingerprint, n.body)
                                     ORDER BY n.name, n.fingerprint), '[]')
                                 FROM called n WHERE n.objid = p.oid)) ORDER BY p.polname), '[]')
            FROM pg_catalog.pg_policy p
            WHERE p.polrelid = e.oid AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
              AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS to_role
                          WHERE to_role = 0 OR pg_catalog.pg_has_role(w.oid, to_role, 'USAGE'))) END
        ) ORDER BY w.rolname, e.oid), '[]')
        FROM wanted w CROSS JOIN electrified e))::text
"""

#: What may stand on a search path besides the schema that tables are found in.
_OTHER_SCHEMAS = frozenset(("$user", "pg_catalog", "pg_temp"))
#: All that is on a search path on which no functions and operators are found but Postgres' own; as Postgres prints it.
_POSTGRES_OWN = frozenset(('""', "pg_catalog", "pg_temp"))
_PATH_SETTING = "search_path="


async def read_rights(conn: Connection, roles: Collection[str]) -> str:
    """The rights of ``roles`` as a text that is equal when they are; for :func:`parse_rights`."""
    async with conn.transaction(force_rollback=True):  # which takes the setting back
        # With nothing else on the path, expressions are printed with the schemas of all that is not Postgres' own.
        await conn.execute("SET LOCAL search_path = pg_catalog")
        cursor = await conn.execute(RIGHTS, [sorted(roles)])
        row = await cursor.fetchone()
    return "{}" if row is None else str(row[0])


async def _visible(conn: Connection, xids: Collection[int]) -> set[int]:
    """Of these transactions those that whoever asks from now on sees."""
    if not xids:
        return set()
    cursor = await conn.execute(
        "SELECT xid FROM pg_catalog.unnest(%s::bigint[]) AS xid"
        " WHERE pg_catalog.pg_visible_in_snapshot(xid::text::xid8, pg_catalog.pg_current_snapshot())",
        [list(xids)],
    )
    return {xid for (xid,) in await cursor.fetchall()}


def parse_rights(text: str) -> RightsByRole:
    facts = json.loads(text)
    namesakes = frozenset(facts.get("namesakes", ()))
    found = (_function(one, facts["search_path"], namesakes) for one in facts.get("functions", ()))
    functions = tuple(one for one in found if one is not None)
    rights: dict[str, dict[int, ReadingRights]] = {}
    for one in facts.get("rights", ()):
        columns = frozenset(one["columns"])
        if columns:
            of_role = rights.setdefault(one["role"], {})
            of_role[one["table"]] = ReadingRights(
                columns=None if one["all_columns"] else columns,
                policies=_policies(one["policies"], functions, namesakes),
                collated=frozenset(one["collated"]),
            )
    return rights


def _policies(
    found: Sequence[Mapping[str, Any]] | None, functions: tuple[Function, ...], namesakes: frozenset[str]
) -> tuple[Policy, ...] | None:
    if found is None:
        return None
    return tuple(
        Policy(
            one["name"],
            one["permissive"],
            one["using"],
            functions,
            relations=frozenset(one["relations"]),
            calls=tuple(Call(*called) for called in one["calls"]),
            has_views=one["has_views"],
            namesakes=namesakes,
        )
        for one in found
    )


def _function(obj: Mapping[str, Any], search_path: str, namesakes: frozenset[str]) -> Function | None:
    """``None`` for one whose search path has other schemas before Postgres' own functions and operators."""
    paths = [one.removeprefix(_PATH_SETTING) for one in obj["settings"] if one.startswith(_PATH_SETTING)]
    path = [*paths, search_path][0]
    schemas = [one.strip().strip('"') for one in path.split(",")]
    if "pg_catalog" in schemas[1:]:  # where it stands; otherwise it comes first
        return None
    found_in = [one for one in schemas if one not in _OTHER_SCHEMAS][:1]
    return Function(
        obj["name"],
        obj["body"],
        obj["returns"],
        arguments=tuple((name, kind) for name, kind in obj["arguments"]),
        callers=frozenset(obj["callers"]),
        owner=obj["owner"],
        bypasses=frozenset(obj["bypasses"]),
        finds_public=found_in == ["public"] and not ("$user" in schemas and obj["has_own_schema"]),
        has_own_path=bool(paths),
        namesakes=frozenset() if _POSTGRES_OWN.issuperset(path.split(", ")) else namesakes,
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals in seconds."""

    #: Between readings.
    poll: float = 0.4
    #: The same, while a change is not visible yet.
    visible: float = 0.01
    #: Age at which what was read is not relied on any more, and how often that is looked at.
    patience: float = 1.5
    look: float = 0.1
    #: For Postgres to answer before the connection is given up.
    answer: float = 10.0
    #: Before reconnecting.
    retry: float = 0.5


class RightsWatch:
    """Keeps the rights of ``roles`` as the catalog has them, on a connection of its own.

    ``on_change`` is called with them after the first reading and after each one that found a difference, ``on_doubt``
    when they have become too old, and ``on_certainty`` when they are known again, after ``on_change`` if need be.
    """

    def __init__(
        self,
        dsn: str,
        roles: Collection[str],
        emit: Emit,
        *,
        on_change: Callable[[RightsByRole], Awaitable[None]],
        on_doubt: Callable[[], None],
        on_certainty: Callable[[], None],
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dsn = dsn
        self._roles = roles
        self._emit = emit
        self._on_change = on_change
        self._on_doubt = on_doubt
        self._on_certainty = on_certainty
        self._timing = timing
        self._clock = clock
        self._text: str | None = None
        self._asked_at = float("-inf")
        #: Transactions that have changed the rights, and that no reading has seen yet.
        self._unseen: set[int] = set()
        #: Whether what was told last is to be relied on.
        self.is_certain = False
        #: Set once the rights were read.
        self.loaded = asyncio.Event()
        self._hurry = asyncio.Event()
        self._readings_begun = 0
        #: Number of the last reading that was completed and told.
        self._last_reading = 0
        self._read = asyncio.Condition()

    async def read_anew(self) -> None:
        """Returns once the rights were told as they are in the catalog now, or cannot be read for a while.

        Waits for the next reading and hurries none: whoever asks for this again and again costs Postgres nothing.
        """
        begun = self._readings_begun
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.patience), self._read:
                await self._read.wait_for(lambda: self._last_reading > begun)

    def doubt(self, xid: int) -> None:
        """The stream says that the transaction ``xid`` has changed the rights: what is known is not relied on until
        that was read. It can be a moment ahead: a commit is in the WAL before Postgres makes it visible."""
        self._unseen.add(xid)
        self._asked_at = float("-inf")
        self._hurry.set()
        self._look()

    def begin_history(self) -> None:
        """The database has another history now: transactions of the one before may never become visible."""
        self._unseen.clear()
        self._hurry.set()

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong is told to ``emit`` and tried again after a while."""
        looking = asyncio.create_task(self._keep_looking())
        try:
            while True:
                try:
                    await self._session()
                except (psycopg.Error, OSError, TimeoutError) as error:
                    reason = str(error).strip().partition("\n")[0] or type(error).__name__
                except Exception as error:
                    # A defect of ours. Trying again is all that can be done, and it must be seen.
                    reason = f"unexpected {type(error).__name__}"
                    self._emit(UnexpectedError("reading rights", "".join(traceback.format_tb(error.__traceback__))))
                self._emit(ReadingRightsUnavailable(reason))
                await asyncio.sleep(self._timing.retry)
        finally:
            await cancel(looking)

    async def _session(self) -> None:
        """From connecting to the failure that ends it."""
        async with await connect(self._dsn, autocommit=True, connect_timeout=10) as conn:
            while True:
                self._hurry.clear()
                asked_at = self._clock()
                self._readings_begun += 1
                async with asyncio.timeout(self._timing.answer):
                    visible = await _visible(conn, self._unseen)
                    text = await read_rights(conn, self._roles)
                if text != self._text:
                    await self._on_change(parse_rights(text))
                    self._text = text
                    self._emit(ReadingRightsRead(len(self._roles)))
                self._unseen -= visible
                if not self._unseen:
                    self._asked_at = asked_at
                self.loaded.set()
                self._look()
                async with self._read:
                    self._last_reading = self._readings_begun
                    self._read.notify_all()
                try:
                    async with asyncio.timeout(self._timing.visible if self._unseen else self._timing.poll):
                        await self._hurry.wait()
                except TimeoutError:
                    continue

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._timing.look)
            self._look()

    def _look(self) -> None:
        is_certain = self._clock() - self._asked_at <= self._timing.patience
        if is_certain != self.is_certain:
            self.is_certain = is_certain
            if is_certain:
                self._on_certainty()
            else:
                self._on_doubt()
