"""The environment becomes settings, or every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from leyden.auth import generate_key
from leyden.config import ConfigurationError, Settings, load_auth_settings, load_settings

SECRET = "correct-horse-battery-staple-0123456789"
SECURE = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": SECRET}
INSECURE = {"AUTH_MODE": "insecure"}


def problems(env: dict[str, str]) -> dict[str, str]:
    """Variable → message; the printed form must name each and quote no value that may be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(env)
    printed = str(caught.value)
    for problem in caught.value.problems:
        assert problem.variable in printed
        assert problem.remedy in printed
    for name in ("DATABASE_URL", "AUTH_JWT_KEY", "AUTH_JWT_KEY_PREVIOUS"):
        if len(env.get(name, "")) > 8:
            assert env[name] not in printed
    return {problem.variable: problem.message for problem in caught.value.problems}


def database(url: str, **env: str) -> Settings:
    return load_settings({**INSECURE, "DATABASE_URL": url, **env})


class TestDefaults:
    def test_two_settings_make_a_secure_service(self) -> None:
        settings = load_settings(SECURE)
        assert settings.auth.mode == "secure"
        assert (settings.http_host, settings.http_port) == ("0.0.0.0", 5133)
        assert settings.database is None
        assert settings.database_conninfo is None
        assert settings.resumable_wal_window == 2 * 1024**3
        assert settings.txn_cache_size == 256 * 1024**2
        assert (settings.log_level, settings.log_format) == ("info", "text")
        assert settings.data_dir == Path(".leyden")
        assert settings.write_mode == "direct_writes"
        assert settings.auth.error_detail == "code"
        assert settings.read_keys_again() == settings.auth.ring

    def test_instance_ids_differ_from_start_to_start_unless_given(self) -> None:
        assert load_settings(SECURE).instance_id != load_settings(SECURE).instance_id
        assert load_settings({**SECURE, "ELECTRIC_INSTANCE_ID": "one"}).instance_id == "one"

    def test_only_the_given_environment_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PORT", "1")
        monkeypatch.setenv("AUTH_MODE", "insecure")
        assert load_settings(SECURE).http_port == 5133
        with pytest.raises(ConfigurationError):
            load_settings({})

    def test_variables_of_the_older_service_are_accepted(self) -> None:
        load_settings(
            SECURE
            | {
                "PG_PROXY_PASSWORD": "x",
                "PG_PROXY_PORT": "http",
                "LOGICAL_PUBLISHER_HOST": "h",
                "LOGICAL_PUBLISHER_PORT": "5433",
                "ELECTRIC_USE_IPV6": "true",
                "ELECTRIC_FEATURES": "a=true",
                "ELECTRIC_TELEMETRY": "disabled",
                "OTEL_EXPORT": "otlp",
                "STATSD_HOST": "h",
                "DATABASE_USE_IPV6": "true",
            }
        )


class TestEverythingAtOnce:
    def test_all_mistakes_are_reported_together_and_by_name(self) -> None:
        found = problems(
            {
                "AUTH_JWT_ALG": "HS512",
                "AUTH_JWT_KEY": "far-too-short-a-secret",
                "AUTH_JWT_LEEWAY": "61",
                "AUTH_JWT_AUDIENCE": "x",
                "DATABASE_URL": "postgresql://user:pass-word-pass@/db",
                "HTTP_PORT": "80abc",
                "LOG_LEVEL": "loud",
                "LEYDEN_LOG_FORMAT": "xml",
                "ELECTRIC_WRITE_TO_PG_MODE": "logical_replication",
                "ELECTRIC_RESUMABLE_WAL_WINDOW": "-1",
                "ELECTRIC_TXN_CACHE_SIZE": "0",
                "DATABASE_REQUIRE_SSL": "maybe",
            }
        )
        assert set(found) == {
            "AUTH_JWT_KEY",
            "AUTH_JWT_LEEWAY",
            "AUTH_JWT_AUDIENCE",
            "DATABASE_URL",
            "HTTP_PORT",
            "LOG_LEVEL",
            "LEYDEN_LOG_FORMAT",
            "ELECTRIC_WRITE_TO_PG_MODE",
            "ELECTRIC_RESUMABLE_WAL_WINDOW",
            "ELECTRIC_TXN_CACHE_SIZE",
            "DATABASE_REQUIRE_SSL",
        }
        assert found["AUTH_JWT_KEY"] == "has to be at least 64 bytes long for HS512"

    def test_secure_mode_without_a_key_says_how_to_make_one(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load_settings({})
        assert {problem.variable for problem in caught.value.problems} == {"AUTH_JWT_ALG", "AUTH_JWT_KEY"}
        assert "leyden keys new ES256" in str(caught.value)


class TestModes:
    @pytest.mark.parametrize("mode", ["", " ", "SECURE", " secure", "Insecure", "none"])
    def test_only_the_two_exact_words_are_modes(self, mode: str) -> None:
        assert set(problems({**SECURE, "AUTH_MODE": mode})) == {"AUTH_MODE"}

    def test_insecure_mode_listens_on_this_machine_only(self) -> None:
        assert load_settings(INSECURE).http_host == "127.0.0.1"
        for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
            assert load_settings({**INSECURE, "LEYDEN_HTTP_HOST": host}).http_host == host
        for host in ("0.0.0.0", "::", "192.168.1.1", "example.org", "localhost.example.org"):
            assert set(problems({**INSECURE, "LEYDEN_HTTP_HOST": host})) == {"LEYDEN_HTTP_HOST"}
            allowed = load_settings({**INSECURE, "LEYDEN_HTTP_HOST": host, "AUTH_INSECURE_PUBLIC": "yes"})
            assert allowed.http_host == host

    def test_insecure_public_alone_does_not_open_the_service(self) -> None:
        assert load_settings({**INSECURE, "AUTH_INSECURE_PUBLIC": "yes"}).http_host == "127.0.0.1"

    @pytest.mark.parametrize(
        "name",
        ["ALG", "KEY", "KEY_FILE", "KEY_PREVIOUS", "KEY_IS_BASE64_ENCODED", "ISS", "AUD", "TYP", "LEEWAY", "JWKS_URL"],
    )
    def test_settings_for_checking_do_not_go_with_insecure_mode(self, name: str) -> None:
        variable = f"AUTH_JWT_{name}"
        assert "insecure" in problems({**INSECURE, variable: "false"})[variable]
        assert load_settings({**INSECURE, variable: "  "}).auth.insecure

    def test_the_namespace_goes_with_both_modes(self) -> None:
        for env in (SECURE, INSECURE):
            assert load_settings({**env, "AUTH_JWT_NAMESPACE": "a.b"}).auth.namespace == "a.b"

    def test_warnings_name_insecure_mode_and_guessable_secrets(self) -> None:
        assert "insecure" in load_settings(INSECURE).auth.warnings[0]
        assert load_settings({**SECURE, "AUTH_JWT_KEY": "ab" * 20}).auth.warnings
        assert load_settings(SECURE).auth.warnings == ()


class TestKeys:
    @pytest.mark.parametrize("alg", ["none", "hs256", " HS256", "ES256K", "HS128", "ES256,RS256", "HS256,"])
    def test_only_exact_algorithm_names_are_accepted(self, alg: str) -> None:
        assert set(problems({**SECURE, "AUTH_JWT_ALG": alg})) == {"AUTH_JWT_ALG"}

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("AUTH_ALLOWED_ORIGIN", "AUTH_ALLOWED_ORIGINS"),
            ("AUTH_MAX_SESSION_SECS", "AUTH_MAX_SESSION_SECONDS"),
            ("AUTH_REVOCATIONS_STRICT", "AUTH_REVOCATION_STRICT"),
            ("AUTH_TRUSTED_PROXY", "AUTH_TRUSTED_PROXIES"),
        ],
    )
    def test_a_misspelt_setting_is_not_passed_over(self, name: str, meant: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load_auth_settings({**SECURE, name: "x"})
        (problem,) = caught.value.problems
        assert problem.variable == name
        assert meant in problem.remedy

    def test_other_programs_may_have_settings_of_their_own(self) -> None:
        load_auth_settings({**SECURE, "AUTH_SECRET": "x", "AUTH_URL": "y", "AUTH0_DOMAIN": "z"})

    def test_a_key_file_that_everybody_may_change_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text(SECRET)
        path.chmod(0o666)
        found = problems({"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY_FILE": str(path)})
        assert "everybody may write" in found["AUTH_JWT_KEY_FILE"]

    def test_a_key_file_is_read_without_its_final_newline(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text(f" {SECRET} \r\n\n")
        auth = load_auth_settings({"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY_FILE": str(path)})
        assert auth.ring.keys[0].secret() == f" {SECRET} ".encode()

    def test_unusable_key_files_are_named(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.write_text("\n")
        huge = tmp_path / "huge"
        huge.write_bytes(b"x" * 300_000)
        for path in (tmp_path / "missing", tmp_path, empty, huge):
            env = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY_FILE": str(path)}
            assert set(problems(env)) == {"AUTH_JWT_KEY_FILE"}
        short = tmp_path / "short"
        short.write_text("short")
        env = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY_FILE": str(short)}
        assert "at least 32 bytes" in problems(env)["AUTH_JWT_KEY_FILE"]

    def test_one_source_per_key(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text(SECRET)
        assert set(problems({**SECURE, "AUTH_JWT_KEY_FILE": str(path)})) == {"AUTH_JWT_KEY_FILE"}

    def test_a_previous_key_is_tried_too_and_held_to_the_same_rules(self) -> None:
        auth = load_auth_settings({**SECURE, "AUTH_JWT_KEY_PREVIOUS": SECRET[::-1]})
        assert [key.secret() for key in auth.ring.keys] == [SECRET.encode(), SECRET[::-1].encode()]
        assert set(problems({**SECURE, "AUTH_JWT_KEY_PREVIOUS": "short"})) == {"AUTH_JWT_KEY_PREVIOUS"}
        without = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY_PREVIOUS": SECRET}
        assert set(problems(without)) == {"AUTH_JWT_KEY"}

    def test_a_private_key_is_refused_without_being_quoted(self) -> None:
        private = generate_key("ES256").private_pem
        assert private is not None
        found = problems({"AUTH_JWT_ALG": "ES256", "AUTH_JWT_KEY": private})
        assert "private key" in found["AUTH_JWT_KEY"]

    @pytest.mark.parametrize("word", ["true", "YES", "1", "on", "t"])
    def test_usual_words_switch_base64_on(self, word: str) -> None:
        env = {"AUTH_JWT_ALG": "HS256", "AUTH_JWT_KEY": "AAEC" * 12, "AUTH_JWT_KEY_IS_BASE64_ENCODED": word}
        assert load_auth_settings(env).ring.keys[0].secret() == bytes((0, 1, 2)) * 12

    @pytest.mark.parametrize("word", ["maybe", "2", "wahr", "tru e"])
    def test_other_words_for_base64_are_mistakes(self, word: str) -> None:
        name = "AUTH_JWT_KEY_IS_BASE64_ENCODED"
        assert set(problems({**SECURE, name: word})) == {name}


class TestPolicies:
    def test_policies_are_read(self) -> None:
        auth = load_auth_settings(
            SECURE
            | {
                "AUTH_JWT_ISS": " i ",
                "AUTH_JWT_AUD": "a",
                "AUTH_JWT_TYP": "JWT, application/X+jwt",
                "AUTH_JWT_LEEWAY": "60",
                "AUTH_JWT_MAX_BYTES": "1000",
                "AUTH_JWT_MAX_LIFETIME": "3600",
                "AUTH_JWT_MAX_AGE": "60",
                "AUTH_ERROR_DETAIL": "none",
                "AUTH_USER_ID_POLICY": "legacy",
            }
        )
        assert (auth.issuer, auth.audience, auth.types) == (" i ", "a", {"jwt", "x+jwt"})
        assert (auth.leeway, auth.max_characters, auth.max_lifetime, auth.max_age) == (60, 1000, 3600, 60)
        assert (auth.error_detail, auth.user_id_policy) == ("none", "legacy")
        assert load_auth_settings({**SECURE, "AUTH_JWT_TYP": "any"}).types is None

    def test_blank_means_unset(self) -> None:
        blanks = ("ISS", "AUD", "NAMESPACE", "TYP", "LEEWAY", "KEY_PREVIOUS", "KEY_IS_BASE64_ENCODED", "JWKS_URL")
        plain = load_auth_settings(SECURE)
        assert load_auth_settings(SECURE | {f"AUTH_JWT_{name}": "  " for name in blanks}) == plain

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("AUTH_JWT_LEEWAY", "-1"),
            ("AUTH_JWT_LEEWAY", "1.5"),
            ("AUTH_JWT_LEEWAY", "٣"),
            ("AUTH_JWT_MAX_BYTES", "0"),
            ("AUTH_JWT_MAX_LIFETIME", "1h"),
            ("AUTH_JWT_MAX_AGE", "-1"),
            ("AUTH_JWT_TYP", "JWT,,x"),
            ("AUTH_ERROR_DETAIL", "all"),
            ("AUTH_USER_ID_POLICY", "lax"),
            ("AUTH_INSECURE_PUBLIC", "sure"),
        ],
    )
    def test_values_out_of_range_are_mistakes(self, name: str, value: str) -> None:
        assert set(problems({**SECURE, name: value})) == {name}


class TestDatabase:
    def test_every_part_of_the_url_is_read(self) -> None:
        settings = database("postgres://us%40er:p%2Fw%3A@db.example:6543/my%20db?sslmode=disable")
        assert settings.database is not None
        address = settings.database
        assert (address.user, address.password, address.host) == ("us@er", "p/w:", "db.example")
        assert (address.port, address.name, address.sslmode) == (6543, "my db", "disable")
        assert "p/w" not in repr(settings)

    def test_port_and_database_have_defaults(self) -> None:
        settings = database("postgresql://ada@[::1]")
        assert settings.database is not None
        assert (settings.database.host, settings.database.port, settings.database.name) == ("::1", 5432, "ada")

    def test_a_socket_directory_can_be_the_host(self) -> None:
        settings = database("postgresql://u@%2Ftmp%2FPg/db")
        assert settings.database is not None
        assert settings.database.host == "/tmp/Pg"

    @pytest.mark.parametrize(
        ("query", "required", "sslmode"),
        [
            ("", None, "require"),
            ("?sslmode=disable", None, "disable"),
            ("?sslmode=prefer", None, "prefer"),
            ("?sslmode=require", None, "require"),
            ("?sslmode=disable", "true", "require"),
            ("?sslmode=require", "false", "prefer"),
            ("", "0", "prefer"),
        ],
    )
    def test_tls_is_required_unless_given_up(self, query: str, required: str | None, sslmode: str) -> None:
        env = {} if required is None else {"DATABASE_REQUIRE_SSL": required}
        conninfo = database(f"postgresql://u:p@h/d{query}", **env).database_conninfo
        assert f"sslmode={sslmode}" in str(conninfo).split()

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("mysql://user:sesame@h/d", "scheme"),
            ("user:sesame@h/d", "scheme"),
            ("postgresql:user:sesame@h", "scheme"),
            ("sesame", "scheme"),
            ("postgresql://h/d", "user"),
            ("postgresql://:sesame@h/d", "user"),
            ("postgresql://user:sesame@/d", "host"),
            ("postgresql://user:sesame@:5432/d", "host"),
            ("postgresql://user:sesame@h:99999/d", "port"),
            ("postgresql://user:sesame@h:x/d", "port"),
            ("postgresql://user:sesame@[::1/d", "port"),
            ("postgresql://user:ses%ame@h/d", "percent"),
            ("postgresql://user:sesame%00@h/d", "percent"),
            ("postgresql://user:sesame@h/d/e", "database name"),
            ("postgresql://user:sesame@h/d?sslmode=sesame", "invalid sslmode"),
            ("postgresql://user:sesame@h/d?sslmode=verify-full", "verify-full"),
            ("postgresql://user:sesame@h/d?replication=database", "replication"),
            ("postgresql://user:sesame@h/d?sesame=1", "query options"),
        ],
    )
    def test_mistakes_in_the_url_are_told_without_quoting_it(self, url: str, message: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            database(url)
        (problem,) = caught.value.problems
        assert problem.variable == "DATABASE_URL"
        assert message in problem.message
        assert "sesame" not in str(caught.value)


class TestService:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("1", 1), ("1k", 1000), ("1K", 1024), ("1.5M", 1572864), ("2g", 2 * 10**9), ("2G", 2**31), ("0.5K", 512)],
    )
    def test_sizes_have_decimal_and_binary_suffixes(self, text: str, size: int) -> None:
        settings = load_settings({**SECURE, "ELECTRIC_RESUMABLE_WAL_WINDOW": text, "ELECTRIC_TXN_CACHE_SIZE": text})
        assert (settings.resumable_wal_window, settings.txn_cache_size) == (size, size)

    @pytest.mark.parametrize("text", ["0", "-1", "1T", "1 G", "G", "1e9", "0.0001", "nan", "1.k"])
    def test_other_sizes_are_mistakes(self, text: str) -> None:
        assert set(problems({**SECURE, "ELECTRIC_TXN_CACHE_SIZE": text})) == {"ELECTRIC_TXN_CACHE_SIZE"}

    def test_tombstones_are_kept_for_90_days_or_as_long_as_told(self) -> None:
        assert load_settings(SECURE).tombstone_retention == 90 * 86_400
        for text, seconds in (("0", 0), ("3600", 3600), ("31536000", 31_536_000)):
            assert load_settings({**SECURE, "LEYDEN_TOMBSTONE_RETENTION": text}).tombstone_retention == seconds
        for text in ("-1", "1", "3599", "90d", "1e6"):
            assert set(problems({**SECURE, "LEYDEN_TOMBSTONE_RETENTION": text})) == {"LEYDEN_TOMBSTONE_RETENTION"}

    @pytest.mark.parametrize("mode", ["", "logical_replication", "DIRECT_WRITES"])
    def test_direct_writes_is_the_only_write_mode(self, mode: str) -> None:
        assert set(problems({**SECURE, "ELECTRIC_WRITE_TO_PG_MODE": mode})) == {"ELECTRIC_WRITE_TO_PG_MODE"}
        assert load_settings({**SECURE, "ELECTRIC_WRITE_TO_PG_MODE": "direct_writes"})

    @pytest.mark.parametrize(("text", "level"), [("WARN", "warning"), ("alert", "critical"), ("notice", "info")])
    def test_log_levels_of_the_older_service_are_understood(self, text: str, level: str) -> None:
        assert load_settings({**SECURE, "LOG_LEVEL": text}).log_level == level

    @pytest.mark.parametrize("port", ["-1", "65536", "5133x", "0x10", "1_000"])
    def test_ports_are_plain_numbers(self, port: str) -> None:
        assert set(problems({**SECURE, "HTTP_PORT": port})) == {"HTTP_PORT"}
