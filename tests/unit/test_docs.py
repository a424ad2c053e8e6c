"""The documentation agrees with what is there: links, variables, commands, refusal codes, and the tests it names."""

from __future__ import annotations

import ast
import json
import re
import shlex
import time
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click
import pytest

import leyden
from leyden.auth import ALGORITHMS, Code, generate_key, load_private_key, mint_token
from leyden.cli import main
from leyden.observe.labels import REASONS

ROOT = Path(__file__).parents[2]
SOURCE = Path(leyden.__file__).parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        ROOT / "tests" / "interop" / "driver" / "README.md",
    ]
)

#: A variable of ours, or of the old service where we read it.
VARIABLE = re.compile(r"(?:AUTH|ADMIN|LEYDEN|ELECTRIC|DATABASE|HTTP|LOG)_[A-Z0-9_]*[A-Z0-9]")


@cache
def text(page: Path) -> str:
    return page.read_text("utf-8")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> list[tuple[str, str]]:
    """(text, target) of the links of a page that lead to files here."""
    prose = re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", prose)
    return [(label, target) for label, target in found if "://" not in target]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(page: str, header: str) -> list[list[str]]:
    """The cells of every row of the tables of a page whose header begins so."""
    rows: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text(ROOT / "docs" / page), re.MULTILINE):
        first, _, *others = table.splitlines()
        if first.startswith(f"| {header} |"):
            rows += [[cell.strip() for cell in row.strip("|").split("|")] for row in others]
    return rows


# ---- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for _, target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert lost == []


THREATS = table_rows("threat-model.md", "Attack")


@cache
def vectors() -> tuple[str, ...]:
    fixtures = json.loads((ROOT / "tests" / "fixtures" / "auth-vectors.json").read_text("utf-8"))
    return tuple(vector["name"] for vector in fixtures)


def test_the_threat_model_has_its_attacks() -> None:
    assert len(THREATS) > 50


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row[0])
def test_every_defence_names_tests_that_exist(row: list[str]) -> None:
    _, defence, shown_by = row
    assert defence
    shown = re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", shown_by)
    assert shown
    for name, target in shown:
        path = (ROOT / "docs" / target).resolve()
        if path.suffix == ".json":
            assert any(fnmatchcase(vector, name) for vector in vectors()), name
        else:
            assert re.search(rf"^ *(?:async )?def {name}\(", text(path), re.MULTILINE), name


# ---- variables ------------------------------------------------------------------------------------------------------


@cache
def variables_read() -> frozenset[str]:
    """Every variable whose name stands in the code as a text of its own."""
    return frozenset(
        node.value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value)
    )


def test_the_tables_of_the_manual_hold_every_variable_that_is_read_and_no_other() -> None:
    documented = [name for row in table_rows("configuration.md", "Variable") for name in VARIABLE.findall(row[0])]
    assert len(documented) == len(set(documented))
    assert set(documented) == variables_read()


#: Error codes of the protocol and of the stock client.
NO_VARIABLES = {"AUTH_REQUIRED", "AUTH_FAILED", "AUTH_EXPIRED"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_variable_that_is_not_read(page: Path) -> None:
    # what comes before * or … stands for several
    mentioned = set(re.findall(rf"\b({VARIABLE.pattern})\b(?![*_…])", text(page))) - NO_VARIABLES
    ours = {name for name in mentioned if name.startswith(("AUTH_", "ADMIN_", "LEYDEN_"))}
    assert ours - variables_read() == set()


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[A-Za-z0-9._-]+", one)[0] for one in declared}  # type: ignore[index]
    tables = (table_rows("dependencies.md", header) for header in ("Run time", "Development"))
    reasons = " ".join(row[0] for rows in tables for row in rows)
    assert names - set(re.findall(r"[A-Za-z0-9._-]+", reasons)) == set()


# ---- commands -------------------------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `leyden …` on a page, in code within a line, indented, or in a block for the shell."""
    inline = re.findall(r"`(leyden (?!ready on)[a-z][^`]*)`", text(page))
    indented = re.findall(r"^    (?:[A-Z_]+=\S+ )*(leyden [a-z].*)$", text(page), re.MULTILINE)
    blocks = re.findall(r"^```sh\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)
    fenced = [line for block in blocks for line in re.findall(r"(?:^|[(;&|] )(leyden [a-z].*)$", block, re.MULTILINE)]
    for line in (*inline, *indented, *fenced):
        lexer = shlex.shlex(line.replace("\\|", "|"), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in lexer:
            if set(word) <= set("();<>|&"):
                break
            words.append(word)
        yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist_with_the_options_given(page: Path) -> None:
    for words in commands(page):
        command: click.Command = main
        context = click.Context(main)
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(context, rest.pop(0))
            assert found is not None, words
            command, context = found, click.Context(found, parent=context)
        known = {
            option
            for parameter in command.get_params(context)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert {word for word in rest if word.startswith("--") and word != "--"} <= known, words


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_the_table_of_refusals_lists_every_code_and_no_other() -> None:
    documented = [code for row in table_rows("secure-mode.md", "Code") for code in re.findall(r"`(\w+)`", row[0])]
    assert len(documented) == len(set(documented))
    assert set(documented) == REASONS
    assert set(get_args(Code)) < REASONS


def test_the_order_of_checks_names_every_code_of_a_token() -> None:
    rows = table_rows("authentication-rules.md", "Check")
    named = {code for row in rows for code in re.findall(r"`(\w+)`", row[1])}
    assert named == set(get_args(Code)) - {"internal"}


# ---- snippets -------------------------------------------------------------------------------------------------------


def test_tokens_can_be_judged_as_the_page_on_embedding_says(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(
        r"^```python\n(import time\n.*?)^```$", text(ROOT / "docs/embedding.md"), re.MULTILINE | re.DOTALL
    )
    key, now = generate_key("ES256"), int(time.time())
    assert key.private_pem is not None
    signer = load_private_key(key.private_pem.encode(), ALGORITHMS["ES256"])
    names: dict[str, Any] = {"pem": key.public_pem}
    for expires_at in (now + 60, now - 60):
        claims = {"sub": "alice", "iat": now - 90, "exp": expires_at}
        names["token"] = mint_token(claims, algorithm=ALGORITHMS["ES256"], key=signer)
        exec(snippet, names)
    assert names["identity"].user_id == "alice"
    assert capsys.readouterr().out == "expired\n"
