"""The published vectors: configuration, token and time in, verdict out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leyden.auth import Refusal, verifier_from
from leyden.config import ConfigurationError, load_auth_settings

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "auth-vectors.json").read_text("utf-8")
)


def _named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def configured(vector: dict[str, Any], directory: Path) -> dict[str, str]:
    """The vector's environment; its key set, if any, lies in a file there."""
    if vector.get("jwks") is None:
        return dict(vector["config"])
    path = directory / "jwks.json"
    path.write_text(vector["jwks"], "utf-8")
    return {name: str(path) if value == "@jwks" else value for name, value in vector["config"].items()}


def verdict(vector: dict[str, Any], directory: Path) -> tuple[str | None, str | None]:
    """(reason code, user id), the one or the other."""
    try:
        verifier = verifier_from(load_auth_settings(configured(vector, directory)))
    except ConfigurationError:
        return "config_error", None
    try:
        return None, verifier.verify(vector["token"], vector["now"]).user_id
    except Refusal as refusal:
        return refusal.code, None


@pytest.mark.parametrize("vector", _named(VECTORS))
def test_vector_gets_its_verdict_and_reason(vector: dict[str, Any], tmp_path: Path) -> None:
    code, user_id = verdict(vector, tmp_path)
    if vector["expect"] == "accept":
        assert (code, user_id) == (None, vector["user_id"]), vector["why"]
    else:
        assert code in [vector["reason"], *(vector["also"] or [])], vector["why"]
