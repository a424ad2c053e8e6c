"""`leyden keys`, driven as a shell would."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from command_line import run, settings_in
from leyden.auth import GeneratedKey, generate_key

HS = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": "k7!Zx" * 8}


@pytest.fixture(scope="module")
def pairs() -> dict[str, GeneratedKey]:
    return {name: generate_key(name) for name in ("RS256", "ES256", "ES384", "EdDSA")}


@pytest.fixture
def files(pairs: dict[str, GeneratedKey], tmp_path: Path) -> dict[str, str]:
    """Paths of the public and private halves, as ES256-public and so on."""
    paths = {}
    for name, pair in pairs.items():
        for half, text in (("public", pair.public_pem), ("private", pair.private_pem)):
            path = tmp_path / f"{name}-{half}"
            path.touch(0o600)
            path.write_text(str(text))
            paths[path.name] = str(path)
    return paths


def members_of(path: str) -> dict[str, Any]:
    """The one key of `leyden keys check --json PATH`."""
    answer = json.loads(run("keys", "check", "--json", path).stdout)
    assert len(answer["keys"]) == 1
    return dict(answer["keys"][0])


class TestNew:
    @pytest.mark.parametrize("algorithm", ["ES256", "ES512", "EdDSA", "Ed25519"])
    def test_a_new_pair_makes_tokens_the_printed_settings_accept(self, algorithm: str, tmp_path: Path) -> None:
        made = run("keys", "new", algorithm, "--out", str(tmp_path))
        assert made.exit_code == 0
        env = settings_in(made.stdout)
        assert set(env) == {"AUTH_JWT_ALG", "AUTH_JWT_KEY_FILE"}
        private = tmp_path / f"leyden-{algorithm}-private.pem"
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert "PRIVATE" not in made.output
        token = run("token", "mint", "ada", "--key", str(private), env=env).stdout.strip()
        assert run("token", "explain", token, env=env).exit_code == 0

    def test_a_new_secret_signs_and_checks(self, tmp_path: Path) -> None:
        made = run("keys", "new", "HS384", "--out", str(tmp_path / "new" / "directory"))
        env = settings_in(made.stdout)
        path = Path(env["AUTH_JWT_KEY_FILE"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip() not in made.output
        token = run("token", "mint", "ada", env=env).stdout.strip()
        assert run("token", "explain", token, env=env).exit_code == 0

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        public = tmp_path / "leyden-ES256-public.pem"
        public.write_text("mine")
        result = run("keys", "new", "ES256", "--out", str(tmp_path))
        assert (result.exit_code, result.stdout) == (1, "")
        assert [path.name for path in tmp_path.iterdir()] == [public.name]
        assert public.read_text() == "mine"

    def test_the_wrong_private_key_is_noticed(self, tmp_path: Path) -> None:
        env = settings_in(run("keys", "new", "ES256", "--out", str(tmp_path / "a")).stdout)
        run("keys", "new", "ES256", "--out", str(tmp_path / "b"))
        other = str(tmp_path / "b" / "leyden-ES256-private.pem")
        result = run("token", "mint", "ada", "--key", other, env=env)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "signature_invalid" in result.stderr
        missing = run("token", "mint", "ada", env=env)
        assert missing.exit_code == 2
        assert "--key" in missing.stderr

    @pytest.mark.parametrize("algorithm", ["none", "es256", "ES256K", "RS1"])
    def test_unknown_algorithms_are_usage_errors(self, algorithm: str, tmp_path: Path) -> None:
        assert run("keys", "new", algorithm, "--out", str(tmp_path)).exit_code == 2
        assert list(tmp_path.iterdir()) == []

    def test_generate_is_the_same_command(self, tmp_path: Path) -> None:
        made = run("keys", "generate", "Ed25519", "--out", str(tmp_path))
        assert settings_in(made.stdout)["AUTH_JWT_ALG"] == "Ed25519"
        assert (tmp_path / "leyden-Ed25519-private.pem").exists()

    def test_every_command_has_an_example_in_its_help(self) -> None:
        for command in ([], ["new"], ["generate"], ["check"], ["jwks"]):
            result = run("keys", *command, "--help")
            assert result.exit_code == 0
            assert "Example" in result.stdout


class TestCheck:
    def test_the_configured_keys_are_reported_without_files(self, files: dict[str, str]) -> None:
        env = {"AUTH_JWT_ALG": "ES256", "AUTH_JWT_KEY_FILE": files["ES256-public"]}
        result = run("keys", "check", env=env)
        assert result.exit_code == 0
        assert "configured: EC public key, P-256" in result.stdout
        assert members_of(files["ES256-private"])["thumbprint"] in result.stdout

    def test_a_guessable_configured_secret_is_unfit(self) -> None:
        result = run("keys", "check", "--json", env=HS)
        answer = json.loads(result.stdout)
        assert (result.exit_code, answer["fit"], answer["keys"][0]["algorithms"]) == (1, False, ["HS256"])
        assert "fewer than 8" in answer["keys"][0]["problems"][0]

    def test_a_wrong_configuration_has_its_own_status(self) -> None:
        result = run("keys", "check", env={"AUTH_JWT_ALG": "ES256"})
        assert (result.exit_code, result.stdout) == (2, "")
        assert "AUTH_JWT_KEY is not set" in result.stderr

    def test_insecure_mode_has_no_keys(self) -> None:
        result = run("keys", "check", env={"AUTH_MODE": "insecure"})
        assert (result.exit_code, result.stdout) == (0, "")
        assert "there are no keys" in result.stderr

    def test_a_remote_set_can_be_given_as_a_file(self, files: dict[str, str], tmp_path: Path) -> None:
        env = {"AUTH_JWT_JWKS_URL": "https://issuer.example/keys", "AUTH_JWT_AUD": "api"}
        saved = str(tmp_path / "set.json")
        run("keys", "jwks", files["ES256-public"], files["EdDSA-public"], "--out", saved)
        result = run("keys", "check", "--json", "--jwks", saved, env=env)
        assert [key["algorithms"] for key in json.loads(result.stdout)["keys"]] == [["ES256"], ["EdDSA"]]
        missing = run("keys", "check", env=env)
        assert (missing.exit_code, missing.stdout) == (2, "")
        assert "--jwks FILE" in missing.stderr

    def test_private_keys_are_fit_with_a_warning(self, files: dict[str, str]) -> None:
        result = run("keys", "check", files["RS256-private"], files["RS256-public"])
        assert result.exit_code == 0
        assert result.stdout.count("never give it to the service") == 1
        assert "RSA private key, 3072 bits" in result.stdout
        assert "fits        RS256 RS384 RS512 PS256 PS384 PS512" in result.stdout

    def test_one_unfit_file_decides(self, files: dict[str, str], tmp_path: Path) -> None:
        short = tmp_path / "short"
        short.write_text("too short")
        result = run("keys", "check", files["ES256-public"], str(short))
        assert result.exit_code == 1
        assert "UNFIT       it has to be at least 32 bytes long" in result.stdout
        missing = run("keys", "check", str(tmp_path / "nowhere"))
        assert missing.exit_code == 1
        assert "cannot be read" in missing.stdout

    def test_permissions_of_secret_files_are_looked_at(self, files: dict[str, str]) -> None:
        assert members_of(files["ES256-private"])["notes"] == []
        Path(files["ES256-private"]).chmod(0o644)
        Path(files["ES256-public"]).chmod(0o644)
        assert "chmod 600" in members_of(files["ES256-private"])["notes"][0]
        assert members_of(files["ES256-public"])["notes"] == []

    def test_json_says_all_there_is_to_say(self, files: dict[str, str]) -> None:
        assert set(members_of(files["EdDSA-public"])) == {
            "source",
            "fit",
            "kind",
            "size",
            "algorithms",
            "thumbprint",
            "kid",
            "problems",
            "private",
            "ignored",
            "notes",
        }

    def test_no_key_is_ever_shown(self, files: dict[str, str], tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text(str(generate_key("HS256").secret))
        damaged = tmp_path / "damaged"
        damaged.write_text(Path(files["ES256-private"]).read_text()[:-9])
        for path in (*files.values(), str(secret), str(damaged)):
            text = "".join(Path(path).read_text().split())
            for extra in ([], ["--json"], ["--base64"]):
                shown = "".join(run("keys", "check", path, *extra).output.split())
                assert not any(text[start : start + 24] in shown for start in range(30, len(text) - 54))

    @pytest.mark.parametrize(("options", "env"), [(["--base64"], HS), (["x", "--jwks", __file__], {})])
    def test_options_out_of_place_are_usage_errors(self, options: list[str], env: dict[str, str]) -> None:
        assert run("keys", "check", *options, env=env).exit_code == 2


class TestJwks:
    def test_a_set_serves_the_service_that_is_given_it(self, files: dict[str, str], tmp_path: Path) -> None:
        out = tmp_path / "keys.json"
        publics = [files[f"{name}-public"] for name in ("ES256", "RS256", "EdDSA")]
        made = run("keys", "jwks", *publics, "--out", str(out))
        env = settings_in(made.stdout)
        assert env == {"AUTH_JWT_ALG": "ES256,RS256,EdDSA", "AUTH_JWT_JWKS_FILE": str(out.resolve())}
        for name in ("ES256", "RS256", "EdDSA"):
            token = run("token", "mint", "ada", "--key", files[f"{name}-private"], env=env)
            answer = json.loads(run("token", "explain", "--json", env=env, stdin=token.stdout).stdout)
            assert (answer["accepted"], answer["header"]["alg"]) == (True, name)
            assert answer["header"]["kid"] == members_of(files[f"{name}-public"])["thumbprint"]

    def test_members_of_a_key_say_what_it_is_for(self, files: dict[str, str]) -> None:
        result = run("keys", "jwks", files["ES256-public"], "--kid", "2026-01")
        (key,) = json.loads(result.stdout)["keys"]
        assert {name: key[name] for name in ("kid", "use", "alg", "kty", "crv")} == {
            "kid": "2026-01",
            "use": "sig",
            "alg": "ES256",
            "kty": "EC",
            "crv": "P-256",
        }
        assert set(key) - {"kid", "use", "alg", "kty", "crv"} == {"x", "y"}

    def test_the_algorithm_of_an_rsa_key_can_be_chosen(self, files: dict[str, str]) -> None:
        result = run("keys", "jwks", files["RS256-public"], "--alg", "PS512")
        assert json.loads(result.stdout)["keys"][0]["alg"] == "PS512"
        wrong = run("keys", "jwks", files["RS256-public"], "--alg", "ES256")
        assert (wrong.exit_code, wrong.stdout) == (1, "")
        assert "does not fit ES256" in wrong.stderr

    def test_several_keys_of_a_kind_may_be_in_one_file(self, files: dict[str, str], tmp_path: Path) -> None:
        both = tmp_path / "both.pem"
        both.write_text(Path(files["ES256-public"]).read_text() + str(generate_key("ES256").public_pem))
        assert len(json.loads(run("keys", "jwks", str(both)).stdout)["keys"]) == 2
        both.write_text(Path(files["ES256-public"]).read_text() + Path(files["ES384-public"]).read_text())
        mixed = run("keys", "jwks", str(both))
        assert (mixed.exit_code, mixed.stdout) == (1, "")
        assert "a file of its own" in mixed.stderr

    def test_private_keys_are_refused(self, files: dict[str, str]) -> None:
        for name in ("ES256", "RS256"):
            result = run("keys", "jwks", files["ES384-public"], files[f"{name}-private"])
            assert (result.exit_code, result.stdout) == (1, "")
            assert "is a private key" in result.stderr

    def test_weak_and_foreign_files_are_refused_with_their_fault(self, tmp_path: Path) -> None:
        weak = rsa.generate_private_key(65_537, 1024).public_key()
        path = tmp_path / "given"
        for content, fault in [
            (weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "1024 bits"),
            ("ssh-ed25519 AAAA", "not a complete PEM"),
            ("k7!Zx" * 8, "not a complete PEM"),
        ]:
            path.write_text(content)
            result = run("keys", "jwks", str(path))
            assert (result.exit_code, result.stdout) == (1, "")
            assert fault in result.stderr

    def test_a_name_given_twice_would_make_both_keys_useless(self, files: dict[str, str]) -> None:
        result = run("keys", "jwks", files["ES256-public"], files["ES256-public"])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "twice" in result.stderr
        several = run("keys", "jwks", files["ES256-public"], files["ES384-public"], "--kid", "k")
        assert (several.exit_code, several.stdout) == (2, "")

    def test_an_overlong_name_is_refused(self, files: dict[str, str]) -> None:
        result = run("keys", "jwks", files["ES256-public"], "--kid", "k" * 1025)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "overlong" in result.stderr

    def test_a_set_is_replaced_only_when_told_to_and_then_at_once(self, files: dict[str, str], tmp_path: Path) -> None:
        out = tmp_path / "sets" / "keys.json"
        out.parent.mkdir()
        run("keys", "jwks", files["ES256-public"], "--out", str(out))
        before = out.read_text()
        assert stat.S_IMODE(out.stat().st_mode) & 0o444 == 0o444
        kept = run("keys", "jwks", files["ES384-public"], "--out", str(out))
        assert (kept.exit_code, kept.stdout, out.read_text()) == (1, "", before)
        assert run("keys", "jwks", files["ES384-public"], "--out", str(out), "--force").exit_code == 0
        assert json.loads(out.read_text())["keys"][0]["alg"] == "ES384"
        assert list(out.parent.iterdir()) == [out]
        assert run("keys", "jwks", files["ES384-public"], "--force").exit_code == 2
