"""Keys replaced under load: not one good client is refused, whatever the source of keys."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

import issuers
from interop.service import database_url
from issuers import Issuer, published, signing_key, token_under
from leyden.auth import KeySetRefreshed, KeyWithdrawn
from leyden.config import load_settings
from leyden.edge.access import sessions
from leyden.events import ClientRefused, SessionEnded
from speaker import Running, serving

#: Clients that connect at a time.
LOAD = 6


class Signer:
    """The key that the issuer signs with at present."""

    def __init__(self, key: ECKey) -> None:
        self.key = key
        #: Tokens of each key that have not been answered yet, by thumbprint.
        self.under_way: Counter[str] = Counter()

    def token(self) -> str:
        return token_under(self.key, aud="leyden")


@asynccontextmanager
async def load(running: Running, *signers: Signer) -> AsyncIterator[list[int]]:
    """Clients that connect all the while with a fresh token of the signers in turn; counts those let in."""
    let_in = [0]
    numbers = itertools.count()
    over = False

    async def come_and_go() -> None:
        while not over:
            number = next(numbers)
            signer = signers[number % len(signers)]
            token, thumbprint = signer.token(), signer.key.thumbprint()
            signer.under_way[thumbprint] += 1
            async with running.speaker() as speaker:
                answer = await speaker.authenticate(token, f"device-{number}")
                signer.under_way[thumbprint] -= 1
                assert answer.WhichOneof("result") == "message", answer
            let_in[0] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(LOAD):
            group.create_task(come_and_go())
        try:
            yield let_in
        finally:
            over = True  # not cancelled: `asyncio.wait_for` of Python 3.11 can lose that


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)


async def some_more(let_in: list[int], number: int = 40) -> None:
    """Waits for so many more clients."""
    enough = let_in[0] + number
    await until(lambda: let_in[0] >= enough, 30)


def write_pem(path: Path, key: ECKey) -> None:
    path.write_bytes(key.as_pem(private=False))


async def test_keys_in_files_are_rotated_without_a_refusal(database: str, tmp_path: Path) -> None:
    old, new = signing_key("old"), signing_key("new")
    current, previous = tmp_path / "current.pem", tmp_path / "previous.pem"
    write_pem(current, old)
    write_pem(previous, old)
    settings = load_settings(
        {
            "DATABASE_URL": database_url(database),
            "AUTH_JWT_ALG": "ES256",
            "AUTH_JWT_KEY_FILE": str(current),
            "AUTH_JWT_KEY_PREVIOUS_FILE": str(previous),
        }
    )
    async with serving(settings) as running:
        first, second = Signer(old), Signer(old)
        async with load(running, first, second) as let_in:
            await some_more(let_in)
            write_pem(current, new)
            running.service.reload()
            await until(lambda: len(running.service.access.authenticator.thumbprints) == 2)
            second.key = new  # old and new tokens side by side
            await some_more(let_in)
            first.key = new
            await until(lambda: first.under_way[old.thumbprint()] == 0)
            write_pem(previous, new)
            running.service.reload()
            await until(lambda: len(running.service.access.authenticator.thumbprints) == 1)
            await some_more(let_in)
        assert running.of(ClientRefused) == []
        async with running.speaker() as late:
            answer = await late.authenticate(Signer(old).token(), "late")
            assert answer.WhichOneof("result") == "error"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as made:
        yield made


def publish(issuer: Issuer, *keys: ECKey) -> None:
    issuer.answers["/keys"] = issuers.Answer(issuers.key_set(*(published(key) for key in keys)))


async def test_a_published_key_set_is_rotated_without_a_refusal(
    database: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "WITHDRAWAL_GRACE", 1.0)
    old, new = signing_key("old"), signing_key("new")
    publish(issuer, old)
    settings = load_settings(
        {
            "DATABASE_URL": database_url(database),
            "AUTH_JWT_JWKS_URL": issuer.url("/keys"),
            "AUTH_JWT_JWKS_ALLOW_HTTP": "yes",
            "AUTH_JWT_AUD": "leyden",
        }
    )
    async with serving(settings) as running, running.speaker() as resident:
        await resident.authenticate(Signer(old).token(), "resident")
        await resident.start()
        first, second = Signer(old), Signer(old)
        async with load(running, first, second) as let_in:
            await some_more(let_in)
            publish(issuer, old, new)
            second.key = new  # a kid that nobody has heard of yet
            await some_more(let_in)
            first.key = new
            await until(lambda: first.under_way[old.thumbprint()] == 0)
            publish(issuer, new)
            running.service.reload()
            await until(lambda: bool(running.of(KeyWithdrawn)))
            await some_more(let_in)
        assert running.of(ClientRefused) == []
        # what the withdrawn key vouched for ended, and nothing else
        assert await resident.closed() == (4000, "JWT-expired")
        assert [(event.client_id, event.cause) for event in running.of(SessionEnded)] == [("resident", "key_withdrawn")]
    assert issuer.count("/keys") <= 4
    assert len([event for event in running.of(KeySetRefreshed) if event.changed]) == 3


async def test_a_service_without_keys_is_not_ready_and_becomes_so_by_itself(database: str, issuer: Issuer) -> None:
    issuer.answers["/keys"] = issuers.Answer(b"", status=500)
    settings = load_settings(
        {
            "DATABASE_URL": database_url(database),
            "AUTH_JWT_JWKS_URL": issuer.url("/keys"),
            "AUTH_JWT_JWKS_ALLOW_HTTP": "yes",
            "AUTH_JWT_AUD": "leyden",
        }
    )
    key = signing_key("only")

    async def repair() -> None:
        await until(lambda: issuer.count("/keys") >= 1)
        publish(issuer, key)

    repairing = asyncio.create_task(repair())
    started = time.monotonic()
    async with serving(settings) as running, running.speaker() as speaker:
        await repairing
        assert time.monotonic() - started < 15
        answer = await speaker.authenticate(token_under(key, aud="leyden"))
        assert answer.WhichOneof("result") == "message"
    assert issuer.count("/keys") >= 2
