"""The numbered files of the schema."""

from __future__ import annotations

import re
from importlib.resources import files


def test_no_two_migrations_have_the_same_number() -> None:
    names = [entry.name for entry in (files("leyden.postgres") / "sql").iterdir()]
    numbers = sorted(int(name[:4]) for name in names if re.fullmatch(r"\d{4}_\w+\.sql", name))
    assert numbers[0] == 1
    assert len(numbers) == len(set(numbers))
