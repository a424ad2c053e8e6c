from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from leyden.postgres.sessions import session_conninfo


def test_settings_travel_in_the_connection_options() -> None:
    options = conninfo_to_dict(session_conninfo("postgresql://u@h/db"))["options"]
    assert "-c DateStyle=ISO,\\ DMY" in str(options)


def test_options_of_the_user_are_kept_before_ours() -> None:
    options = conninfo_to_dict(session_conninfo("host=h options='-c TimeZone=CET'"))["options"]
    assert str(options).startswith("-c TimeZone=CET ")
    assert "-c TimeZone=UTC" in str(options)


def test_a_malformed_connection_string_is_an_error() -> None:
    with pytest.raises(psycopg.ProgrammingError):
        session_conninfo("host")
