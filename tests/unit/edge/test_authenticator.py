"""Tokens judged while keys rotate, revocations arrive and strangers crowd in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from leyden.auth import (
    ALGORITHMS,
    Authentic,
    AuthSettings,
    KeyRing,
    OnChange,
    Refusal,
    Revocation,
    RevocationList,
    VerdictCache,
    VerificationKey,
    load_keys,
    mint_token,
)
from leyden.edge.access.authenticator import REVOCATIONS_TOO_OLD, Authenticator, TryAgainLater

NOW = 1_760_000_000
HS256 = ALGORITHMS["HS256"]
OLD, NEW = (load_keys(secret * 40, HS256)[0] for secret in ("old!", "new?"))


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Published:
    """Keys by name; ``next_keys`` is what a look at the issuer would bring."""

    def __init__(self, **keys: VerificationKey) -> None:
        self.ring = ring(**keys)
        self.next_keys: KeyRing | None = None
        self.available = True
        self.sought: list[str] = []
        self.on_change: Callable[[KeyRing], None] = lambda ring: None

    async def run(self, on_change: OnChange) -> None: ...

    async def seek(self, kid: str) -> bool:
        self.sought.append(kid)
        await asyncio.sleep(0)
        if self.next_keys is None:
            return False
        self.ring = self.next_keys
        self.on_change(self.ring)
        return True

    def reload(self) -> None: ...


def ring(**keys: VerificationKey) -> KeyRing:
    return KeyRing((named(key, kid) for kid, key in keys.items()), kids_select=True)


def named(key: VerificationKey, kid: str) -> VerificationKey:
    return VerificationKey(key.algorithm, key.signature_bytes, key.thumbprint, None, key.material, kid)


def token(key: VerificationKey = OLD, **claims: Any) -> str:
    content = {"sub": "alice", "iat": NOW - 60, "exp": NOW + 600, **claims}
    return mint_token(content, algorithm=HS256, key=key.material)


def settings(**policy: Any) -> AuthSettings:
    return AuthSettings("secure", (HS256,), KeyRing([OLD]), **policy)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def published() -> Published:
    return Published(old=OLD)


@pytest.fixture
def authenticator(published: Published, clock: Clock) -> Authenticator:
    made = Authenticator(settings(), published, clock=clock)
    published.on_change = made.use
    return made


async def code(authenticator: Authenticator, text: str) -> str | None:
    try:
        await authenticator.judge(text)
    except Refusal as refusal:
        return refusal.code
    return None


def with_kid(key: VerificationKey, kid: str, **claims: Any) -> str:
    content = {"sub": "alice", "iat": NOW - 60, "exp": NOW + 600, **claims}
    return mint_token(content, algorithm=HS256, key=key.material, kid=kid)


# ---- remembered verdicts --------------------------------------------------------------------------------------------


async def test_a_token_that_comes_back_costs_no_second_signature_check(authenticator: Authenticator) -> None:
    first = await authenticator.judge(token())
    again = await authenticator.judge(token())
    assert first.seconds is not None
    assert again.seconds is None
    assert again.identity == first.identity


async def test_a_remembered_token_still_expires(authenticator: Authenticator, clock: Clock) -> None:
    await authenticator.judge(token())
    clock.now = NOW + 603
    assert await code(authenticator, token()) == "expired"


async def test_a_remembered_token_is_refused_once_it_is_revoked(authenticator: Authenticator) -> None:
    await authenticator.judge(token())
    entry = Revocation(1, "user", "alice", None, NOW, NOW + 3600)
    authenticator.revocations = RevocationList([entry])
    assert await code(authenticator, token()) == "revoked"
    authenticator.revocations = RevocationList([])
    assert await code(authenticator, token()) is None


async def test_nothing_is_remembered_past_a_change_of_keys(authenticator: Authenticator) -> None:
    await authenticator.judge(token())
    authenticator.use(ring(new=NEW))
    assert await code(authenticator, token()) == "signature_invalid"
    authenticator.use(ring(old=OLD))
    assert (await authenticator.judge(token())).seconds is not None


async def test_a_refused_token_is_not_remembered(authenticator: Authenticator) -> None:
    too_early = token(nbf=NOW + 100)
    assert await code(authenticator, too_early) == "not_yet_valid"
    assert len(authenticator._verdicts) == 0


async def test_what_is_remembered_is_bounded_by_the_length_of_the_tokens(authenticator: Authenticator) -> None:
    cache = VerdictCache(characters=1_000)
    accepted = await authenticator.judge(token())
    authentic = Authentic(accepted.identity.claims, OLD)
    for text in ("a" * 400, "b" * 400, "c" * 400):
        cache.keep(text, authentic, accepted.identity)
        cache.keep(text, authentic, accepted.identity)
    assert [bool(cache.find(letter * 400, NOW)) for letter in "abc"] == [False, True, True]
    cache.keep("d" * 1_001, authentic, accepted.identity)
    assert len(cache) == 0


# ---- unknown keys ---------------------------------------------------------------------------------------------------


async def test_an_unknown_key_is_looked_for_before_the_token_is_refused(
    authenticator: Authenticator, published: Published
) -> None:
    published.next_keys = ring(old=OLD, new=NEW)
    accepted = await authenticator.judge(with_kid(NEW, "new"))
    assert accepted.identity.kid == "new"
    assert published.sought == ["new"]
    await authenticator.judge(with_kid(OLD, "old"))
    assert published.sought == ["new"]


async def test_a_key_that_nobody_publishes_is_looked_for_once(
    authenticator: Authenticator, published: Published
) -> None:
    assert await code(authenticator, with_kid(NEW, "new")) == "key_unknown"
    published.next_keys = ring(other=NEW)
    assert await code(authenticator, with_kid(NEW, "new")) == "key_unknown"
    assert published.sought == ["new", "new"]


async def test_without_keys_nobody_is_told_that_a_token_is_bad(
    authenticator: Authenticator, published: Published
) -> None:
    await authenticator.judge(token())
    published.available = False
    for text in (token(), with_kid(NEW, "new"), "rubbish"):
        with pytest.raises(TryAgainLater, match="key_unavailable"):
            await authenticator.judge(text)


# ---- rationing ------------------------------------------------------------------------------------------------------


class Ration:
    def __init__(self, *, grants: bool = True, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.asked = 0
        self._grants = grants
        self._meanwhile = meanwhile

    async def __call__(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        self._meanwhile()
        return self._grants


async def test_only_signature_checks_are_rationed(authenticator: Authenticator) -> None:
    ration = Ration()
    for rubbish in ("", "a.b.c", token().replace(".", ""), mint_token({"sub": "alice"})):
        with pytest.raises(Refusal):
            await authenticator.judge(rubbish, ration)
    assert ration.asked == 0
    with pytest.raises(Refusal):
        await authenticator.judge(with_kid(NEW, "old"), ration)  # forged
    await authenticator.judge(token(), ration)
    await authenticator.judge(token(), ration)
    assert ration.asked == 2


async def test_who_gets_no_turn_is_told_to_come_again(authenticator: Authenticator) -> None:
    with pytest.raises(TryAgainLater, match="overloaded"):
        await authenticator.judge(token(), Ration(grants=False))


async def test_a_key_withdrawn_while_waiting_for_a_turn_accepts_nobody(authenticator: Authenticator) -> None:
    ration = Ration(meanwhile=lambda: authenticator.use(ring(new=NEW)))
    with pytest.raises(Refusal) as caught:
        await authenticator.judge(with_kid(OLD, "old"), ration)
    assert caught.value.code == "key_unknown"


# ---- what happens meanwhile -----------------------------------------------------------------------------------------


async def test_an_identity_found_a_moment_ago_is_reconsidered(authenticator: Authenticator, clock: Clock) -> None:
    identity = (await authenticator.judge(token())).identity
    authenticator.reconsider(identity)

    def reason() -> str:
        with pytest.raises(Refusal) as caught:
            authenticator.reconsider(identity)
        return caught.value.code

    authenticator.revocations = RevocationList([Revocation(1, "user", "alice", None, NOW, NOW + 3600)])
    assert reason() == "revoked"
    authenticator.revocations = RevocationList([])
    authenticator.use(ring(new=NEW))
    assert reason() == "key_unknown"
    authenticator.use(ring(old=OLD))
    clock.now = NOW + 603
    assert reason() == "expired"


@pytest.mark.parametrize(("age", "strict", "let_in"), [(0, True, True), (301, False, True), (301, True, False)])
async def test_strict_mode_lets_nobody_in_when_revocations_are_not_known(
    age: float, strict: bool, let_in: bool, published: Published, clock: Clock
) -> None:
    authenticator = Authenticator(
        settings(revocation_strict=strict), published, clock=clock, revocations_age=lambda: age
    )
    assert REVOCATIONS_TOO_OLD == 300
    if let_in:
        await authenticator.judge(token())
    else:
        with pytest.raises(TryAgainLater, match="revocations_unknown"):
            await authenticator.judge(token())
