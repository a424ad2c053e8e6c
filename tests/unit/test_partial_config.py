"""The part of the configuration that commands read which only touch the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from leyden.config import ConfigurationError, load_database_settings, load_settings


def test_nothing_need_be_set() -> None:
    settings = load_database_settings({})
    assert settings.conninfo is None
    assert settings.max_token_lifetime == 0
    assert settings.data_dir == load_settings({"AUTH_MODE": "insecure"}).data_dir


@pytest.mark.parametrize("require_ssl", ["", "true", "false"])
@pytest.mark.parametrize("query", ["", "?sslmode=disable"])
def test_the_database_is_the_one_that_the_service_uses(query: str, require_ssl: str) -> None:
    env = {"DATABASE_URL": f"postgresql://app:secret@db:6432/data{query}", "DATABASE_REQUIRE_SSL": require_ssl}
    settings = load_database_settings(env)
    assert settings.conninfo == load_settings({**env, "AUTH_MODE": "insecure"}).database_conninfo
    assert settings.conninfo is not None
    assert conninfo_to_dict(settings.conninfo)["password"] == "secret"
    assert "secret" not in repr(settings)


def test_the_other_settings_are_read_too() -> None:
    settings = load_database_settings({"LEYDEN_DATA_DIR": "data", "AUTH_JWT_MAX_LIFETIME": "3600"})
    assert (settings.data_dir, settings.max_token_lifetime) == (Path("data"), 3600)


def test_every_mistake_is_reported_and_no_value_shown() -> None:
    env = {"DATABASE_URL": "secret", "DATABASE_REQUIRE_SSL": "secret", "AUTH_JWT_MAX_LIFETIME": "secret"}
    with pytest.raises(ConfigurationError) as caught:
        load_database_settings(env)
    assert [problem.variable for problem in caught.value.problems] == list(env)
    assert "secret" not in str(caught.value)
