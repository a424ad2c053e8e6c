"""`leyden token` and `leyden keys`, driven as a shell would."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from leyden.cli import main

NOW = 1_760_000_000
SECRET = "k7!" * 30
HS = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": SECRET}
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "auth-vectors.json").read_text("utf-8")
)

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(*arguments, env=…, stdin=…)` with no other AUTH_* variable in the environment."""

    def invoke(*arguments: str, env: dict[str, str] | None = None, stdin: str | bytes | None = None) -> Result:
        with monkeypatch.context() as patch:
            for name in ("AUTH_MODE", "AUTH_JWT_ALG", "AUTH_JWT_KEY", "AUTH_JWT_KEY_FILE"):
                patch.delenv(name, raising=False)
            result = CliRunner().invoke(main, arguments, env=env or {}, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def settings_in(output: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in output.splitlines())


class TestExplain:
    def test_vectors_get_their_verdicts_through_the_command(self, run: Run) -> None:
        def group(vector: dict[str, Any]) -> tuple[str, int]:
            return json.dumps(vector["config"], sort_keys=True), vector["now"]

        ready = [v for v in VECTORS if "AUTH_JWT_JWKS_FILE" not in v["config"]]
        for (config, now), members in groupby(sorted(ready, key=group), group):
            vectors = list(members)
            stdin = "".join(json.dumps(vector["token"]) + "\n" for vector in vectors)
            env = json.loads(config)
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
            assert result.exit_code == (0 if all(answer["accepted"] for answer in answers) else 1)

    def test_a_wrong_configuration_ends_before_anything_is_read(self, run: Run) -> None:
        for argument in ("-", "some.token.here"):
            result = run("token", "explain", argument, env={"AUTH_JWT_ALG": "HS256"}, stdin="a.b.c\n")
            assert (result.exit_code, result.stdout) == (2, "")
            assert "AUTH_JWT_KEY is not set" in result.stderr

    def test_only_auth_settings_matter(self, run: Run) -> None:
        env = {**HS, "DATABASE_URL": "nonsense", "HTTP_PORT": "x", "LOG_LEVEL": "x"}
        assert run("token", "explain", "a.b.c", env=env).exit_code == 1

    def test_lines_are_tokens_or_json_strings_and_nothing_is_trimmed(self, run: Run) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        lines = [token, json.dumps(token), f" {token}", json.dumps(token + "\n"), f"{token}\r", "", '"open', '""']
        result = run("token", "explain", "-", env=HS, stdin="\n".join(lines) + "\n")
        codes = [json.loads(line)["code"] for line in result.stdout.splitlines()]
        assert codes == [None, None, *["token_malformed"] * 3, "token_missing", "token_malformed", "token_missing"]
        assert result.exit_code == 1

    def test_bytes_that_are_no_text_are_refused_tokens(self, run: Run) -> None:
        result = run("token", "explain", "-", env=HS, stdin=b'\xff\xfe\n"\xff"\n"\\ud800"\n')
        codes = [json.loads(line)["code"] for line in result.stdout.splitlines()]
        assert codes == ["token_malformed"] * 3

    def test_nothing_on_standard_input_is_no_refusal(self, run: Run) -> None:
        result = run("token", "explain", "-", env=HS, stdin="")
        assert (result.exit_code, result.stdout) == (0, "")

    def test_words_for_people_name_the_failed_check_and_its_setting(self, run: Run) -> None:
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

    def test_neither_key_nor_signature_is_shown(self, run: Run) -> None:
        token = run("token", "mint", "ada", env=HS).stdout.strip()
        signature = token.rpartition(".")[2]
        for extra in ([], ["--json"]):
            for env in (HS, {**HS, "AUTH_JWT_KEY": SECRET[::-1]}):
                result = run("token", "explain", token, *extra, env=env)
                assert signature not in result.output
                assert SECRET not in result.output

    def test_terminal_controls_in_claims_are_escaped(self, run: Run) -> None:
        env = {**HS, "AUTH_USER_ID_POLICY": "legacy"}
        token = run("token", "mint", "\x1b[2J\u202eada", env=env).stdout.strip()
        result = run("token", "explain", token, env=env)
        assert result.exit_code == 0
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output

    def test_help_has_an_example(self, run: Run) -> None:
        for command in (["token"], ["token", "mint"], ["token", "explain"], ["keys"], ["keys", "new"]):
            result = run(*command, "--help")
            assert result.exit_code == 0
            assert "Example" in result.stdout


class TestMint:
    def test_claims_follow_the_settings(self, run: Run) -> None:
        env = {**HS, "AUTH_JWT_ISS": "me", "AUTH_JWT_AUD": "you", "AUTH_JWT_NAMESPACE": "https://n.example"}
        arguments = ["token", "mint", "ada", "--ttl", "90s", "--claim", "team=red", "--claim", 'tags=["a",1]']
        token = run(*arguments, env=env).stdout.strip()
        result = run("token", "explain", token, env=env)
        shown = json.loads(result.stdout.split("Claims: ")[1].splitlines()[0])
        assert shown["exp"] - shown["iat"] == 90
        assert (shown["iss"], shown["aud"], shown["https://n.example"]) == ("me", "you", {"sub": "ada"})
        assert (shown["team"], shown["tags"]) == ("red", ["a", 1])
        assert "sub" not in shown

    def test_insecure_mode_does_not_sign(self, run: Run) -> None:
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
        ],
    )
    def test_senseless_requests_are_usage_errors(self, arguments: list[str], run: Run) -> None:
        result = run("token", "mint", *arguments, env=HS)
        assert (result.exit_code, result.stdout) == (2, "")

    def test_a_token_the_service_would_refuse_is_not_printed(self, run: Run) -> None:
        for arguments, env, code in [
            ([" ada"], HS, "user_invalid"),
            (["ada", "--ttl", "2h"], {**HS, "AUTH_JWT_MAX_LIFETIME": "3600"}, "lifetime_too_long"),
            (["ada"], {**HS, "AUTH_JWT_MAX_BYTES": "256", "AUTH_JWT_AUD": "a" * 200}, "token_too_large"),
        ]:
            result = run("token", "mint", *arguments, env=env)
            assert (result.exit_code, result.stdout) == (1, "")
            assert code in result.stderr

    def test_configured_types_are_written(self, run: Run) -> None:
        assert run("token", "mint", "ada", env={**HS, "AUTH_JWT_TYP": "acme+jwt"}).exit_code == 0


class TestKeys:
    @pytest.mark.parametrize("algorithm", ["ES256", "ES512", "EdDSA", "Ed25519"])
    def test_a_new_pair_makes_tokens_the_printed_settings_accept(
        self, algorithm: str, run: Run, tmp_path: Path
    ) -> None:
        made = run("keys", "new", algorithm, "--out", str(tmp_path))
        assert made.exit_code == 0
        env = settings_in(made.stdout)
        assert set(env) == {"AUTH_JWT_ALG", "AUTH_JWT_KEY_FILE"}
        private = tmp_path / f"leyden-{algorithm}-private.pem"
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert "PRIVATE" not in made.output
        token = run("token", "mint", "ada", "--key", str(private), env=env).stdout.strip()
        assert run("token", "explain", token, env=env).exit_code == 0

    def test_a_new_secret_signs_and_checks(self, run: Run, tmp_path: Path) -> None:
        made = run("keys", "new", "HS384", "--out", str(tmp_path / "new" / "directory"))
        env = settings_in(made.stdout)
        path = Path(env["AUTH_JWT_KEY_FILE"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip() not in made.output
        token = run("token", "mint", "ada", env=env).stdout.strip()
        assert run("token", "explain", token, env=env).exit_code == 0

    def test_nothing_is_overwritten(self, run: Run, tmp_path: Path) -> None:
        public = tmp_path / "leyden-ES256-public.pem"
        public.write_text("mine")
        result = run("keys", "new", "ES256", "--out", str(tmp_path))
        assert (result.exit_code, result.stdout) == (1, "")
        assert [path.name for path in tmp_path.iterdir()] == [public.name]
        assert public.read_text() == "mine"

    def test_the_wrong_private_key_is_noticed(self, run: Run, tmp_path: Path) -> None:
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
    def test_unknown_algorithms_are_usage_errors(self, algorithm: str, run: Run, tmp_path: Path) -> None:
        assert run("keys", "new", algorithm, "--out", str(tmp_path)).exit_code == 2
        assert list(tmp_path.iterdir()) == []
