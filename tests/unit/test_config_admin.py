"""The variables of the admin API."""

from __future__ import annotations

from pathlib import Path

import pytest

from leyden.config import AdminSettings, ConfigurationError, Settings, load_settings
from leyden.edge.admin.credentials import new_credential

SECURE = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": "correct-horse-battery-staple-0123456789"}
CREDENTIAL, SECRET = new_credential("ops", ["status", "metrics"])


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "admin-tokens"
    path.write_text(f"# administrators\n{CREDENTIAL.line}\n", "utf-8")
    path.chmod(0o600)
    return path


def load(tokens: Path, **env: str) -> Settings:
    return load_settings({**SECURE, "ADMIN_TOKENS_FILE": str(tokens), **env})


def admin(tokens: Path, **env: str) -> AdminSettings:
    settings = load(tokens, **env).admin
    assert settings is not None
    return settings


def problems(env: dict[str, str]) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({**SECURE, **env})
    assert SECRET not in str(caught.value)
    return {problem.variable: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize("env", [{}, {"ADMIN_TOKENS_FILE": "", "LEYDEN_ADMIN_PORT": " "}])
def test_it_is_off_unless_there_are_credentials(env: dict[str, str]) -> None:
    assert load_settings({**SECURE, **env}).admin is None


def test_it_listens_on_this_machine(tokens: Path) -> None:
    settings = admin(tokens)
    assert (settings.host, settings.port, settings.loopback_only) == ("127.0.0.1", 5134, True)
    assert settings.credentials == (CREDENTIAL,)
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("host", "read", "loopback_only"),
    [
        ("[::1]", "::1", True),
        ("localhost", "localhost", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("0.0.0.0", "0.0.0.0", False),
        ("::", "::", False),
        ("10.0.0.5", "10.0.0.5", False),
    ],
)
def test_elsewhere_it_warns_that_secrets_can_be_read_on_the_way(
    tokens: Path, host: str, read: str, loopback_only: bool
) -> None:
    settings = admin(tokens, LEYDEN_ADMIN_HOST=host, LEYDEN_ADMIN_PORT="0")
    assert (settings.host, settings.port, settings.loopback_only) == (read, 0, loopback_only)
    assert any("without TLS" in warning for warning in settings.warnings) is not loopback_only


@pytest.mark.parametrize("name", ["LEYDEN_ADMIN_HOST", "LEYDEN_ADMIN_PORT"])
def test_where_it_listens_means_nothing_without_credentials(name: str) -> None:
    assert problems({name: "1"}) == {name: "has no effect without ADMIN_TOKENS_FILE"}


def test_settings_of_the_commands_may_stand_beside_those_of_the_service() -> None:
    load_settings({**SECURE, "LEYDEN_ADMIN_URL": "http://127.0.0.1:5134", "LEYDEN_ADMIN_TOKEN": SECRET})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"# nobody yet\n", "names nobody"),
        (f"ops status {SECRET}\n".encode(), "no SHA-256 of 64 hex digits at the end of line 1"),
        (f"{SECRET}\n".encode(), "1 words instead of three in line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 300_000, "too large"),
    ],
    ids=["empty", "blank", "comment", "secret at the end", "secret alone", "no text", "too large"],
)
def test_a_file_that_names_nobody_for_certain_is_refused(tokens: Path, content: bytes, message: str) -> None:
    tokens.write_bytes(content)
    found = problems({"ADMIN_TOKENS_FILE": str(tokens), "LEYDEN_ADMIN_PORT": "http"})
    assert found.keys() == {"ADMIN_TOKENS_FILE", "LEYDEN_ADMIN_PORT"}
    assert message in found["ADMIN_TOKENS_FILE"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in problems({"ADMIN_TOKENS_FILE": str(tmp_path / "none")})["ADMIN_TOKENS_FILE"]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_can_read_is_warned_of(tokens: Path, mode: int, warned: bool) -> None:
    tokens.chmod(mode)
    assert any("read by everybody" in warning for warning in admin(tokens).warnings) is warned


def test_a_file_that_everybody_can_write_to_is_refused(tokens: Path) -> None:
    tokens.chmod(0o666)
    assert "write" in problems({"ADMIN_TOKENS_FILE": str(tokens)})["ADMIN_TOKENS_FILE"]


def test_two_listeners_need_two_ports(tokens: Path) -> None:
    assert problems({"ADMIN_TOKENS_FILE": str(tokens), "HTTP_PORT": "5134"}).keys() == {"LEYDEN_ADMIN_PORT"}
    load(tokens, HTTP_PORT="0", LEYDEN_ADMIN_PORT="0")


def test_no_representation_shows_a_hash(tokens: Path) -> None:
    assert CREDENTIAL.digest.hex() not in repr(load(tokens))
    assert repr(CREDENTIAL.digest) not in repr(load(tokens))
