"""From a configured issuer to its keys: once, or for as long as the service runs.

Owns how the parts of this room are put together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from random import SystemRandom

from ..algorithms import Algorithm
from ..jwk_set import InvalidJwkSet, JwkSet, parse_jwk_set
from ..notices import Notify
from ..pause import Clock, Sleep
from ..settings import RemoteKeys
from .discovery import Discovery
from .failure import FetchFailed
from .fetching import Fetched, Fetcher, Version
from .issued_keys import IssuedKeys, ReadKeySet


def issued_keys(
    remote: RemoteKeys,
    algorithms: Collection[Algorithm],
    notify: Notify,
    *,
    fetcher: Fetcher | None = None,
    now: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
    random: Callable[[], float] | None = None,
) -> IssuedKeys:
    """The keys that `remote` publishes for `algorithms`, as a `KeySource`. Nothing is fetched until it runs."""
    return IssuedKeys(
        remote.address,
        _reader(remote, fetcher or Fetcher(remote), now),
        algorithms,
        notify,
        max_stale=remote.max_stale,
        now=now,
        sleep=sleep,
        random=SystemRandom().random if random is None else random,
    )


async def fetch_key_set_once(
    remote: RemoteKeys, algorithms: Collection[Algorithm], *, fetcher: Fetcher | None = None
) -> JwkSet:
    """The key set that `remote` publishes now, also when none of its keys is usable; raises `FetchFailed`."""
    fetched = await _reader(remote, fetcher or Fetcher(remote), time.monotonic)(None)
    try:
        return parse_jwk_set(fetched.body or b"", algorithms)
    except InvalidJwkSet as reason:
        raise FetchFailed(f"the key set {reason}") from None


def _reader(remote: RemoteKeys, fetcher: Fetcher, now: Clock) -> ReadKeySet:
    if remote.issuer is not None:
        return Discovery(remote.issuer, fetcher.get, allow_http=remote.allow_http, now=now).key_set
    url = remote.address

    async def key_set(known: Version | None) -> Fetched:
        return await fetcher.get(url, known)

    return key_set
