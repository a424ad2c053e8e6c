"""The demo's stand-in for a log-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from leyden.demo import DemoEndpoints


def test_tabs_that_are_opened_at_once_have_different_names() -> None:
    for _ in range(50):
        endpoints = DemoEndpoints(cast(Any, SimpleNamespace(connections=())), lambda claims: "")
        names = [endpoints._free_name() for _ in range(6)]
        assert len(set(names)) == 6
