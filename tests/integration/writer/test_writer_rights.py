"""Who may write: owners of rows without a role, grants and row-level security with one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from leyden.model import Author
from leyden.postgres.requirements import DatabaseRequirementError, require
from leyden.postgres.writing.writer import Outcome

CLIENT = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
FUTURE = 5_000_000_000_000


async def reasons(world: Any) -> list[tuple[str, str]]:
    return await world.sql("SELECT sqlstate, message FROM leyden.rejected ORDER BY id")


# ---- owners of rows -------------------------------------------------------------------------------------------------


@pytest.fixture
async def owned(world: Any) -> Any:
    await world.electrify(
        "CREATE TABLE notes (id text PRIMARY KEY, electric_user_id text, body text)",
        "CREATE TABLE remarks (id text PRIMARY KEY, note_id text REFERENCES notes, body text)",
    )
    await world.sql(
        "INSERT INTO notes VALUES ('a', 'ann', 'of ann'), ('b', 'bob', 'of bob'), ('-', NULL, 'of all'), ('0', '', '')"
    )
    world.author = Author("ann")
    return world


def note(owner: str | None, key: str = "a", body: str = "") -> dict[str, str | None]:
    return {"id": key, "electric_user_id": owner, "body": body}


async def test_a_user_writes_what_is_his_or_everybodys(owned: Any) -> None:
    for change in (
        owned.insert("notes", id="n", electric_user_id="ann", body="new"),
        owned.insert("notes", id="m", body="for all"),
        owned.update("notes", note("ann"), body="mine"),
        owned.update("notes", note(None, "-"), body="ours"),
        owned.update("notes", note("", "0"), electric_user_id="ann"),
        owned.delete("notes", note("ann"), *(await owned.tags("notes", "a"))),
    ):
        assert await owned.apply(change) is Outcome.APPLIED
    assert await owned.rows("notes") == [
        ("-", None, "ours"),
        ("0", "ann", ""),
        ("a", "ann", "mine"),  # a delete that had not seen the change
        ("b", "bob", "of bob"),
        ("m", None, "for all"),
        ("n", "ann", "new"),
    ]


async def test_nobody_writes_the_rows_of_others_and_the_others_keep_theirs(owned: Any) -> None:
    before = await owned.rows("notes")
    tags = await owned.tags("notes", "b")
    lies = [
        owned.insert("notes", id="n", electric_user_id="bob"),
        owned.insert("notes", id="b", electric_user_id="ann", body="mine now"),
        owned.update("notes", note("bob", "b"), body="vandalised"),
        owned.update("notes", note("ann", "b"), body="vandalised"),  # about the owner, too
        owned.update("notes", note("bob", "b"), electric_user_id="ann"),
        owned.update("notes", note("ann"), electric_user_id="bob"),
        owned.delete("notes", note("bob", "b"), *tags),
        owned.delete("notes", note("ann", "b"), *tags),
    ]
    for lie in lies:
        innocent = owned.update("notes", note(None, "-"), body="changed with it")
        assert await owned.apply(innocent, lie) is Outcome.REFUSED
    assert await owned.rows("notes") == before
    assert await owned.tags("notes", "b") == tags
    assert set(await reasons(owned)) == {("42501", "a row of table notes belongs to somebody else")}


async def test_a_dead_row_of_another_user_does_not_come_back_under_a_new_owner(owned: Any) -> None:
    """Its newer columns would come with it."""
    await owned.sql("UPDATE notes SET body = 'secret' WHERE id = 'b'")
    await owned.sql("DELETE FROM notes WHERE id = 'b'")
    assert await owned.apply(owned.insert("notes", id="b", electric_user_id="ann", body="x"), ms=1) is Outcome.REFUSED
    owned.author = Author("bob")
    again = owned.insert("notes", id="b", electric_user_id="bob", body="x")
    assert await owned.apply(again, ms=1, client=OTHER) is Outcome.APPLIED
    assert ("b", "bob", "secret") in await owned.rows("notes")


async def test_a_reference_to_another_users_row_stands_and_leaves_it_alone(owned: Any) -> None:
    """The client compensates for the row it refers to, in the same transaction."""
    tags = await owned.tags("notes", "b")
    remark = [owned.compensate("notes", {"id": "b"}), owned.insert("remarks", id="r", note_id="b", body="well")]
    assert await owned.apply(*remark) is Outcome.APPLIED
    assert await owned.tags("notes", "b") == tags
    await owned.sql("DELETE FROM remarks")
    await owned.sql("DELETE FROM notes WHERE id = 'b'")
    remark[1] = owned.insert("remarks", id="s", note_id="b", body="again")
    assert await owned.apply(*remark) is Outcome.REFUSED
    assert await owned.rows("remarks") == []
    ((sqlstate, _),) = await reasons(owned)
    assert sqlstate == "23503"


async def test_an_owner_may_be_an_uuid(world: Any) -> None:
    await world.electrify("CREATE TABLE notes (id text PRIMARY KEY, electric_user_id uuid, body text)")
    mine, other = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"
    world.author = Author(mine.upper())
    assert await world.apply(world.insert("notes", id="a", electric_user_id=mine)) is Outcome.APPLIED
    assert await world.apply(world.insert("notes", id="b", electric_user_id=other)) is Outcome.REFUSED


# ---- a database role ------------------------------------------------------------------------------------------------

POLICIES = """
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON docs USING (owner = current_setting('request.jwt.claims')::jsonb ->> 'sub');
CREATE POLICY public_ones ON docs FOR SELECT USING (owner = 'all');
GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO {role};
GRANT SELECT ON projects TO {role};
"""


def speaker(role: str | None, user: str, **claims: object) -> Author:
    return Author(user, json.dumps({"sub": user, **claims}), role=role)


@pytest.fixture
async def role(world: Any) -> AsyncIterator[str]:
    name = f"Role of {world.conn.info.dbname}"
    quoted = sql.Identifier(name).as_string(world.conn)
    await world.sql(f"CREATE ROLE {quoted} NOLOGIN")
    yield name
    await world.sql(f"DROP OWNED BY {quoted}")
    await world.sql(f"DROP ROLE {quoted}")


@pytest.fixture
async def guarded(world: Any, role: str) -> Any:
    await world.electrify(
        "CREATE TABLE projects (id text PRIMARY KEY, name text)",
        "CREATE TABLE docs (id text PRIMARY KEY, owner text, body text, project text REFERENCES projects)",
    )
    await world.sql("INSERT INTO projects VALUES ('p', 'P')")
    await world.sql("INSERT INTO docs VALUES ('a', 'ann', 'of ann'), ('b', 'bob', 'of bob'), ('-', 'all', 'of all')")
    await world.conn.execute(sql.SQL(POLICIES).format(role=sql.Identifier(role)))
    world.author = speaker(role, "ann")
    return world


def doc(owner: str, key: str) -> dict[str, str | None]:
    return {"id": key, "owner": owner, "body": ""}


async def test_the_tables_policies_decide(guarded: Any) -> None:
    world = guarded
    tags = {key: await world.tags("docs", key) for key in "ab-"}
    good = [
        world.insert("docs", id="n", owner="ann", body="new"),
        world.update("docs", doc("ann", "a"), body="mine"),
    ]
    assert await world.apply(*good, ms=FUTURE) is Outcome.APPLIED
    assert f"{CLIENT}@{FUTURE}" in await world.tags("docs", "a")
    bad = [
        (world.insert("docs", id="m", owner="bob"), "42501"),
        (world.update("docs", doc("ann", "a"), owner="bob"), "42501"),
        (world.update("docs", doc("ann", "b"), body="vandalised"), "02000"),
        (world.update("docs", doc("all", "-"), body="may be read, not written"), "02000"),
        (world.insert("docs", id="b", owner="ann"), "02000"),
        (world.delete("docs", doc("ann", "b"), *tags["b"]), "02000"),
        (world.update("projects", {"id": "p", "name": "P"}, name="Q"), "42501"),
    ]
    for change, _ in bad:
        assert await world.apply(change) is Outcome.REFUSED
    assert await world.rows("docs") == [
        ("-", "all", "of all", None),
        ("a", "ann", "mine", None),
        ("b", "bob", "of bob", None),
        ("n", "ann", "new", None),
    ]
    assert {key: await world.tags("docs", key) for key in "b-"} == {key: tags[key] for key in "b-"}
    refused = await reasons(world)
    assert [sqlstate for sqlstate, _ in refused] == [sqlstate for _, sqlstate in bad]
    assert refused[0][1] == 'new row violates row-level security policy for table "docs"'


async def test_owners_of_rows_are_the_policies_business_then(world: Any, role: str) -> None:
    await world.electrify("CREATE TABLE notes (id text PRIMARY KEY, electric_user_id text)")
    await world.conn.execute(sql.SQL("GRANT SELECT, INSERT ON notes TO {}").format(sql.Identifier(role)))
    world.author = speaker(role, "ann")
    assert await world.apply(world.insert("notes", id="n", electric_user_id="bob")) is Outcome.APPLIED


async def test_triggers_run_as_the_role_and_know_the_author(world: Any, role: str) -> None:
    await world.electrify("CREATE TABLE docs (id text PRIMARY KEY, body text)")
    await world.sql("CREATE SCHEMA app")
    await world.sql("CREATE TABLE app.seen (at text, name text, setting text)")
    await world.sql("CREATE TABLE app.later ()")
    await world.sql(
        "CREATE FUNCTION app.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO app.seen VALUES (TG_NAME, current_user, concat_ws('|',"
        " current_setting('request.jwt.claims')::jsonb ->> 'org', current_setting('request.jwt.claim.sub'),"
        " current_setting('leyden.user_id'), current_setting('leyden.client_id'),"
        " current_setting('leyden.claims', true)::jsonb ->> 'a'));"
        " IF TG_NAME = 'at_once' THEN INSERT INTO app.later DEFAULT VALUES; END IF; RETURN NEW; END $$"
    )
    await world.sql("CREATE TRIGGER at_once BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION app.see()")
    await world.sql(
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON app.later DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION app.see()"
    )
    await world.conn.execute(
        sql.SQL(
            "GRANT INSERT ON docs TO {role}; GRANT USAGE ON SCHEMA app TO {role};"
            " GRANT INSERT ON app.seen, app.later TO {role}"
        ).format(role=sql.Identifier(role))
    )
    world.author = Author("ann", '{"org": "é"}', '{"a": 1}', role)
    assert await world.apply(world.insert("docs", id="n")) is Outcome.APPLIED
    setting = f"é|ann|ann|{CLIENT}|1"
    assert await world.sql("SELECT * FROM app.seen") == [("at_once", role, setting), ("at_commit", role, setting)]
    # nothing of it stays with the session
    async with world.pool.connection() as conn:
        cursor = await conn.execute("SELECT current_user, current_setting('request.jwt.claims', true)")
        assert await cursor.fetchone() in [("postgres", ""), ("postgres", None)]


async def test_rows_that_triggers_change_are_tagged_though_the_role_has_no_right_to_tags(world: Any, role: str) -> None:
    await world.electrify(
        "CREATE TABLE docs (id text PRIMARY KEY, edits int)", "CREATE TABLE edits (id text PRIMARY KEY)"
    )
    await world.sql("INSERT INTO docs VALUES ('d', 0)")
    await world.sql(
        "CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN UPDATE docs SET edits = edits + 1; RETURN NULL; END $$"
    )
    await world.sql("CREATE TRIGGER counted AFTER INSERT ON edits FOR EACH ROW EXECUTE FUNCTION counted()")
    await world.conn.execute(
        sql.SQL("GRANT INSERT ON edits TO {role}; GRANT SELECT, UPDATE ON docs TO {role}").format(
            role=sql.Identifier(role)
        )
    )
    await world.sql("UPDATE leyden.row_state SET tags = '{}'")
    world.author = speaker(role, "ann")
    assert await world.apply(world.insert("edits", id="e"), ms=5) is Outcome.APPLIED
    assert await world.rows("docs") == [("d", 1)]
    (tag,) = await world.tags("docs", "d")
    assert tag.startswith("postgres_1@")
    assert await world.tags("edits", "e") == [f"{CLIENT}@5"]


async def test_a_reference_needs_no_right_to_write_what_it_refers_to(guarded: Any) -> None:
    world = guarded
    tags = await world.tags("projects", "p")
    changes = [
        world.compensate("projects", {"id": "p"}, *tags),
        world.insert("docs", id="n", owner="ann", project="p"),
    ]
    assert await world.apply(*changes) is Outcome.APPLIED
    assert ("n", "ann", None, "p") in await world.rows("docs")
    assert await world.tags("projects", "p") == tags
    assert await reasons(world) == []


async def test_a_reference_to_a_row_that_a_policy_hides_leaves_it_alone(world: Any, role: str) -> None:
    await world.electrify(
        "CREATE TABLE lists (id text PRIMARY KEY, owner text)",
        "CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists)",
    )
    await world.sql("INSERT INTO lists VALUES ('a', 'ann'), ('b', 'bob')")
    await world.conn.execute(
        sql.SQL(
            "ALTER TABLE lists ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON lists USING (owner = current_setting('leyden.user_id'));"
            "GRANT SELECT, UPDATE ON lists TO {role}; GRANT INSERT ON todos TO {role}"
        ).format(role=sql.Identifier(role))
    )
    world.author = speaker(role, "ann")
    before = await world.tags("lists", "b")
    for key in "ab":
        changes = [world.compensate("lists", {"id": key}), world.insert("todos", id=key, list=key)]
        assert await world.apply(*changes, ms=7) is Outcome.APPLIED
    assert f"{CLIENT}@7" in await world.tags("lists", "a")
    assert await world.tags("lists", "b") == before


async def test_a_dead_row_comes_back_only_for_who_might_have_written_it(guarded: Any) -> None:
    """Its newer columns come with it, and no policy sees that they were another's."""
    world = guarded
    await world.sql("UPDATE docs SET body = 'secret' WHERE id = 'b'")
    await world.sql("DELETE FROM docs WHERE id = 'b'")
    assert await world.apply(world.insert("docs", id="b", owner="ann", body="x"), ms=1) is Outcome.REFUSED
    assert [sqlstate for sqlstate, _ in await reasons(world)] == ["42501"]
    world.author = speaker(world.author.role, "bob")
    again = world.insert("docs", id="b", owner="bob", body="x")
    assert await world.apply(again, ms=1, client=OTHER) is Outcome.APPLIED
    assert ("b", "bob", "secret", None) in await world.rows("docs")


async def test_a_dead_row_comes_back_with_other_parents_than_it_had(guarded: Any) -> None:
    world = guarded
    await world.sql("INSERT INTO projects VALUES ('old', 'O')")
    await world.sql("UPDATE docs SET project = 'old' WHERE id = 'a'")
    await world.sql("DELETE FROM docs WHERE id = 'a'")
    await world.sql("DELETE FROM projects WHERE id = 'old'")
    assert (
        await world.apply(world.update("docs", {**doc("ann", "a"), "project": "old"}, project="p")) is Outcome.APPLIED
    )
    assert ("a", "ann", "of ann", "p") in await world.rows("docs")


async def test_claims_that_a_policy_cannot_read_refuse_the_upload_alone(guarded: Any) -> None:
    world = guarded
    good = world.author
    world.author = Author("ann", r'{"sub": "\u0000"}', role=good.role)
    assert await world.apply(world.insert("docs", id="n", owner="ann")) is Outcome.REFUSED
    world.author = good
    assert await world.apply(world.insert("docs", id="n", owner="ann")) is Outcome.APPLIED


async def test_each_attempt_runs_under_the_claims_of_its_moment(guarded: Any, database: str) -> None:
    world = guarded
    asked = iter([speaker(world.author.role, "bob"), speaker(world.author.role, "ann")])
    async with await psycopg.AsyncConnection.connect(database) as application:
        await application.execute("LOCK TABLE docs")
        upload = world.upload(world.insert("docs", id="n", owner="ann"))
        writing = asyncio.create_task(world.writer.apply(upload, lambda: next(asked)))
        stuck = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not await world.sql(  # noqa: ASYNC110
            f"{stuck} AND datname = current_database()"
        ):
            await asyncio.sleep(0.01)
        await asyncio.wait_for(world.napped.wait(), 5)
        await application.commit()
    assert await writing is Outcome.APPLIED


# ---- what a role cannot do ------------------------------------------------------------------------------------------


async def test_the_role_itself_can_read_and_forge_nothing_of_ours(guarded: Any, database: str) -> None:
    world = guarded
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(world.author.role)))
        for statement in (
            "SELECT * FROM leyden.row_state",
            "UPDATE leyden.row_state SET tags = '{}'",
            "INSERT INTO leyden.client_uploads VALUES ('c', 'u')",
            "UPDATE leyden.client_uploads SET lsn = 'x'",
            "SELECT * FROM leyden.rejected",
            "DELETE FROM leyden.rejected",
            "SELECT leyden.row_written(1, 'k', '{}', '{}')",
            "SELECT leyden.generate_row_trigger('docs'::regclass)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(statement)


async def test_on_a_connection_of_its_own_the_role_cannot_pass_for_the_service(guarded: Any, database: str) -> None:
    """With the setting that names the row which the service is writing, the row would keep the tags it had."""
    world, role = guarded, guarded.author.role
    await world.conn.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
    assert await world.apply(world.update("docs", doc("ann", "a"), body="mine"), ms=FUTURE) is Outcome.APPLIED
    before = await world.tags("docs", "a")
    own = make_conninfo(database, user=role)
    async with await psycopg.AsyncConnection.connect(own, autocommit=True) as conn:
        await conn.execute("SELECT set_config('request.jwt.claims', '{\"sub\": \"ann\"}', false)")
        row = f'{world.tables["docs"].id}:["a"]'
        await conn.execute("SELECT set_config('leyden.server_row', %s, false)", [row])
        await conn.execute("UPDATE docs SET body = 'unnoticed?'")
    (tag,) = await world.tags("docs", "a")
    assert tag not in before
    assert tag == f"postgres_1@{FUTURE}"


# ---- at start -------------------------------------------------------------------------------------------------------


async def test_a_role_that_policies_do_not_bind_is_found_at_start(guarded: Any, role: str) -> None:
    world = guarded
    await require(world.conn, roles=[role])
    quoted = sql.Identifier(role)

    async def lacks() -> set[str]:
        with pytest.raises(DatabaseRequirementError) as caught:
            await require(world.conn, roles=[role])
        return {one.code for one in caught.value.unmet}

    await world.conn.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(quoted))
    assert await lacks() == {"role_bypasses"}
    await world.conn.execute(sql.SQL("ALTER ROLE {} NOBYPASSRLS").format(quoted))
    await world.conn.execute(sql.SQL("GRANT postgres TO {}").format(quoted))
    assert await lacks() == {"role_is_service", "role_owns"}
    await world.conn.execute(sql.SQL("REVOKE postgres FROM {}").format(quoted))
    await world.conn.execute(sql.SQL("ALTER TABLE docs OWNER TO {}").format(quoted))
    assert await lacks() == {"role_owns"}
    await world.conn.execute("ALTER TABLE docs OWNER TO postgres")
    await require(world.conn, roles=[role])


async def test_a_role_that_is_missing_or_not_granted_is_found_at_start(world: Any, role: str) -> None:
    with pytest.raises(DatabaseRequirementError) as caught:
        await require(world.conn, roles=["nobody at all"])
    assert str(caught.value) == 'there is no role "nobody at all"; CREATE ROLE "nobody at all" NOLOGIN'
    service = f"service of {world.conn.info.dbname}"
    quoted = sql.Identifier(service).as_string(world.conn)
    await world.sql(f"CREATE ROLE {quoted} REPLICATION")
    await world.sql(f"GRANT CREATE ON DATABASE {world.conn.info.dbname} TO {quoted}")
    try:
        await world.sql(f"SET ROLE {quoted}")
        with pytest.raises(DatabaseRequirementError) as caught:
            await require(world.conn, roles=[role])
        assert [one.code for one in caught.value.unmet] == ["role_not_granted"]
        assert caught.value.unmet[0].remedy == f'GRANT "{role}" TO "{service}"'
        await world.sql("RESET ROLE")
        await world.sql(caught.value.unmet[0].remedy)
        await world.sql(f"SET ROLE {quoted}")
        await require(world.conn, roles=[role])
    finally:
        await world.sql("RESET ROLE")
        await world.sql(f"DROP OWNED BY {quoted}")
        await world.sql(f"DROP ROLE {quoted}")
