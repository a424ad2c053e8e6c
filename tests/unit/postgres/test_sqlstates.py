from __future__ import annotations

import psycopg
import pytest

from leyden.postgres.writing import sqlstates


def error(code: str) -> psycopg.Error:
    return psycopg.errors.lookup(code)("text with a secret in it")


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
def test_lost_races_are_run_again(code: str) -> None:
    assert sqlstates.is_contention(error(code))
    assert not sqlstates.is_server_trouble(error(code))


@pytest.mark.parametrize("code", ["08006", "53100", "53300", "57014", "57P01", "57P03", "58030", "25006", "XX000"])
def test_trouble_of_the_server_is_not_the_uploads_fault(code: str) -> None:
    assert sqlstates.is_server_trouble(error(code))
    assert not sqlstates.is_contention(error(code))


@pytest.mark.parametrize(
    ("code", "may_be"), [("XX000", True), ("57014", True), ("53200", True), ("57P01", False), ("25006", False)]
)
def test_some_trouble_may_come_from_what_was_uploaded(code: str, may_be: bool) -> None:
    assert sqlstates.may_be_the_uploads_fault(error(code)) is may_be


def test_a_statement_that_took_too_long_was_cut_off() -> None:
    assert [sqlstates.is_cut_off(error(code)) for code in ("57014", "57P01", "40001")] == [True, False, False]


def test_a_connection_lost_without_a_code_is_trouble_of_the_server() -> None:
    lost = psycopg.OperationalError("consuming input failed")
    assert sqlstates.is_server_trouble(lost)
    assert not sqlstates.may_be_the_uploads_fault(lost)


@pytest.mark.parametrize("code", ["22001", "22P02", "23502", "23503", "42501", "42703", "42P01", "54000", "P0001"])
def test_everything_else_is_refused(code: str) -> None:
    assert not sqlstates.is_contention(error(code))
    assert not sqlstates.is_server_trouble(error(code))
    assert not sqlstates.is_worth_another_attempt(error(code))
    assert sqlstates.is_about_the_upload(error(code))


def test_a_mistake_in_the_use_of_psycopg_is_nobodys_upload() -> None:
    assert not sqlstates.is_about_the_upload(psycopg.ProgrammingError("the query has 2 placeholders"))
    assert sqlstates.is_about_the_upload(psycopg.DataError("text fields cannot contain NUL"))


def test_a_refusal_names_the_condition_and_no_value() -> None:
    assert sqlstates.refusal_of(error("22P02")) == sqlstates.Refusal("22P02", "InvalidTextRepresentation")
    assert sqlstates.refusal_of(psycopg.DataError("secret")).sqlstate == "22021"
