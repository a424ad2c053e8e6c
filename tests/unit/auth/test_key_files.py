"""Reports on key files: what they are, whether a service could use them, and never what they hold."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from leyden.auth import (
    ALGORITHMS,
    GeneratedKey,
    KeyReport,
    KeyRing,
    generate_key,
    load_keys,
    parse_jwk_set,
    public_jwk,
    report_on_file,
    report_on_ring,
)

Pairs = dict[str, GeneratedKey]
Jwk = dict[str, Any]

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBbDCCAROgAwIBAgIUQssTB8RLJBJlwz1ObMi5sOe+WAMwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAeFw0yNjExMjQwOTM2MDZaFw0yNjExMjUwOTM2MDZaMAwx
CjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARIwTGwlh3Ntix1
qhndZLDKRjmX7lXBahjhYo1u3O6r0xgOZwaZkStqVF16bD/XmBr/XciHc4+dGfGu
eMu28MN2o1MwUTAdBgNVHQ4EFgQUF4BeqJjw+w498S+CJH0bs/mQKs4wHwYDVR0j
BBgwFoAUF4BeqJjw+w498S+CJH0bs/mQKs4wDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNHADBEAiAvjB36x15f9uAVgG6EeoTK8ebm1s+zQ4jGyBcPl7uUIwIg
PWkM2DS7p4pA2dzIIf4PT/fHTwddneJpO/2j1jhCOUg=
-----END CERTIFICATE-----"""


def pem(key: Any, encryption: KeySerializationEncryption | None = None, style: Any = PrivateFormat.PKCS8) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, style, encryption or NoEncryption()))


def public(key: Any, encoding: Encoding = Encoding.PEM) -> bytes:
    style = PublicFormat.OpenSSH if encoding is Encoding.OpenSSH else PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(encoding, style))


def private_of(pairs: Pairs, name: str) -> Any:
    return load_pem_private_key(str(pairs[name].private_pem).encode(), password=None)


def jwk_of(pairs: Pairs, name: str, kid: str | None = None) -> Jwk:
    return dict(public_jwk(load_keys(str(pairs[name].public_pem), ALGORITHMS[name])[0], kid))


def only(raw: bytes | str, *, is_base64: bool = False) -> KeyReport:
    reports = report_on_file(raw.encode() if isinstance(raw, str) else raw, is_base64=is_base64)
    assert len(reports) == 1
    return reports[0]


def as_json(*entries: object) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


class TestPem:
    @pytest.mark.parametrize(
        ("algorithm", "kind", "size", "fits"),
        [
            ("RS256", "RSA public key", "3072 bits", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
            ("ES256", "EC public key", "P-256", ("ES256",)),
            ("ES384", "EC public key", "P-384", ("ES384",)),
            ("ES512", "EC public key", "P-521", ("ES512",)),
            ("EdDSA", "Ed25519 public key", None, ("EdDSA", "Ed25519")),
        ],
    )
    def test_both_halves_of_a_pair_have_one_thumbprint(
        self, algorithm: str, kind: str, size: str | None, fits: tuple[str, ...], pairs: Pairs
    ) -> None:
        pair = pairs[algorithm]
        thumbprint = load_keys(str(pair.public_pem), ALGORITHMS[algorithm])[0].thumbprint
        assert only(str(pair.public_pem)) == KeyReport(kind, size, fits, thumbprint)
        signing = only(str(pair.private_pem))
        assert signing == KeyReport(kind.replace("public", "private"), size, fits, thumbprint, private=True)
        assert signing.fit

    def test_older_formats_of_private_keys_are_read(self, pairs: Pairs) -> None:
        for name in ("ES256", "RS256"):
            report = only(pem(private_of(pairs, name), style=PrivateFormat.TraditionalOpenSSL))
            assert (report.fit, report.private) == (True, True)
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        assert only(parameters + pem(private_of(pairs, "ES256"))).algorithms == ("ES256",)

    def test_a_certificate_is_its_public_key(self) -> None:
        report = only(CERTIFICATE)
        assert (report.kind, report.algorithms, report.fit) == ("certificate with an EC public key", ("ES256",), True)

    def test_every_block_of_a_file_is_reported(self, pairs: Pairs) -> None:
        text = f"{pairs['ES256'].public_pem}\n{CERTIFICATE}\n{pairs['RS256'].private_pem}"
        assert [report.private for report in report_on_file(text.encode())] == [False, False, True]

    @pytest.mark.parametrize(
        ("generate", "problem"),
        [
            (lambda: rsa.generate_private_key(65_537, 1024), "1024 bits"),
            (lambda: ec.generate_private_key(ec.SECP256K1()), "no algorithm here uses"),
            (lambda: ed448.Ed448PrivateKey.generate(), "no algorithm here uses"),
            (lambda: x25519.X25519PrivateKey.generate(), "no algorithm here uses"),
            (lambda: dsa.generate_private_key(1024), "no algorithm here uses"),
        ],
    )
    def test_keys_that_no_service_takes_are_unfit_in_both_halves(
        self, generate: Callable[[], Any], problem: str
    ) -> None:
        key = generate()
        for raw in (public(key), pem(key)):
            report = only(raw)
            assert not report.fit
            assert problem in report.problems[0]
            assert report.thumbprint is None
        assert only(pem(key)).private

    def test_a_small_exponent_is_a_weakness(self) -> None:
        report = only(public(rsa.generate_private_key(3, 2048)))
        assert "unsafe RSA exponent" in report.problems[0]
        assert "leyden keys new" in report.problems[0]

    def test_a_point_of_small_order_is_a_weakness(self) -> None:
        identity = ed25519.Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31))
        raw = identity.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert "small order" in only(raw).problems[0]

    def test_encrypted_and_damaged_keys_are_private_all_the_same(self, pairs: Pairs) -> None:
        key = private_of(pairs, "ES256")
        for raw in (
            pem(key, BestAvailableEncryption(b"x")),
            pem(key, BestAvailableEncryption(b"x"), PrivateFormat.TraditionalOpenSSL),
            pem(key).replace(b"MIG", b"XXX"),
            pem(key)[:-20],
        ):
            report = only(raw)
            assert (report.fit, report.private) == (False, True)

    def test_blocks_that_are_no_keys_are_named(self) -> None:
        report = only("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----")
        assert report.kind == "PEM block labelled CERTIFICATE REQUEST"
        assert not report.fit
        assert not only("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").fit

    def test_a_pem_in_base64_is_read_as_the_service_would(self, pairs: Pairs) -> None:
        packed = base64.b64encode(str(pairs["ES256"].public_pem).encode())
        assert only(packed, is_base64=True).algorithms == ("ES256",)


class TestOtherFormats:
    def test_ssh_keys_get_their_conversion(self, pairs: Pairs) -> None:
        key = private_of(pairs, "EdDSA")
        shown = only(public(key, Encoding.OpenSSH))
        assert (shown.kind, shown.fit) == ("Ed25519 public key", False)
        assert "ssh-keygen -e -m PKCS8" in shown.problems[0]
        hidden = only(pem(key, style=PrivateFormat.OpenSSH))
        assert (hidden.kind, hidden.private, hidden.fit) == ("Ed25519 private key", True, False)
        assert "ssh-keygen -p -m PKCS8" in hidden.problems[0]
        assert not only("ssh-ed25519 AAAA").fit

    def test_binary_keys_get_their_conversion(self, pairs: Pairs) -> None:
        key = private_of(pairs, "RS256")
        shown = only(public(key, Encoding.DER))
        assert (shown.kind, shown.size, shown.private, shown.fit) == ("RSA public key", "3072 bits", False, False)
        hidden = only(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        assert (hidden.kind, hidden.private) == ("RSA private key", True)
        assert "-inform DER" in hidden.problems[0]
        body = base64.b64decode("".join(CERTIFICATE.splitlines()[1:-1]))
        assert only(body).kind == "EC public key"

    @pytest.mark.parametrize("raw", [b"", b"\n \n", b"x" * 262_145])
    def test_files_without_a_key_are_unfit(self, raw: bytes) -> None:
        assert not only(raw).fit

    @given(st.binary(max_size=80))
    def test_nothing_raises(self, raw: bytes) -> None:
        for before in (b"", b"-----BEGIN PUBLIC KEY-----", b'{"keys":', b'{"kty":', b"\x30", b"ssh-rsa "):
            for is_base64 in (True, False):
                assert report_on_file(before + raw, is_base64=is_base64)


class TestJwk:
    def test_a_set_lists_each_key_with_its_name(self, pairs: Pairs) -> None:
        reports = report_on_file(as_json(jwk_of(pairs, "ES256", "a"), jwk_of(pairs, "RS256", "b")))
        assert [(one.kid, one.algorithms, one.size, one.fit) for one in reports] == [
            ("a", ("ES256",), "P-256", True),
            ("b", ("RS256",), "3072 bits", True),
        ]

    def test_a_key_alone_is_read_too(self, pairs: Pairs) -> None:
        entry = jwk_of(pairs, "EdDSA")
        del entry["alg"]
        assert only(json.dumps(entry)).algorithms == ("EdDSA", "Ed25519")

    def test_private_keys_are_marked_and_judged_by_their_public_half(self, pairs: Pairs) -> None:
        numbers = private_of(pairs, "ES256").private_numbers()
        secret = base64.urlsafe_b64encode(numbers.private_value.to_bytes(32, "big")).rstrip(b"=").decode()
        entry = jwk_of(pairs, "ES256", "k") | {"d": secret, "key_ops": ["sign"]}
        report = only(as_json(entry))
        assert (report.kind, report.private, report.algorithms) == ("EC private key", True, ("ES256",))
        assert secret not in repr(report)

    def test_shared_secrets_do_not_belong_there(self) -> None:
        report = report_on_file(as_json({"kty": "oct", "k": "aa" * 21 + "Y", "kid": "s"}))[0]
        assert (report.kind, report.size, report.kid, report.private) == ("shared secret", "32 bytes", "s", True)
        assert "never from a key set" in report.problems[0]
        assert "aaaa" not in repr(report)

    @pytest.mark.parametrize(
        "changes",
        [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"kty": "EC2"}, {"kty": "OKP", "crv": "X25519"}],
    )
    def test_keys_for_something_else_do_no_harm_in_a_set_but_are_unfit_alone(self, changes: Jwk, pairs: Pairs) -> None:
        entry = jwk_of(pairs, "ES256", "other") | changes
        good, other = report_on_file(as_json(jwk_of(pairs, "ES256", "good"), entry))
        assert (good.fit, other.fit, other.algorithms) == (True, True, ())
        assert other.ignored is not None
        assert not only(json.dumps(entry)).fit
        *_, whole = report_on_file(as_json(entry))
        assert whole.problems == ("has no key that a service could use",)

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"x": "AAAA"}, "bytes instead of 32"),
            ({"y": "A" * 43}, "no public key"),
            ({"alg": "RS256"}, "fits none"),
            ({"kid": 7}, "kid that is no text"),
        ],
    )
    def test_broken_keys_are_unfit(self, changes: Jwk, problem: str, pairs: Pairs) -> None:
        broken, *_ = report_on_file(as_json(jwk_of(pairs, "ES256") | changes))
        assert problem in broken.problems[0]

    def test_weak_rsa_keys_are_unfit_with_their_size(self) -> None:
        numbers = rsa.generate_private_key(65_537, 1024).public_key().public_numbers()
        text = base64.urlsafe_b64encode(numbers.n.to_bytes(128, "big")).rstrip(b"=").decode()
        report, *_ = report_on_file(as_json({"kty": "RSA", "n": text, "e": "AQAB"}))
        assert (report.size, report.fit) == ("1024 bits", False)

    def test_keys_that_share_a_name_are_all_unfit(self, pairs: Pairs) -> None:
        reports = report_on_file(as_json(*(jwk_of(pairs, name, "same") for name in ("ES256", "ES384"))))
        assert all("shares its kid" in report.problems[0] for report in reports[:2])

    @pytest.mark.parametrize("raw", [b'{"keys":{}}', b'{"kty":"EC","kty":"EC"}', b'{"keys":[],}', b'{"keys":[1]}'])
    def test_documents_that_are_no_set_are_unfit(self, raw: bytes) -> None:
        assert not any(report.fit for report in report_on_file(raw))

    def test_a_published_key_is_read_back_as_itself(self, pairs: Pairs) -> None:
        for name, algorithm in ALGORITHMS.items():
            if name.startswith("HS"):
                continue
            key = load_keys(str(pairs[name].public_pem), algorithm)[0]
            again = parse_jwk_set(as_json(public_jwk(key)), [algorithm]).keys[0]
            assert (again.thumbprint, again.kid) == (key.thumbprint, key.thumbprint)
        with pytest.raises(ValueError, match="cannot be published"):
            public_jwk(load_keys(str(pairs["HS256"].secret), ALGORITHMS["HS256"])[0])


class TestSecret:
    def test_a_made_secret_fits_every_hs_algorithm(self) -> None:
        secret = str(generate_key("HS512").secret)
        report = only(secret + "\n")
        assert (report.kind, report.size, report.algorithms) == (
            "shared secret",
            "86 bytes",
            ("HS256", "HS384", "HS512"),
        )
        assert report.thumbprint == load_keys(secret, ALGORITHMS["HS256"])[0].thumbprint
        assert secret not in repr(report)

    def test_a_length_between_two_sizes_fits_what_it_can(self) -> None:
        assert only("q8!Zx0-_fG" * 4).algorithms == ("HS256",)
        short = only("q8!Zx0-_fG")
        assert "at least 32 bytes" in short.problems[0]
        assert short.size == "10 bytes"

    @pytest.mark.parametrize("secret", ["abcabc" * 12, "0f8fad5b-d9cb-469f-a165-70867728950e", "my-secret-key-" * 5])
    def test_guessable_secrets_are_unfit_and_get_no_thumbprint(self, secret: str) -> None:
        report = only(secret)
        assert "looks guessable" in report.problems[0]
        assert (report.fit, report.thumbprint) == (False, None)

    def test_base64_is_offered_and_read_on_request(self) -> None:
        raw = bytes(range(100, 132))
        text = base64.b64encode(raw).decode()
        assert any("--base64 reads it so" in note for note in only(text).notes)
        assert only(text, is_base64=True).size == "32 bytes"
        assert "invalid base64" in only("q8!Zx0-_fG" * 4, is_base64=True).problems[0]

    def test_white_space_that_counts_is_pointed_out(self) -> None:
        assert any("white space" in note for note in only("q8!Zx0-_fG" * 4 + " ").notes)

    def test_a_key_document_in_base64_is_no_secret(self, pairs: Pairs) -> None:
        packed = base64.b64encode(str(pairs["ES256"].public_pem).encode())
        assert "PEM or SSH key, not a shared secret" in only(packed).problems[0]


def test_a_key_of_a_configuration_is_one_report_however_many_algorithms_it_serves(pairs: Pairs) -> None:
    entry = jwk_of(pairs, "RS256", "k")
    del entry["alg"]
    algorithms = [ALGORITHMS[name] for name in ("RS256", "PS256", "ES256")]
    parsed = parse_jwk_set(as_json(entry, jwk_of(pairs, "ES256", "e")), algorithms)
    first, second = report_on_ring(KeyRing(parsed.keys, kids_select=True))
    assert (first.kid, first.algorithms, first.size) == ("k", ("RS256", "PS256"), "3072 bits")
    assert (second.kid, second.algorithms) == ("e", ("ES256",))
