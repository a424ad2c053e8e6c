"""No service that was started in a run has shown a token, a key or a secret, as tests/conftest.py finds at its end; and
if one had, this would be noticed.

Services log at level debug in tests; events, audit records and metrics are noted as well (tests/secrecy.py).
"""

from __future__ import annotations

import base64
import time

import pytest

import secrecy
from interop.conftest import ServiceFactory
from interop.test_authentication import Issuer


async def test_no_service_has_shown_a_secret(leyden: ServiceFactory) -> None:
    # one more, so that there is something to look at; at the end of the run it is looked again
    service = await leyden(**Issuer("HS256").env)
    await service.stop()
    assert secrecy.made
    assert sum(map(len, secrecy.shown.values())) > 0
    assert secrecy.leaks() == []


def test_a_leak_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrecy, "shown", {})
    token = Issuer("ES256").token("alice")
    secrecy.note("innocent", f"user alice at {time.time()}, header {token.split('.')[0]}")
    assert secrecy.leaks() == []
    secrecy.note("guilty", f"refused …{token.split('.')[2]}…")
    key = Issuer("HS256").setting
    secrecy.note("guilty too", repr({"key": key}))
    secrecy.note("innocent as well", base64.b64encode(key.encode()).decode()[:12])
    assert secrecy.leaks() == ["guilty", "guilty too"]
