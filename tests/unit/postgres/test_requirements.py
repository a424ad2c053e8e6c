from __future__ import annotations

from typing import Any

import pytest

from leyden.postgres.replication.publication import slot_name
from leyden.postgres.requirements import DatabaseRequirementError, judge

FIT: dict[str, Any] = {
    "version": 180001,
    "wal_level": "logical",
    "encoding": "UTF8",
    "standby": False,
    "database": "app",
    "role": "svc",
    "superuser": False,
    "replication": True,
    "may_create": True,
    "free_slots": 1,
    "has_slot": False,
    "free_senders": 1,
    "filtered": [],
}


@pytest.mark.parametrize("version", [140000, 160005, 180001])
def test_a_fit_database_lacks_nothing(version: int) -> None:
    assert judge({**FIT, "version": version}) == ()


@pytest.mark.parametrize(
    ("fact", "code"),
    [
        ({"version": 130015}, "version"),
        ({"version": 190000}, "version"),
        ({"encoding": "SQL_ASCII"}, "encoding"),
        ({"standby": True}, "standby"),
        ({"wal_level": "replica"}, "wal_level"),
        ({"replication": False}, "replication"),
        ({"may_create": False}, "create"),
        ({"free_slots": 0}, "slots"),
        ({"free_senders": 0}, "senders"),
        ({"filtered": ["docs"]}, "row_security"),
    ],
)
def test_each_fact_out_of_order_is_one_message_with_a_remedy(fact: dict[str, Any], code: str) -> None:
    (requirement,) = judge({**FIT, **fact})
    assert requirement.code == code
    assert requirement.message
    assert requirement.remedy


def test_a_slot_that_is_already_ours_needs_no_free_one() -> None:
    assert judge({**FIT, "free_slots": 0, "has_slot": True}) == ()


def test_remedies_can_be_pasted_whatever_the_role_is_called() -> None:
    (requirement,) = judge({**FIT, "role": 'my "role"', "replication": False})
    assert requirement.remedy == 'as a superuser: ALTER ROLE "my ""role""" REPLICATION'


def test_the_error_says_everything_at_once() -> None:
    unmet = judge({**FIT, "wal_level": "minimal", "may_create": False})
    assert len(str(DatabaseRequirementError(unmet)).splitlines()) == 2


@pytest.mark.parametrize(
    ("database", "slot"), [("app", "leyden_app"), ("My-App.é", "leyden_my_app__"), ("x" * 63, "leyden_" + "x" * 56)]
)
def test_slot_names_hold_only_what_postgres_allows(database: str, slot: str) -> None:
    assert slot_name(database) == slot
