"""Which texts become keys, and which stop the start."""

from __future__ import annotations

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from leyden.auth import ALGORITHMS, GeneratedKey, KeyRejected, load_keys
from leyden.auth.weak_keys import ed25519_weakness, rsa_weakness

# P-256 with its parameters spelled out, as `openssl ecparam -param_enc explicit` makes it.
EXPLICIT_PARAMETERS = """-----BEGIN PUBLIC KEY-----
MIIBSzCCAQMGByqGSM49AgEwgfcCAQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAA
AAAAAAAAAAAA////////////////MFsEIP////8AAAABAAAAAAAAAAAAAAAA////
///////////8BCBaxjXYqjqT57PrvVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSd
NgiG5wSTamZ44ROdJreBn36QBEEEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5
RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA
//////////+85vqtpxeehPO5ysL8YyVRAgEBA0IABNTa0TwVUzEKxwIVTZldlcnh
m2NV0uRuQX0CNeX7FFyuB3E00DCFDJkcipmVNcv0+pC3o05JFu6oTFj7ZbMhNK8=
-----END PUBLIC KEY-----"""

RESERVED_FOR_PSS = """-----BEGIN PUBLIC KEY-----
MIIBIDALBgkqhkiG9w0BAQoDggEPADCCAQoCggEBAKjybasrbRypsDAzqyqPf0MH
8CotdCw+Ec7qGZA8slv+OPqUCPvELUCY1f7JiNn8rIEHcLi/ZNoHFD3YZDn8pMCO
TNGcWwv0rQxm9qEGxThyKLRaxUtlFFvRkEIOdnCw55GTZaL55KGR8/+B80F5Fq+8
FaFP7Le1PkOyRxpXysy3pW9OAE+1mw1uFszufqjYWL8HbIAsakqHBUFXVhXkT8mv
5dE20sQPluYhDW5d1e7UApkHVlSDD1FdUtNJmnZbFEUyuPW5verZHiHMYGosoDhI
sHZFg+T8QxE1i9zuSQpHKvz+eLgde4FJE2tTTwmvjHOBLUXTCTRVtGAM+cMzJn8C
AwEAAQ==
-----END PUBLIC KEY-----"""

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

Pairs = dict[str, GeneratedKey]


def spki(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed448.Ed448PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def rejected(text: str, algorithm: str, *, is_base64: bool = False) -> str:
    """The message of the rejection, which must not quote the key."""
    with pytest.raises(KeyRejected) as caught:
        load_keys(text, ALGORITHMS[algorithm], is_base64=is_base64)
    body = "".join(text.split())
    if len(body) > 40:
        assert body[20:36] not in "".join(str(caught.value).split())
    return caught.value.message


def damaged_spellings(pem: str) -> dict[str, str]:
    lines = pem.strip().split("\n")
    return {
        "no final newline": pem.strip(),
        "carriage returns": pem.replace("\n", "\r\n"),
        "newlines written out": pem.replace("\n", "\\n"),
        "crlf written out": pem.replace("\n", "\\r\\n"),
        "blanks for newlines": pem.replace("\n", " "),
        "indented": "\n".join("\t  " + line for line in lines),
        "one long line": lines[0] + "\n" + "".join(lines[1:-1]) + "\n" + lines[-1],
        "no newlines at all": "".join(lines),
        "text around": "Bag Attributes\n" + pem + "\nthe end",
    }


@pytest.mark.parametrize("algorithm", ["RS256", "ES512", "EdDSA"])
def test_spellings_left_by_environment_files_are_the_same_key(algorithm: str, pairs: Pairs) -> None:
    pem = pairs[algorithm].public_pem
    assert pem is not None
    (plain,) = load_keys(pem, ALGORITHMS[algorithm])
    for text in damaged_spellings(pem).values():
        (key,) = load_keys(text, ALGORITHMS[algorithm])
        assert key.thumbprint == plain.thumbprint
    encoded = base64.b64encode(pem.encode()).decode()
    (key,) = load_keys(encoded, ALGORITHMS[algorithm], is_base64=True)
    assert key.thumbprint == plain.thumbprint
    (key,) = load_keys(pem, ALGORITHMS[algorithm], is_base64=True)
    assert key.thumbprint == plain.thumbprint


def test_compressed_points_and_certificates_are_public_keys() -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    prefix = bytes.fromhex("3046301006072a8648ce3d020106052b81040022033200")
    compressed = base64.b64encode(prefix + point).decode()
    text = f"-----BEGIN PUBLIC KEY-----\n{compressed}\n-----END PUBLIC KEY-----"
    assert load_keys(text, ALGORITHMS["ES384"]) == load_keys(spki(public), ALGORITHMS["ES384"])
    assert len(load_keys(CERTIFICATE, ALGORITHMS["ES256"])) == 1


def test_several_blocks_are_several_keys_and_each_must_fit(pairs: Pairs) -> None:
    first, second = pairs["ES256"].public_pem, spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    assert first is not None
    assert len(load_keys(first + second, ALGORITHMS["ES256"])) == 2
    assert "does not fit" in rejected(first + str(pairs["EdDSA"].public_pem), "ES256")


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES512", "EdDSA"])
def test_private_keys_are_refused_alone_or_in_company(algorithm: str, pairs: Pairs) -> None:
    private, public = str(pairs[algorithm].private_pem), str(pairs[algorithm].public_pem)
    for text in (private, public + private, private.strip()[:-5], *damaged_spellings(private).values()):
        assert "private key" in rejected(text, algorithm)


def test_every_form_of_private_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    encrypted = BestAvailableEncryption(b"pw")
    for form, encryption in [
        (PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        (PrivateFormat.PKCS8, encrypted),
        (PrivateFormat.OpenSSH, NoEncryption()),
    ]:
        assert "private key" in rejected(key.private_bytes(Encoding.PEM, form, encryption).decode(), "ES256")


def test_keys_of_another_kind_or_curve_are_refused(pairs: Pairs) -> None:
    assert "does not fit" in rejected(str(pairs["RS256"].public_pem), "ES256")
    assert "does not fit" in rejected(str(pairs["ES256"].public_pem), "PS256")
    assert "does not fit" in rejected(spki(ed448.Ed448PrivateKey.generate().public_key()), "EdDSA")
    assert "curve" in rejected(str(pairs["ES256"].public_pem), "ES384")
    assert "curve" in rejected(spki(ec.generate_private_key(ec.SECP256K1()).public_key()), "ES256")


def test_spelled_out_curve_parameters_are_refused() -> None:
    assert "parameters" in rejected(EXPLICIT_PARAMETERS, "ES256")


def test_a_key_reserved_for_pss_serves_pss_alone() -> None:
    assert "RSASSA-PSS" in rejected(RESERVED_FOR_PSS, "RS256")
    assert load_keys(RESERVED_FOR_PSS, ALGORITHMS["PS256"])


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nMFkw",
        "-----BEGIN PUBLIC KEYS-----\nAAAA\n-----END PUBLIC KEYS-----",
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----",
        '{"kty":"EC","crv":"P-256"}',
        "\ud800",
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    for is_base64 in (False, True):
        rejected(text, "ES256", is_base64=is_base64)


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_secrets_need_the_bytes_of_their_hash(algorithm: str, least: int) -> None:
    secret = "0aZ-é" * 16
    exact = secret.encode()[:least].decode(errors="ignore")
    exact += "x" * (least - len(exact.encode()))
    assert load_keys(exact, ALGORITHMS[algorithm])[0].secret() == exact.encode()
    assert f"at least {least} bytes" in rejected(exact[:-1], algorithm)


def test_white_space_is_part_of_a_secret() -> None:
    secret = " 0123456789abcdef0123456789abcde\n"
    assert load_keys(secret, ALGORITHMS["HS256"])[0].secret() == secret.encode()


def test_secrets_that_are_not_utf8_keep_their_bytes() -> None:
    raw = bytes(range(0x80, 0xA8))
    assert load_keys(raw.decode("utf-8", "surrogateescape"), ALGORITHMS["HS256"])[0].secret() == raw


def test_base64_secrets_are_decoded_only_when_told() -> None:
    raw = bytes(range(200, 250))
    text = base64.b64encode(raw).decode()
    for spelling in (text, text.rstrip("=")):
        assert load_keys(spelling, ALGORITHMS["HS256"], is_base64=True)[0].secret() == raw
    assert load_keys(text, ALGORITHMS["HS256"])[0].secret() == text.encode()
    for wrong in (text.replace("/", "_"), text + "\n", text + "=", text[:10] + "\n" + text[10:], "é" + text):
        if wrong != text:
            assert "base64" in rejected(wrong, "HS256", is_base64=True)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_no_spelling_of_a_key_pair_passes_as_shared_secret(algorithm: str, pairs: Pairs) -> None:
    for pem in (str(pairs[algorithm].public_pem), str(pairs[algorithm].private_pem)):
        body = "".join(pem.strip().split("\n")[1:-1])
        encoded = base64.b64encode(pem.encode()).decode()
        for text in (pem, "x" * 40 + pem, *damaged_spellings(pem).values(), body, encoded):
            rejected(text, "HS256")
        for text in (body, encoded):
            rejected(text, "HS256", is_base64=True)
    jwk = json.dumps({"kty": "oct", "k": "A" * 64})
    rejected(jwk, "HS256")
    rejected('{"keys":[]}' + " " * 40, "HS256")
    rejected(base64.b64encode(jwk.encode()).decode(), "HS256", is_base64=True)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("ab" * 20, "different bytes"),
        ("123E4567-e89b-12d3-a456-426614174000", "UUID"),
        ("your-256-bit-secret" * 2, "published"),
    ],
)
def test_guessable_secrets_are_warned_about(secret: str, why: str) -> None:
    assert why in str(load_keys(secret, ALGORITHMS["HS256"])[0].warning)


def test_generated_secrets_are_not_warned_about(pairs: Pairs) -> None:
    assert load_keys(str(pairs["HS512"].secret), ALGORITHMS["HS512"])[0].warning is None


def test_representations_do_not_show_key_material(pairs: Pairs) -> None:
    secret = str(pairs["HS256"].secret)
    (key,) = load_keys(secret, ALGORITHMS["HS256"])
    assert secret not in repr(key) + repr(pairs["HS256"]) + repr(pairs["ES256"])
    assert "PRIVATE" not in repr(pairs["ES256"])


def test_weak_rsa_numbers_are_named() -> None:
    good = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    assert rsa_weakness(good.n, good.e) is None
    for exponent in (1, 2, 3, 17, 65535, 65536, 65538, 2**256 + 1):
        assert "exponent" in str(rsa_weakness(good.n, exponent))
    assert "2047 bits" in str(rsa_weakness(2**2047 - 1, 65537))
    assert "bits" in str(rsa_weakness(2**16384 + 1, 65537))
    assert "small factor" in str(rsa_weakness(good.n // 3 * 3 if (good.n // 3 * 3).bit_length() == 2048 else 0, 65537))


def test_roca_moduli_are_recognised() -> None:
    # The flaw: both primes are k·M + 65537^a mod M with M a product of small primes, so the modulus is a power too.
    product = 1
    for prime in (n for n in range(3, 168, 2) if all(n % d for d in range(3, n, 2))):
        product *= prime
    modulus = pow(65537, 12345, product)
    modulus += product * (2**2047 // product + 2)
    modulus += product if modulus % 2 == 0 else 0
    assert "ROCA" in str(rsa_weakness(modulus, 65537))


def test_ed25519_points_of_small_order_are_recognised_in_every_spelling() -> None:
    field = 2**255 - 19
    order8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
    for y in (0, 1, field - 1, order8, field - order8, field, field + 1):
        for sign in (0, 1 << 255):
            assert ed25519_weakness((y | sign).to_bytes(32, "little")) is not None
    off_curve = next(y for y in range(2, 20) if "curve" in str(ed25519_weakness(y.to_bytes(32, "little"))))
    assert off_curve


@pytest.mark.parametrize(
    "text",
    ["-----BEGIN PUBLIC KEY-----" * 2000, "-----BEGIN A-----" * 2000 + "-----END B-----" * 2000],
    ids=["no end", "ends of other blocks"],
)
def test_turning_away_unfinished_blocks_takes_time_in_proportion_to_their_number(text: str) -> None:
    started = time.thread_time()
    rejected(text, "ES256")
    assert time.thread_time() - started < 0.05


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_texts_longer_than_any_key_are_refused_unread(algorithm: str) -> None:
    assert "longer" in rejected("k7!" * 30_000, algorithm)


def test_large_moduli_need_an_exponent_openssl_computes_with() -> None:
    # OpenSSL refuses every signature under these: a key that loads would lock everybody out.
    for bits, exponent, fits in [(3072, 2**255 + 1, True), (3080, 2**64 - 1, True), (3080, 2**64 + 1, False)]:
        modulus = next(n for n in range(2 ** (bits - 1) + 1, 2**bits, 2) if all(n % p for p in range(3, 168, 2)))
        weakness = rsa_weakness(modulus, exponent)
        assert (weakness is None) == fits
        assert fits or "exponent" in str(weakness)


def test_the_body_of_a_certificate_is_no_shared_secret() -> None:
    body = "".join(CERTIFICATE.split("\n")[1:-1])
    for is_base64 in (False, True):
        assert "encoded" in rejected(body, "HS256", is_base64=is_base64)


@pytest.mark.parametrize("text", ["\ud800" * 40, "k7!" * 20 + "\udbff"])
def test_a_secret_that_no_file_or_environment_can_hold_is_refused_without_quoting_it(text: str) -> None:
    assert "text" in rejected(text, "HS256")


@pytest.mark.parametrize("encoded", ["MA8CAQAwBQYDK2VxBAMEAQE=", "MA4CAQAwBQYDK2VuBAIEAA=="])
def test_damaged_private_keys_that_openssl_stumbles_over_are_no_shared_secret(encoded: str) -> None:
    text = encoded + "\n" * 40
    assert "encoded" in rejected(text, "HS256")


def test_a_certificate_of_an_unknown_version_is_no_shared_secret() -> None:
    body = "".join(CERTIFICATE.split("\n")[1:-1])
    damaged = base64.b64decode(body).replace(bytes.fromhex("a003020102"), bytes.fromhex("a00302017f"))
    assert "encoded" in rejected(base64.b64encode(damaged).decode(), "HS256", is_base64=True)


def test_public_keys_of_ssh_are_no_shared_secret_in_either_of_its_formats() -> None:
    hardware = b"".join(
        len(part).to_bytes(4, "big") + part for part in (b"sk-ssh-ed25519@openssh.com", b"\x01" * 32, b"ssh:")
    )
    line = f"sk-ssh-ed25519@openssh.com {base64.b64encode(hardware).decode()} somebody"
    for text in (line, f"---- BEGIN SSH2 PUBLIC KEY ----\n{line}\n---- END SSH2 PUBLIC KEY ----"):
        assert "SSH" in rejected(text, "HS256")


def test_a_block_labelled_public_key_has_the_form_of_one() -> None:
    public = rsa.generate_private_key(65537, 2048).public_key()
    assert load_keys(spki(public), ALGORITHMS["RS256"])
    bare = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
    assert load_keys(bare, ALGORITHMS["RS256"])
    assert "damaged" in rejected(bare.replace("RSA PUBLIC", "PUBLIC"), "RS256")
