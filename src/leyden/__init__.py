"""Leyden keeps a SQLite database in every user's browser or phone in step with one Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leyden.service import asgi_app as asgi_app

__all__ = ["asgi_app"]


def __getattr__(name: str) -> Any:
    # late, so that `import leyden.auth` alone does not load the service
    if name == "asgi_app":
        from leyden.service import asgi_app

        return asgi_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
