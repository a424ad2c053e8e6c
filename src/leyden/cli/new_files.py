"""Files that commands make: with their mode from the first moment on, and never over another file unasked."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import click

PRIVATE_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644


def create(path: Path, text: str, mode: int) -> None:
    """Create `path`; raises `OSError`, `FileExistsError` when there is anything of that name.

    No moment leaves a private file readable to others, or half of one behind.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write(path: Path, text: str, mode: int, *, force: bool) -> None:
    """Create `path`, or with `force` put a new file in its place in one step, so that nobody reads half of either.

    Ends the command with a sentence when that cannot be.
    """
    try:
        if not force:
            create(path, text, mode)
            return
        waiting = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        create(waiting, text, mode)
        try:
            waiting.replace(path)
        except BaseException:
            waiting.unlink(missing_ok=True)
            raise
    except FileExistsError:
        raise click.ClickException(
            f"{path} exists and is not overwritten; choose another name, or --force replaces it"
        ) from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror or 'unusable path'}") from None
