"""``leyden shape explain``: a client with a token is judged as the service does, any other taken at its word."""

from __future__ import annotations

from typing import Any

import pytest

from command_line import run
from explaining import HS, MINE, SECRET, Explain, checks, refusal, token, verdict
from interop.service import database_url
from leyden.auth import mint_token


def test_a_good_token_is_judged_and_its_claims_are_used(explain: Explain) -> None:
    given = token("bob", org="acme")
    result = explain("issues", "--where", MINE, "--token", given, "--pk", "7", env=HS)

    assert result.exit_code == 0
    assert checks(result)["token is good"].startswith('ok: user "bob", until 2')
    assert checks(result)["token is not revoked"] == "ok: none is in force"
    assert checks(result)["claims that the filter uses"] == "ok: auth.sub is 'bob'"
    claimed = explain(
        "notes", "--where", "this.org = auth.claims ->> 'org'", "--token", "-", env=HS, stdin=given + "\n"
    )
    assert checks(claimed)["claims that the filter uses"] == "ok: auth.claims ->> 'org' is 'acme'"
    assert verdict(claimed).startswith("At present 1 row reaches")


@pytest.mark.parametrize(
    ("made", "code"),
    [
        ({"lifetime": -60}, "expired"),
        ({"secret": SECRET[::-1]}, "signature_invalid"),
        ({"sub": ""}, "user_invalid"),
    ],
)
def test_a_token_that_is_refused_lets_no_row_through(made: dict[str, Any], code: str, explain: Explain) -> None:
    given = token(**made)
    result = explain("issues", "--token", given, "--pk", "7", env=HS)

    assert result.exit_code == 1
    assert checks(result)["token is good"].startswith(f"FAILED: {code}: ")
    assert checks(result)["filter is understood"] == "-"
    assert verdict(result).startswith(f"Refused, so that no row reaches the client: {code}: ")
    assert "The row:" not in result.stdout


def test_a_text_that_is_no_token_is_refused(explain: Explain) -> None:
    for given in ("x", "", "\udcff.\x1b[2J.\n"):
        result = explain("issues", "--token", given, env=HS)
        assert result.exit_code == 1
        assert checks(result)["token is good"].startswith("FAILED: token_")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("user", "ann"), "all tokens of the user were revoked (revocation 1)"),
        (("jti", "t-1"), "this token was revoked by its jti (revocation 1)"),
        (("all", "--issued-before", "now"), "all tokens issued up to"),
    ],
)
def test_a_revoked_token_lets_no_row_through(
    entry: tuple[str, ...], words: str, explain: Explain, database: str
) -> None:
    given = token("ann", jti="t-1")
    assert explain("issues", "--token", given, env=HS).exit_code == 0
    assert run("revoke", *entry, env={"DATABASE_URL": database_url(database)}).exit_code == 0
    result = explain("issues", "--token", given, env=HS)

    assert result.exit_code == 1
    assert checks(result)["token is good"].startswith("ok")
    assert words in checks(result)["token is not revoked"]
    assert verdict(result).startswith("Refused, so that no row reaches the client: revoked: ")


def test_revocations_of_others_are_counted_and_pass(explain: Explain, database: str) -> None:
    assert run("revoke", "user", "bob", env={"DATABASE_URL": database_url(database)}).exit_code == 0
    result = explain("issues", "--token", token("ann"), env=HS)
    assert checks(result)["token is not revoked"] == "ok: none of the 1 in force reaches it"


def test_neither_token_nor_key_is_printed(explain: Explain) -> None:
    for given in (token(), token(lifetime=-60), token(secret=SECRET[::-1]), token()[:-4], "x" + token()):
        for arguments in (["--token", given], ["--token", "-"], ["--token", given, "--pk", "7", "--json"]):
            result = explain("issues", *arguments, env=HS, stdin=given)
            for piece in (SECRET, *given.split(".")[1:]):
                assert piece not in result.output


def test_insecure_mode_says_that_nothing_was_verified(explain: Explain) -> None:
    result = explain("issues", "--token", mint_token({"sub": "ann"}), "--pk", "7", env={"AUTH_MODE": "insecure"})
    assert result.exit_code == 0
    assert checks(result)["token is good"] == 'ok: user "ann", NOT VERIFIED, because AUTH_MODE=insecure'


def test_a_client_without_a_token_is_taken_at_its_word_and_that_is_said(explain: Explain) -> None:
    where = "this.title = auth.claims ->> 'title' AND auth.claims ->> 'sub' = 'ann' AND auth.claims ->> 'n' = '5'"
    result = explain(
        "issues", "--where", where, "--user", "ann", "--claim", "title=Leak", "--claim", "n=5", "--pk", "7"
    )

    assert result.exit_code == 0
    assert checks(result)["token is good"] == "-: NOTHING WAS VERIFIED: the client is what --user and --claim say"
    assert checks(result)["claims that the filter uses"] == (
        "ok: auth.claims ->> 'title' is 'Leak'; auth.claims ->> 'sub' is 'ann'; auth.claims ->> 'n' is '5'"
    )


def test_a_claim_that_the_client_does_not_have_is_null(explain: Explain) -> None:
    result = explain("issues", "--where", "this.title = auth.claims ->> 'gone'", "--user", "ann", "--pk", "7")
    assert result.exit_code == 1
    assert verdict(result).endswith("is NULL (this.title is 'Leak', auth.claims ->> 'gone' is NULL); only true passes")


def test_a_claim_without_a_single_text_is_an_error(explain: Explain) -> None:
    where = "this.title = auth.claims ->> 'n'"
    result = explain("issues", "--where", where, "--user", "ann", "--claim", "n=1.5", "--pk", "7")
    assert result.exit_code == 1
    assert checks(result)["claims that the filter uses"] == "ok: auth.claims ->> 'n' has no single text"
    assert f"       error  {where}\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["issues", "--where", MINE], "the filter uses auth.sub: say who the client is"),
        (["issues", "--where", MINE, "--claim", "a=b"], "the filter uses auth.sub, the user: say who the client is"),
        (["issues", "--where", "this.title = auth.claims ->> 'a'"], "the filter uses auth.claims ->> 'a': say who"),
        (["notes"], "rows of the table have an owner, in the column electric_user_id: say who the client is"),
        (["notes", "--claim", "a=b"], "rows of the table have an owner"),
        (["issues", "--user", ""], "no user id is empty"),
        (["issues", "--user", "ann", "--claim", "a"], "write a claim as name=value"),
        (["issues", "--claim", "a=1", "--claim", "a=2"], 'the claim "a" is given twice'),
        (["issues", "--token", "x", "--user", "ann"], "leave --user and --claim out"),
        (["issues", "--token", "x", "--claim", "a=b"], "leave --user and --claim out"),
        (["issues", "--jwks", __file__], "--jwks is for --token"),
        (["issues", "--token", "x", "--jwks", __file__], "--jwks stands in for AUTH_JWT_JWKS_URL"),
        (["issues", "--token", "-"], "one token is needed on standard input, and there are none"),
        ([], "Missing argument 'TABLE'"),
        (["issues", "7"], "Got unexpected extra argument"),
    ],
)
def test_a_question_without_an_answer_is_wrong_use(arguments: list[str], reason: str, explain: Explain) -> None:
    assert reason in refusal(explain(*arguments, env=HS, stdin=""))


def test_only_one_token_is_read(explain: Explain) -> None:
    assert "there are 2" in refusal(explain("issues", "--token", "-", env=HS, stdin=f"{token()}\n{token()}\n"))


def test_a_wrong_configuration_is_told_where_it_matters(explain: Explain) -> None:
    wrong = {"AUTH_JWT_ALG": "HS256", "LOG_LEVEL": "x", "HTTP_PORT": "x"}
    result = explain("issues", "--token", "x", env=wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "AUTH_JWT_KEY is not set" in result.stderr
    assert explain("issues", "--user", "ann", env=wrong).exit_code == 0
