"""docs/secure-mode.md does what it says: every command and snippet on the page is run, and what it makes is judged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import leyden
from interop.client import node_binary
from leyden.auth import ALGORITHMS, Family, Identity, Refusal, load_private_key, mint_token, verifier_from
from leyden.config import load_auth_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "secure-mode.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the recipes are openssl's")


def block(language: str, containing: str) -> str:
    """The one code block of the page in this language with this text in it."""
    (found,) = [text for kind, text in BLOCKS if kind == language and containing in text]
    return found


def recipes() -> dict[str, str]:
    """algorithm -> the openssl command of the page's table that makes its key."""
    table = PAGE.split("| Algorithm | Private key |")[1].split("\n\n")[0]
    rows = [re.split(r"(?<!\\)\|", row)[1:3] for row in table.splitlines()[2:]]
    return {
        name: command[1].replace("\\|", "|")
        for names, cell in rows
        for name in names.split()
        if (command := re.match(r" `([^`]+)`", cell))
    }


def run(script: str, directory: Path, *interpreter: str | Path) -> str:
    """What ``script`` prints, run by bash or another ``interpreter`` in an environment without settings."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    environment["PYTHONPATH"] = str(Path(leyden.__file__).parents[1])
    done = subprocess.run(
        [*map(str, interpreter or ("bash", "-eu", "-o", "pipefail", "-c")), script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_key(algorithm: str, directory: Path) -> dict[str, str]:
    """A key by the page's recipe; returns the settings of a service that trusts it, as a shell's $(cat …) would."""
    run(recipes()[algorithm], directory)
    if ALGORITHMS[algorithm].family is Family.HMAC:
        return {"AUTH_JWT_ALG": algorithm, "AUTH_JWT_KEY": (directory / "secret.txt").read_text()}
    run(block("sh", "-pubout"), directory)
    return {"AUTH_JWT_ALG": algorithm, "AUTH_JWT_KEY": (directory / "public.pem").read_text().rstrip("\n")}


def accepted(token: str, settings: Mapping[str, str]) -> Identity:
    return verifier_from(load_auth_settings(settings)).verify(token, time.time())


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_there_is_a_recipe_for_every_algorithm() -> None:
    assert recipes().keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_made_by_openssl_signs_and_checks(algorithm: str, tmp_path: Path) -> None:
    settings = make_key(algorithm, tmp_path)
    ring = load_auth_settings(settings).ring
    assert ring.keys[0].warning is None
    if ALGORITHMS[algorithm].family is Family.HMAC:
        key = ring.keys[0].material
    else:
        key = load_private_key((tmp_path / "private.pem").read_bytes(), ALGORITHMS[algorithm])
    now = int(time.time())
    token = mint_token({"sub": "alice", "iat": now, "exp": now + 60}, algorithm=ALGORITHMS[algorithm], key=key)
    assert accepted(token, settings).user_id == "alice"


def test_two_settings_and_a_command_are_enough(tmp_path: Path) -> None:
    token = run(block("sh", "leyden keys new") + block("sh", "leyden token mint"), tmp_path).splitlines()[-1]
    key = (tmp_path / "keys" / "leyden-ES256-public.pem").read_text().rstrip("\n")
    identity = accepted(token, {"AUTH_JWT_ALG": "ES256", "AUTH_JWT_KEY": key})
    assert (identity.user_id, identity.claims["role"]) == ("alice", "editor")


# ---- tokens ---------------------------------------------------------------------------------------------------------


def test_a_token_made_by_hand_is_accepted(tmp_path: Path) -> None:
    settings = make_key("HS256", tmp_path)
    assert accepted(run(block("sh", "-hmac"), tmp_path).strip(), settings).user_id == "alice"


@pytest.mark.parametrize("library", ["leyden.auth", "jwt.encode"])
def test_a_token_made_in_python_is_accepted(library: str, tmp_path: Path) -> None:
    settings = make_key("ES256", tmp_path)
    token = run(block("python", library), tmp_path, sys.executable, "-c").strip()
    assert accepted(token, settings).user_id == "alice"


@pytest.mark.parametrize("user", ["alice", "who?~>~?", "Zoë 🦊 Ωμέγα"])
def test_a_token_made_in_node_is_accepted_and_can_be_read_by_the_stock_client(user: str, tmp_path: Path) -> None:
    settings = make_key("ES256", tmp_path)
    script = block("js", "createPrivateKey").replace("'alice'", json.dumps(user))
    token = run(script, tmp_path, node_binary(), "--input-type=module", "-e").strip()
    assert accepted(token, settings).user_id == user
    assert not set("-_") & set(token.split(".")[1])


def test_the_example_to_follow_is_the_old_manuals_and_is_accepted_in_its_time(tmp_path: Path) -> None:
    vectors = json.loads((ROOT / "tests" / "fixtures" / "auth-vectors.json").read_text("utf-8"))
    (old,) = [vector for vector in vectors if vector["name"] == "seed-token-inside-lifetime"]
    key, token = block("pem", "PUBLIC KEY"), block("jwt", "eyJ")
    assert (key, token.strip()) == (old["config"]["AUTH_JWT_KEY"], old["token"])
    (tmp_path / "public.pem").write_text(key)
    (tmp_path / "token.txt").write_text(token)
    command = block("sh", "leyden token explain")
    assert re.search(r"\buser\b.*\b1\b", run(command, tmp_path))
    verifier = verifier_from(load_auth_settings(old["config"]))
    with pytest.raises(Refusal) as caught:
        verifier.verify(token.strip(), time.time())
    assert caught.value.code == "expired"
