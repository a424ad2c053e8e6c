"""How much of a refusal reaches the peer."""

from __future__ import annotations

from typing import get_args

import pytest

from leyden.auth import BEFORE_SIGNATURE, Code, Refusal, wire_message


@pytest.mark.parametrize("code", get_args(Code))
def test_codes_go_out_only_for_what_comes_after_the_signature(code: Code) -> None:
    refusal = Refusal(code, "a sentence for the log")
    expected = "invalid token" if code in BEFORE_SIGNATURE else code
    assert wire_message(refusal, "code") == expected
    assert wire_message(refusal, "none") is None
    assert wire_message(refusal, "none", insecure=True) == code


def test_the_signature_check_itself_tells_nothing() -> None:
    assert "signature_invalid" in BEFORE_SIGNATURE
    assert "payload_invalid" not in BEFORE_SIGNATURE
