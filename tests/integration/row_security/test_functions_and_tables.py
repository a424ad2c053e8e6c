"""What policies look at: functions, other tables, and the columns that may be read."""

from __future__ import annotations

import pytest

from leyden.model import Table
from leyden.postgres.reading.rights import parse_rights, read_rights
from leyden.postgres.sessions import connect
from leyden.shapes.rights import Forbidden
from policies_place import ANN, ANN_CLAIMS, BOB, Place

NOT_A_MEMBER = "not exists (select 1 from members m where m.project = docs.n)"


def test_a_function_means_what_its_body_says(place: Place, table: Table) -> None:
    with place.policies(("uid = auth.uid()", True, "SELECT", "PUBLIC")):
        before = place.compare(table, {"sub": ANN, "other": BOB})
        place.conn.execute(
            "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS"
            " $$ SELECT (current_setting('request.jwt.claims')::jsonb ->> 'other')::uuid $$"
        )
        after = place.compare(table, {"sub": ANN, "other": BOB})
        assert before
        assert after
        assert not before & after
        place.conn.execute(
            "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS"
            " $$ SELECT uid FROM public.docs LIMIT 1 $$"
        )
        assert "auth.uid is more than one expression" in place.why_asked(table)


def test_the_policies_of_a_table_that_is_looked_at_hold_too(place: Place, table: Table) -> None:
    with place.policies((NOT_A_MEMBER, True, "SELECT", "PUBLIC")):
        everybody = place.compare(table, ANN_CLAIMS)
        place.conn.execute("ALTER TABLE members ENABLE ROW LEVEL SECURITY")
        nobody = place.compare(table, ANN_CLAIMS)
        place.conn.execute(
            "CREATE POLICY own ON members USING (uid = auth.uid() AND exists (SELECT FROM projects"
            " WHERE projects.id = members.project AND team = auth.jwt() ->> 'org'))"
        )
        own = place.compare(table, ANN_CLAIMS)
        assert everybody < own < nobody
    for condition, is_bound in (("is_member(n)", True), ("is_member_as_owner(n)", False)):
        with place.policies((condition, True, "SELECT", "PUBLIC")):
            before = place.compare(table, ANN_CLAIMS)
            place.conn.execute("ALTER TABLE members ENABLE ROW LEVEL SECURITY")
            assert before
            assert place.compare(table, ANN_CLAIMS) == (set() if is_bound else before)


def test_functions_are_called_by_those_who_may(place: Place, table: Table) -> None:
    with place.policies(("is_member(n)", True, "SELECT", "PUBLIC")):
        place.conn.execute("REVOKE EXECUTE ON FUNCTION is_member FROM PUBLIC")
        assert "permission denied for function public.is_member" in place.why_asked(table)
        place.execute("GRANT EXECUTE ON FUNCTION is_member TO {}", place.group)
        assert place.compare(table, ANN_CLAIMS)
        place.execute("REVOKE USAGE ON SCHEMA auth FROM {}", place.reader)
        assert "permission denied for function auth.jwt" in place.why_asked(table)


@pytest.mark.parametrize("schema", ["elsewhere", "$user"])
def test_a_function_that_finds_its_tables_elsewhere_is_not_followed(place: Place, table: Table, schema: str) -> None:
    with place.policies(("is_member(n)", True, "SELECT", "PUBLIC")):
        if schema == "$user":
            place.execute("CREATE SCHEMA {}", place.reader)
        else:
            place.conn.execute(f"CREATE SCHEMA {schema}")
            place.conn.execute(f"ALTER FUNCTION is_member SET search_path = {schema}, public")
        assert "the table members is not in schema public" in place.why_asked(table)


def test_columns_that_may_not_be_read_are_known_by_name(place: Place, table: Table) -> None:
    with place.conn.transaction(force_rollback=True):
        place.execute("REVOKE SELECT ON docs FROM {}", place.reader)
        with pytest.raises(Forbidden, match="Permission denied for table docs"):
            place.rule(table)
        place.execute("GRANT SELECT (id, owner, n) ON docs TO {}", place.reader)
        assert place.rule(table).columns == frozenset(("id", "owner", "n"))
        place.execute("REVOKE SELECT (id) ON docs FROM {}", place.reader)
        with pytest.raises(Forbidden, match="Permission denied for column id of table docs"):
            place.rule(table)


async def test_the_question_leaves_the_session_as_it_was(place: Place) -> None:
    async with await connect(place.dsn, autocommit=True) as conn:
        text = await read_rights(conn, [place.reader])
        assert text == place.rights_text()
        cursor = await conn.execute("SELECT current_setting('search_path')")
        assert await cursor.fetchone() == ('"$user", public',)
        assert parse_rights(await read_rights(conn, ["nobody of this name"])) == {}
