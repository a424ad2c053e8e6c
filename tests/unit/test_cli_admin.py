"""`leyden admin` and `leyden sessions`, as far as no service is needed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from leyden.cli import main
from leyden.cli import sessions as cli_sessions
from leyden.edge.admin.credentials import identify, parse_credentials

Run = Callable[..., Result]
SECRET = "s" * 43


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(*arguments, **env)`"""
    for name in ("LEYDEN_ADMIN_URL", "LEYDEN_ADMIN_TOKEN", "LEYDEN_ADMIN_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str, **env: str) -> Result:
        result = CliRunner().invoke(main, arguments, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


class TestNewCredential:
    def test_the_secret_alone_goes_to_stdout_and_its_line_is_shown(self, run: Run) -> None:
        result = run("admin", "token", "new", "ops", "--scope", "sessions", "--scope", "status")
        assert result.exit_code == 0
        (secret,) = result.stdout.splitlines()
        (line,) = [line.strip() for line in result.stderr.splitlines() if line.startswith("  ")]
        (credential,) = parse_credentials(line)
        assert (credential.name, credential.scopes) == ("ops", {"sessions", "status"})
        assert identify([credential], secret) is credential
        assert secret not in result.stderr

    def test_lines_are_added_to_a_file_one_by_one(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        first = run("admin", "token", "new", "ops", "--scope", "sessions", "--file", str(path))
        assert path.stat().st_mode & 0o137 == 0
        path.write_text(path.read_text() + "# no line end")
        second = run("admin", "token", "new", "grafana", "--scope", "metrics", "--file", str(path))
        credentials = parse_credentials(path.read_text())
        for result, credential in zip((first, second), credentials, strict=True):
            assert identify(credentials, result.stdout.strip()) == credential
            assert result.stdout.strip() not in path.read_text() + result.stderr

    @pytest.mark.parametrize("content", ["", "ops status " + "5e" * 32 + "\n", "not a tokens file\n"])
    def test_a_file_is_left_alone_when_the_line_would_spoil_it(self, run: Run, tmp_path: Path, content: str) -> None:
        path = tmp_path / "tokens"
        path.write_text(content)
        result = run("admin", "token", "new", "ops", "--scope", "metrics", "--file", str(path))
        if content:
            assert (result.exit_code, result.stdout, path.read_text()) == (1, "", content)
        else:
            assert result.exit_code == 0

    def test_wrong_use_is_told(self, run: Run, tmp_path: Path) -> None:
        assert run("admin", "token", "new", "ops").exit_code == 2
        assert run("admin", "token", "new", "o p s", "--scope", "metrics").exit_code == 2
        assert run("admin", "token", "new", "ops", "--scope", "everything").exit_code == 2
        nowhere = run("admin", "token", "new", "ops", "--scope", "metrics", "--file", str(tmp_path / "no" / "where"))
        assert (nowhere.exit_code, nowhere.stdout) == (1, "")


class Api:
    """Something that answers every request in the same way, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b"{}"
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, str | None, bytes]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                api.requests.append((self.command, self.path, self.headers.get("authorization"), body))
                self.send_response(api.status)
                for name, value in {**api.headers, "content-length": str(len(api.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(api.body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def env(self) -> dict[str, str]:
        return {"LEYDEN_ADMIN_URL": self.url, "LEYDEN_ADMIN_TOKEN": SECRET}


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    thread = threading.Thread(target=api.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield api
    api.server.shutdown()
    thread.join()
    api.server.server_close()


def session(**changed: Any) -> dict[str, Any]:
    return {
        "connection": 7,
        "user_id": "alice",
        "client_id": "device-a",
        "address": "203.0.113.7",
        "origin": None,
        "user_agent": None,
        "connected_at": 1_000.0,
        "issuer": None,
        "algorithm": "ES256",
        "kid": None,
        "key_thumbprint": "0123456789abcdef",
        "jti": None,
        "expires_at": 4_000.0,
        "ends_at": 4_003.0,
        **changed,
    }


class TestSessions:
    def test_a_table(self, run: Run, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli_sessions.time, "time", lambda: 1_090.0)
        odd = session(user_id="\x1b[31mred\u202e" + "x" * 300, ends_at=None, key_thumbprint=None, connection=12)
        api.body = json.dumps({"sessions": [session(), odd]}).encode()
        result = run("sessions", "list", **api.env)
        assert result.exit_code == 0
        heading, first, second = result.stdout.splitlines()
        assert heading.split() == ["USER", "CLIENT", "ADDRESS", "CONNECTED", "ENDS", "KEY", "CONNECTION"]
        assert "  ".join(first.split()) == "alice  device-a  203.0.113.7  1  min  ago  in  48  min  0123456789  7"
        assert first.index("203.0.113.7") == heading.index("ADDRESS")
        assert second.split()[-5:] == ["min", "ago", "never", "-", "12"]
        assert second.isprintable()
        assert len(second) < 150
        assert api.requests == [("GET", "/api/admin/sessions", f"Bearer {SECRET}", b"")]

    def test_json_is_what_the_service_said(self, run: Run, api: Api) -> None:
        api.body = json.dumps({"sessions": [session(), session(user_id="\u202e")]}).encode()
        result = run("sessions", "list", "--json", **api.env)
        assert [json.loads(line) for line in result.stdout.splitlines()] == json.loads(api.body)["sessions"]
        assert result.stdout.isascii()

    def test_nobody(self, run: Run, api: Api) -> None:
        api.body = b'{"sessions":[]}'
        result = run("sessions", "list", **api.env)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nobody is connected.\n")

    @pytest.mark.parametrize("number", [0, 3])
    def test_disconnect(self, run: Run, api: Api, number: int) -> None:
        api.body = json.dumps({"disconnected": number}).encode()
        result = run("sessions", "disconnect", "zoë\u202e", **api.env)
        assert result.exit_code == 0
        assert result.stdout == f"Connections of zoë\\u202e ended: {number}\n"
        assert ("leyden revoke" in result.stderr) is (number > 0)
        assert api.requests[0][:2] == ("POST", "/api/admin/sessions/disconnect")
        assert json.loads(api.requests[0][3]) == {"user": "zoë\u202e"}

    def test_the_secret_may_come_from_a_file(self, run: Run, api: Api, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text(SECRET + "\n")
        api.body = b'{"sessions":[]}'
        assert run("sessions", "list", LEYDEN_ADMIN_URL=api.url, LEYDEN_ADMIN_TOKEN_FILE=str(path)).exit_code == 0
        assert api.requests[0][2] == f"Bearer {SECRET}"

    @pytest.mark.parametrize(
        ("status", "body", "told"),
        [
            (401, b'{"code":"unauthorized","message":"m"}', "does not know this secret"),
            (403, b'{"code":"scope_missing","message":"The credential lacks the scope sessions."}', "lacks the scope"),
            (429, b'{"code":"rate_limited","message":"m"}', "wait a minute"),
            (500, b'{"message":"\\u001b[31m"}', "status 500 (\\x1b[31m)"),
            (502, b"<html>", "status 502"),
            (200, b"<html>", "is not the admin API"),
            (200, b"[]", "is not the admin API"),
            (200, b"{}", "is not the admin API"),
        ],
    )
    def test_a_failure_says_what_to_do(self, run: Run, api: Api, status: int, body: bytes, told: str) -> None:
        api.status, api.body = status, body
        result = run("sessions", "list", **api.env)
        assert (result.exit_code, result.stdout) == (1, "")
        assert told in result.stderr
        assert SECRET not in result.stderr
        assert "\x1b" not in result.stderr

    def test_the_secret_follows_no_redirect_and_no_proxy(self, run: Run, api: Api) -> None:
        api.status, api.headers = 307, {"location": f"{api.url}/elsewhere"}
        result = run("sessions", "list", http_proxy="http://127.0.0.1:1", ALL_PROXY="http://127.0.0.1:1", **api.env)
        assert result.exit_code == 1
        assert [request[1] for request in api.requests] == ["/api/admin/sessions"]

    def test_nothing_there(self, run: Run, api: Api) -> None:
        unused = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        port = unused.server_port
        unused.server_close()
        result = run("sessions", "list", LEYDEN_ADMIN_URL=f"http://127.0.0.1:{port}", LEYDEN_ADMIN_TOKEN=SECRET)
        assert result.exit_code == 1
        assert "cannot be reached" in result.stderr
        assert "ADMIN_TOKENS_FILE" in result.stderr

    @pytest.mark.parametrize(
        ("env", "told"),
        [
            ({}, "set LEYDEN_ADMIN_TOKEN"),
            ({"LEYDEN_ADMIN_TOKEN": "  "}, "set LEYDEN_ADMIN_TOKEN"),
            ({"LEYDEN_ADMIN_TOKEN": "a b"}, "LEYDEN_ADMIN_TOKEN holds no secret"),
            ({"LEYDEN_ADMIN_TOKEN": "a\nhost: x"}, "LEYDEN_ADMIN_TOKEN holds no secret"),
            ({"LEYDEN_ADMIN_TOKEN": "a", "LEYDEN_ADMIN_TOKEN_FILE": "b"}, "keep one"),
            ({"LEYDEN_ADMIN_TOKEN_FILE": "/does/not/exist"}, "No such file"),
            ({"LEYDEN_ADMIN_TOKEN": "a", "LEYDEN_ADMIN_URL": "ftp://localhost"}, "LEYDEN_ADMIN_URL is not usable"),
            ({"LEYDEN_ADMIN_TOKEN": "a", "LEYDEN_ADMIN_URL": "localhost:5134"}, "LEYDEN_ADMIN_URL is not usable"),
            ({"LEYDEN_ADMIN_TOKEN": "a", "LEYDEN_ADMIN_URL": "http://a:b@localhost"}, "LEYDEN_ADMIN_URL is not usable"),
            ({"LEYDEN_ADMIN_TOKEN": "a", "LEYDEN_ADMIN_URL": "http://localhost:x"}, "LEYDEN_ADMIN_URL is not usable"),
        ],
    )
    def test_wrong_use_names_the_variable(self, run: Run, env: dict[str, str], told: str) -> None:
        result = run("sessions", "list", **env)
        assert (result.exit_code, result.stdout) == (2, "")
        assert told in result.stderr
