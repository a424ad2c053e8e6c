"""`leyden token`, driven as a shell would."""

from __future__ import annotations

import csv
import json
import stat
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import pytest

from command_line import run, settings_in

NOW = 1_760_000_000
SECRET = "k7!" * 30
HS = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": SECRET}
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "auth-vectors.json").read_text("utf-8")
)


def same_configuration(vector: dict[str, Any]) -> tuple[str, str, int]:
    return json.dumps(vector["config"], sort_keys=True), str(vector.get("jwks")), vector["now"]


class TestExplain:
    def test_vectors_get_their_verdicts_through_the_command(self, tmp_path: Path) -> None:
        path = tmp_path / "jwks.json"
        for (config, jwks, now), members in groupby(sorted(VECTORS, key=same_configuration), same_configuration):
            vectors = list(members)
            path.write_text(jwks, "utf-8")
            stdin = "".join(json.dumps(vector["token"]) + "\n" for vector in vectors)
            env = {name: str(path) if value == "@jwks" else value for name, value in json.loads(config).items()}
            result = run("token", "explain", "--json", "--now", str(now), "-", env=env, stdin=stdin)
            if vectors[0]["reason"] == "config_error":
                assert (result.exit_code, result.stdout) == (2, "")
                continue
            answers = [json.loads(line) for line in result.stdout.splitlines()]
            assert len(answers) == len(vectors)
            for vector, answer in zip(vectors, answers, strict=True):
                assert answer["accepted"] is (vector["expect"] == "accept"), vector["name"]
                assert answer["user_id"] == vector["user_id"], vector["name"]
                assert answer["code"] in [vector["reason"], *(vector["also"] or [])], vector["name"]
                signature = str(vector["token"]).rpartition(".")[2]
                assert len(signature) < 20 or signature not in result.output, vector["name"]
            assert result.exit_code == (0 if all(answer["accepted"] for answer in answers) else 1)

    def test_a_wrong_configuration_ends_before_anything_is_read(self) -> None:
        for argument in ("-", "some.token.here"):
            result = run("token", "explain", argument, env={"AUTH_JWT_ALG": "HS256"}, stdin="a.b.c\n")
            assert (result.exit_code, result.stdout) == (2, "")
            assert "AUTH_JWT_KEY is not set" in result.stderr

    def test_only_auth_settings_matter(self) -> None:
        env = {**HS, "DATABASE_URL": "nonsense", "HTTP_PORT": "x", "LOG_LEVEL": "x"}
        assert run("token", "explain", "a.b.c", env=env).exit_code == 1

    def test_lines_are_tokens_or_json_strings_and_nothing_is_trimmed(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        lines = [token, json.dumps(token), f" {token}", json.dumps(token + "\n"), f"{token}\r", "", '"open', '""']
        result = run("token", "explain", "-", env=HS, stdin="\n".join(lines) + "\n")
        codes = [json.loads(line)["code"] for line in result.stdout.splitlines()]
        assert codes == [None, None, *["token_malformed"] * 3, "token_missing", "token_malformed", "token_missing"]
        assert result.exit_code == 1

    def test_bytes_that_are_no_text_are_refused_tokens(self) -> None:
        result = run("token", "explain", "-", env=HS, stdin=b'\xff\xfe\n"\xff"\n"\\ud800"\n')
        codes = [json.loads(line)["code"] for line in result.stdout.splitlines()]
        assert codes == ["token_malformed"] * 3

    def test_nothing_on_standard_input_is_no_refusal(self) -> None:
        result = run("token", "explain", "-", env=HS, stdin="")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "no token on standard input" in result.stderr

    def test_words_for_people_name_the_failed_check_and_its_setting(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        accepted = run("token", "explain", token, env=HS)
        assert accepted.exit_code == 0
        assert 'Accepted as user "ada"' in accepted.stdout
        refused = run("token", "explain", token, env={**HS, "AUTH_JWT_AUD": "api"})
        assert refused.exit_code == 1
        assert "FAILED audience" in refused.stdout
        assert "AUTH_JWT_AUD" in refused.stdout
        old = run("token", "explain", token, "--now", "5000000000", env=HS)
        assert "d ago" in old.stdout

    def test_neither_key_nor_signature_is_shown(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        signature = token.rpartition(".")[2]
        for extra in ([], ["--json"]):
            for env in (HS, {**HS, "AUTH_JWT_KEY": SECRET[::-1]}):
                result = run("token", "explain", token, *extra, env=env)
                assert signature not in result.output
                assert SECRET not in result.output

    def test_terminal_controls_in_claims_are_escaped(self) -> None:
        env = {**HS, "AUTH_USER_ID_POLICY": "legacy"}
        token = run("token", "mint", "\x1b[2J\u202e\x7fada", env=env).stdout.strip()
        result = run("token", "explain", token, env=env)
        assert result.exit_code == 0
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
        assert "\x7f" not in result.output

    def test_json_has_header_claims_checks_and_hints(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        answer = json.loads(run("token", "explain", token, "--json", env={**HS, "AUTH_JWT_AUD": "api"}).stdout)
        assert set(answer) == {"accepted", "user_id", "code", "header", "claims", "checks", "hints"}
        assert answer["header"] == {"alg": "HS256", "typ": "JWT"}
        assert (answer["claims"]["sub"], answer["code"]) == ("ada", "claim_missing")
        failed = [check for check in answer["checks"] if check["outcome"] == "fail"]
        assert [set(check) for check in failed] == [{"name", "outcome", "detail", "setting"}]
        assert failed[0]["setting"] == "AUTH_JWT_AUD"

    def test_what_only_the_service_knows_is_said_not_to_be_checked(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        words = run("token", "explain", token, env=HS).stdout
        for check in ("token is not revoked", "client id is free or this user's"):
            assert f"-      {check}\n       not checked here" in words

    def test_times_are_dates_with_their_distance(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        claims = json.loads(run("token", "explain", "--json", token, env=HS).stdout)["claims"]
        words = run("token", "explain", token, "--now", str(claims["exp"] + 3 * 3600), env=HS).stdout
        date = datetime.fromtimestamp(claims["exp"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert f"exp {date} (expired 3 h ago)" in words
        early = run("token", "explain", token, "--now", str(claims["iat"] - 120.5), env=HS).stdout
        assert "(becomes valid in 2 min)" in early
        assert "(expires in 1 h)" in early

    def test_standard_input_is_the_default_and_words_can_be_asked_for(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout
        assert json.loads(run("token", "explain", env=HS, stdin=token).stdout)["accepted"] is True
        two = run("token", "explain", "--text", env=HS, stdin=token * 2)
        assert two.stdout.count('Accepted as user "ada"') == 2
        assert two.exit_code == 0

    def test_a_token_pasted_over_several_lines_is_recognised(self) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        folded = "\n".join(token[start : start + 76] for start in range(0, len(token), 76)) + "\n"
        result = run("token", "explain", "--text", env=HS, stdin=folded)
        assert result.exit_code == 1
        assert "first a line break at position 76" in result.stdout
        assert "without that damage it would be accepted" in result.stdout
        assert result.stdout.count("Refused") == 1

    def test_the_help_warns_of_tokens_on_the_command_line(self) -> None:
        words = " ".join(run("token", "explain", "--help").stdout.split())
        assert "history" in words
        assert "list of processes" in words

    def test_help_has_an_example(self) -> None:
        for command in (["token"], ["token", "mint"], ["token", "explain"]):
            result = run(*command, "--help")
            assert result.exit_code == 0
            assert "Example" in result.stdout


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    """Settings for a new ES256 pair, and under PRIVATE the file that signs."""
    made = settings_in(run("keys", "new", "ES256", "--out", str(tmp_path)).stdout)
    return made | {"PRIVATE": str(tmp_path / "leyden-ES256-private.pem")}


class TestKeySets:
    URL: ClassVar = {"AUTH_JWT_JWKS_URL": "https://issuer.example/keys", "AUTH_JWT_AUD": "api"}

    @pytest.fixture
    def saved(self, pair: dict[str, str], tmp_path: Path) -> Path:
        path = tmp_path / "saved.json"
        made = run("keys", "jwks", pair["AUTH_JWT_KEY_FILE"], "--kid", "k1", "--out", str(path))
        assert made.exit_code == 0
        return path

    def test_a_key_of_a_set_file_gives_its_name_to_the_token(self, pair: dict[str, str], saved: Path) -> None:
        env = {"AUTH_JWT_ALG": "RS256,ES256", "AUTH_JWT_JWKS_FILE": str(saved)}
        token = run("token", "mint", "ada", "--key", pair["PRIVATE"], env=env).stdout.strip()
        answer = json.loads(run("token", "explain", "--json", token, env=env).stdout)
        assert (answer["accepted"], answer["header"]["kid"], answer["header"]["alg"]) == (True, "k1", "ES256")
        wrong = run("token", "mint", "ada", "--key", pair["PRIVATE"], "--kid", "k2", env=env)
        assert (wrong.exit_code, wrong.stdout) == (1, "")
        assert "key_unknown" in wrong.stderr

    def test_with_a_remote_set_the_token_is_made_and_what_is_unknown_is_said(self, pair: dict[str, str]) -> None:
        result = run("token", "mint", "ada", "--key", pair["PRIVATE"], "--kid", "k9", env=self.URL)
        assert (result.exit_code, result.stdout.count(".")) == (0, 2)
        assert "Not checked: whether the key set of AUTH_JWT_JWKS_URL has this key" in result.stderr
        assert '"k9"' in result.stderr
        refused = run("token", "mint", " ada", "--key", pair["PRIVATE"], env=self.URL)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "user_invalid" in refused.stderr

    def test_a_saved_set_stands_in_for_the_remote_one(self, pair: dict[str, str], saved: Path) -> None:
        made = run("token", "mint", "ada", "--key", pair["PRIVATE"], "--jwks", str(saved), env=self.URL)
        assert made.stderr == ""
        result = run("token", "explain", "--json", "--jwks", str(saved), env=self.URL, stdin=made.stdout)
        answer = json.loads(result.stdout)
        assert (answer["accepted"], answer["header"]["kid"]) == (True, "k1")
        settings = {check["setting"] for check in answer["checks"] if check["name"] == "signature is good"}
        assert settings == {"AUTH_JWT_JWKS_URL"}

    @pytest.mark.parametrize(
        ("env", "name"),
        [
            (URL, "AUTH_JWT_JWKS_URL"),
            ({"AUTH_JWT_OIDC_ISSUER": "https://issuer.example", "AUTH_JWT_AUD": "api"}, "AUTH_JWT_OIDC_ISSUER"),
        ],
    )
    def test_without_it_the_keys_are_missing_and_the_remedy_is_said(self, env: dict[str, str], name: str) -> None:
        result = run("token", "explain", env=env, stdin="a.b.c\n")
        assert (result.exit_code, result.stdout) == (2, "")
        assert name in result.stderr
        assert "--jwks FILE" in result.stderr

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"[]", "is not a JSON object"),
            (b'{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"bad"}]}', '"bad" is not used'),
            (b'{"keys":[]}', "has no usable key for ES256, RS256, EdDSA"),
            (b'{"keys":[' + b" " * 262_144 + b"]}", "is larger than"),
        ],
    )
    def test_a_saved_set_that_is_none_is_a_wrong_configuration(
        self, content: bytes, problem: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "broken.json"
        path.write_bytes(content)
        result = run("token", "explain", "--jwks", str(path), env=self.URL, stdin="a.b.c\n")
        assert (result.exit_code, result.stdout) == (2, "")
        assert problem in result.stderr

    def test_a_saved_set_is_refused_beside_keys_of_the_settings(self, saved: Path) -> None:
        result = run("token", "explain", "--jwks", str(saved), env=HS, stdin="a.b.c\n")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "leave it out" in result.stderr


class TestMint:
    def test_claims_follow_the_settings(self) -> None:
        env = {**HS, "AUTH_JWT_ISS": "me", "AUTH_JWT_AUD": "you", "AUTH_JWT_NAMESPACE": "https://n.example"}
        arguments = ["token", "mint", "ada", "--ttl", "90s", "--claim", "team=red", "--claim", 'tags=["a",1]']
        token = run(*arguments, env=env).stdout.strip()
        result = run("token", "explain", token, env=env)
        shown = json.loads(result.stdout.split("Claims: ")[1].splitlines()[0])
        assert shown["exp"] - shown["iat"] == 90
        assert (shown["iss"], shown["aud"], shown["https://n.example"]) == ("me", "you", {"sub": "ada"})
        assert (shown["team"], shown["tags"]) == ("red", ["a", 1])
        assert "sub" not in shown

    def test_insecure_mode_does_not_sign(self) -> None:
        env = {"AUTH_MODE": "insecure"}
        token = run("token", "mint", "ada", env=env).stdout.strip()
        assert token.endswith(".")
        assert run("token", "explain", token, env=env).exit_code == 0

    @pytest.mark.parametrize(
        "arguments",
        [
            ["ada", "--ttl", "0"],
            ["ada", "--ttl", "soon"],
            ["ada", "--claim", "x"],
            ["ada", "--claim", "=x"],
            ["ada", "--claim", "sub=eve"],
            ["ada", "--claim", "exp=1"],
            ["ada", "--claim", "nbf=1"],
            ["ada", "--claims", "[]"],
            ["ada", "--claims", "{"],
            ["ada", "--claims", '{"a":1,"a":2}'],
            ["ada", "--claims", '{"aud":"x"}'],
            ["ada", "--claims", '{"a":1}', "--claim", "a=2"],
            ["ada", "--force"],
            ["ada", "--format", "xml"],
            ["ada", "--key", __file__],
            [],
        ],
    )
    def test_senseless_requests_are_usage_errors(self, arguments: list[str]) -> None:
        result = run("token", "mint", *arguments, env=HS)
        assert (result.exit_code, result.stdout) == (2, "")

    def test_a_token_the_service_would_refuse_is_not_printed(self) -> None:
        for arguments, env, code in [
            ([" ada"], HS, "user_invalid"),
            (["ada", "--ttl", "2h"], {**HS, "AUTH_JWT_MAX_LIFETIME": "3600"}, "lifetime_too_long"),
            (["ada"], {**HS, "AUTH_JWT_MAX_BYTES": "256", "AUTH_JWT_AUD": "a" * 200}, "token_too_large"),
        ]:
            result = run("token", "mint", *arguments, env=env)
            assert (result.exit_code, result.stdout) == (1, "")
            assert code in result.stderr

    def test_configured_types_are_written(self) -> None:
        assert run("token", "mint", "ada", env={**HS, "AUTH_JWT_TYP": "acme+jwt"}).exit_code == 0

    def test_claims_of_both_options_are_written_and_nbf_is_iat(self) -> None:
        token = run("token", "mint", "ada", "--claims", '{"teams":[1,2]}', "--claim", "x=NaN", env=HS).stdout.strip()
        claims = json.loads(run("token", "explain", "--json", token, env=HS).stdout)["claims"]
        assert (claims["teams"], claims["x"]) == ([1, 2], "NaN")
        assert claims["nbf"] == claims["iat"]

    def test_the_user_id_joins_claims_of_the_namespace(self) -> None:
        env = {**HS, "AUTH_JWT_NAMESPACE": "n"}
        token = run("token", "mint", "ada", "--claims", '{"n":{"role":"x"}}', env=env).stdout.strip()
        answer = json.loads(run("token", "explain", "--json", token, env=env).stdout)
        assert (answer["user_id"], answer["claims"]["n"]) == ("ada", {"role": "x", "sub": "ada"})
        clash = run("token", "mint", "ada", "--claims", '{"n":1}', env=env)
        assert clash.exit_code == 2
        assert "AUTH_JWT_NAMESPACE" in clash.stderr

    def test_insecure_mode_takes_no_key_and_no_name_of_one(self, pair: dict[str, str]) -> None:
        for option in (["--key", pair["PRIVATE"]], ["--kid", "k"]):
            assert run("token", "mint", "ada", *option, env={"AUTH_MODE": "insecure"}).exit_code == 2

    def test_a_key_that_is_not_the_configured_ones_other_half_is_refused(
        self, pair: dict[str, str], tmp_path: Path
    ) -> None:
        run("keys", "new", "ES256", "--out", str(tmp_path / "other"))
        other = str(tmp_path / "other" / "leyden-ES256-private.pem")
        result = run("token", "mint", "ada", "--key", other, env=pair)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "is not the other half of a configured one" in result.stderr
        assert "signature_invalid" in result.stderr

    @pytest.mark.parametrize("content", ["no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
    def test_an_unreadable_private_key_is_not_quoted(self, content: str, pair: dict[str, str], tmp_path: Path) -> None:
        path = tmp_path / "broken.pem"
        path.write_text(content)
        result = run("token", "mint", "ada", "--private-key", str(path), env=pair)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "cannot be read as a private key" in result.stderr
        assert "AAAA" not in result.stderr


class TestFormats:
    @staticmethod
    def accepted(token: str) -> dict[str, Any]:
        return dict(json.loads(run("token", "explain", "--json", token, env=HS).stdout))

    def test_one_user_gets_the_bare_token_and_several_a_line_each(self) -> None:
        assert run("token", "mint", "ada", env=HS).stdout.count(" ") == 0
        lines = run("token", "mint", "ada", "grace", "ada", env=HS).stdout.splitlines()
        users = [line.split(": ") for line in lines]
        assert [(user, self.accepted(token)["user_id"]) for user, token in users] == [
            ("ada", "ada"),
            ("grace", "grace"),
        ]

    def test_json_maps_users_to_token_and_expiry(self) -> None:
        result = run("token", "mint", "ada", 'gr"ace', "--ttl", "90s", "--format", "json", env=HS)
        made = json.loads(result.stdout)
        assert list(made) == ["ada", 'gr"ace']
        for user, entry in made.items():
            assert set(entry) == {"token", "expiry"}
            answer = self.accepted(entry["token"])
            assert answer["user_id"] == user
            assert datetime.fromisoformat(entry["expiry"]).timestamp() == answer["claims"]["exp"]

    def test_csv_has_user_token_and_expiry_on_a_line_each(self) -> None:
        result = run("token", "mint", "ada", "grace, h", "--format", "csv", env=HS)
        rows = list(csv.reader(result.stdout.splitlines()))
        assert [row[0] for row in rows] == ["ada", "grace, h"]
        for user, token, expiry in rows:
            answer = self.accepted(token)
            assert answer["user_id"] == user
            assert datetime.fromisoformat(expiry).timestamp() == answer["claims"]["exp"]
        assert "\r" not in result.stdout

    def test_a_file_is_private_csv_by_default_and_never_replaced_unasked(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        made = run("token", "mint", "ada", "--output", str(path), env=HS)
        assert (made.exit_code, made.stdout) == (0, "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        user, token, _ = path.read_text().strip().split(",")
        assert (user, self.accepted(token)["accepted"]) == ("ada", True)
        again = run("token", "mint", "grace", "--output", str(path), env=HS)
        assert again.exit_code == 1
        assert "--force" in again.stderr
        assert path.read_text().startswith("ada,")

    def test_force_replaces_a_file_and_its_permissions(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens.json"
        path.write_text("old")
        path.chmod(0o644)
        made = run("token", "mint", "ada", "--output", str(path), "--force", "--format", "json", env=HS)
        assert made.exit_code == 0
        assert list(json.loads(path.read_text())) == ["ada"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [one.name for one in tmp_path.iterdir()] == ["tokens.json"]

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        target, link = tmp_path / "target", tmp_path / "link"
        link.symlink_to(target)
        assert run("token", "mint", "ada", "--output", str(link), env=HS).exit_code == 1
        assert not target.exists()

    def test_a_place_that_cannot_be_written_to_is_said(self, tmp_path: Path) -> None:
        for extra in ([], ["--force"]):
            result = run("token", "mint", "ada", "--output", str(tmp_path / "no" / "file"), *extra, env=HS)
            assert result.exit_code == 1
            assert "cannot write" in result.stderr

    def test_nothing_is_made_when_one_of_several_would_be_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        result = run("token", "mint", "ada", " grace", "--output", str(path), env=HS)
        assert result.exit_code == 1
        assert '" grace"' in result.stderr
        assert not path.exists()
