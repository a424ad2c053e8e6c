"""Lines of the tokens file, and whose a presented secret is."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import ALGORITHMS, generate_key, load_private_key, mint_token
from leyden.edge.admin.credentials import (
    MAX_CREDENTIALS,
    SCOPES,
    Credential,
    InvalidCredentials,
    identify,
    new_credential,
    parse_credentials,
)

HASH = "5e" * 32


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


@given(st.sets(st.sampled_from(SCOPES), min_size=1), st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_what_is_made_can_be_read_again_and_opens(scopes: set[str], name: str) -> None:
    credential, secret = new_credential(name, scopes)  # type: ignore[arg-type]
    (read,) = parse_credentials(f"# who\n\n  {credential.line}\r\n")
    assert read == credential
    assert identify([read], secret) is read
    assert secret not in credential.line
    assert credential.digest.hex() not in repr(credential)


def test_secrets_differ_and_hold_32_bytes_after_the_prefix() -> None:
    made = {new_credential("a", ["status"])[1] for _ in range(50)}
    assert len(made) == 50
    assert all(len(secret.removeprefix("leyden_admin_")) == 43 for secret in made)


@pytest.mark.parametrize(("name", "scopes"), [("", ["status"]), ("a b", ["status"]), ("a" * 65, ["status"]), ("a", [])])
def test_a_credential_needs_a_plain_name_and_a_scope(name: str, scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        new_credential(name, scopes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names nobody"),
        ("# nobody\n\n", "names nobody"),
        (f"# hidden\u2028ops status {HASH}\x0bops status {HASH}", "names nobody"),
        (f"ops {HASH}", "2 words instead of three in line 1"),
        (f"# a\nops status {HASH} more", "4 words instead of three in line 2"),
        (f"ops status, {HASH}", "scopes in line 1"),
        (f"ops admin {HASH}", "scopes in line 1"),
        (f"ops status,status {HASH}", "scopes in line 1"),
        (f"o/ps status {HASH}", "name in line 1"),
        (f"ops status {HASH[:-1]}", "SHA-256"),
        (f"ops status {HASH[:-1]}g", "SHA-256"),
        ("ops status leyden_admin_s3cret", "SHA-256"),
        (f"a status {HASH}\na status {'00' * 32}", "name of line 2 a second time"),
        (f"a status {HASH}\nb status {HASH.upper()}", "hash of line 2 a second time"),
        ("\n".join(f"n{n} status {n:064x}" for n in range(MAX_CREDENTIALS + 1)), "more than 100"),
    ],
)
def test_a_file_with_a_mistake_is_refused_as_a_whole(text: str, reason: str) -> None:
    with pytest.raises(InvalidCredentials, match=reason) as caught:
        parse_credentials(text)
    assert "s3cret" not in str(caught.value)
    assert HASH not in str(caught.value)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(InvalidCredentials):
        parse_credentials(text)


def test_each_secret_opens_its_own_credential() -> None:
    made = [new_credential(f"n{number}", ["status"]) for number in range(5)]
    credentials = [credential for credential, _ in made]
    assert [identify(credentials, secret) for _, secret in made] == credentials
    assert identify(credentials, new_credential("x", ["status"])[1]) is None
    assert identify([], made[0][1]) is None


@pytest.mark.parametrize("place", [0, 4, None], ids=["first", "last", "nobody's"])
def test_every_hash_is_compared_whoever_it_is(place: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_credential(f"n{number}", ["status"]) for number in range(5)]
    secret = new_credential("x", ["status"])[1] if place is None else made[place][1]
    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    identify([credential for credential, _ in made], secret)
    assert compared == [credential.digest for credential, _ in made]


@pytest.mark.parametrize(
    "secret",
    ["", "short", "x" * 42, "x" * 513, "x" * 43 + "é", "x" * 43 + "\n"],
    ids=["empty", "a password", "too short for 32 bytes", "endless", "not ASCII", "with a line break"],
)
def test_what_cannot_hold_32_random_bytes_opens_nothing_even_if_its_hash_is_listed(secret: str) -> None:
    assert identify([Credential("weak", frozenset({"status"}), digest(secret))], secret) is None


def test_a_token_of_a_user_opens_nothing_even_if_its_hash_is_listed() -> None:
    algorithm = ALGORITHMS["ES256"]
    pair = generate_key("ES256")
    assert pair.private_pem is not None
    key = load_private_key(pair.private_pem.encode(), algorithm)
    jwt = mint_token({"sub": "alice", "iat": 1, "exp": 2}, algorithm=algorithm, key=key)
    assert identify([Credential("user", frozenset({"status"}), digest(jwt))], jwt) is None


@pytest.mark.parametrize(
    "secret", [secrets.token_hex(32), secrets.token_urlsafe(32), "Ab+/" * 11 + "=="], ids=["hex", "urlsafe", "base64"]
)
def test_secrets_made_elsewhere_are_as_good(secret: str) -> None:
    credential = Credential("ops", frozenset({"status"}), digest(secret))
    assert identify([credential], secret) is credential
