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

# Settings whose feature is not there yet; a vector that uses one waits for it.
NOT_YET = frozenset({"AUTH_JWT_JWKS_FILE", "AUTH_JWT_JWKS_URL", "AUTH_JWT_OIDC_ISSUER"})


def _named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def verdict(vector: dict[str, Any]) -> tuple[str | None, str | None]:
    """(reason code, user id), the one or the other."""
    try:
        verifier = verifier_from(load_auth_settings(vector["config"]))
    except ConfigurationError:
        return "config_error", None
    try:
        return None, verifier.verify(vector["token"], vector["now"]).user_id
    except Refusal as refusal:
        return refusal.code, None


@pytest.mark.parametrize("vector", _named([v for v in VECTORS if not NOT_YET & v["config"].keys()]))
def test_vector_gets_its_verdict_and_reason(vector: dict[str, Any]) -> None:
    code, user_id = verdict(vector)
    if vector["expect"] == "accept":
        assert (code, user_id) == (None, vector["user_id"]), vector["why"]
    else:
        assert code in [vector["reason"], *(vector["also"] or [])], vector["why"]


@pytest.mark.parametrize("vector", _named([v for v in VECTORS if NOT_YET & v["config"].keys()]))
def test_vector_for_key_sets_is_a_configuration_error_naming_the_setting(vector: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_auth_settings(vector["config"])
    named = {problem.variable for problem in caught.value.problems}
    assert NOT_YET & vector["config"].keys() <= named
