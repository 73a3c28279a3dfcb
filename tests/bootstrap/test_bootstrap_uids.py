"""The uids that a node gives to its users exist there, are free, and are remembered."""

from __future__ import annotations

from typing import Any

import pytest

from codesmith.bootstrap import layout, uids
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.plan import plan
from codesmith.errors import Unsupported
from tests.bootstrap.bootstrap_facts import BARE, DESIRED, prepared
from tests.bootstrap.test_bootstrap_plan import change

USUAL, BIG = (1879048192, 2147483646), [[0, 4294967294]]
CONTAINER = {"uids": [[0, 65535]], "gids": [[0, 65535]]}

# What a node has, and the range that it gets.
CASES: dict[str, tuple[dict[str, Any], tuple[int, int] | None]] = {
    "nothing special": ({}, USUAL),
    "the usual login.defs": ({"login_defs": {"UID_MIN": 1000, "UID_MAX": 60000, "SUB_UID_MIN": 100000}}, USUAL),
    "somebody's subordinates at its beginning": (
        {"subordinates": [[1879000000, 1879100000]]},
        (1879100001, 2147483646),
    ),
    "subordinates, gids and accounts here and there: the largest part": (
        {"subordinates": [[1900000000, 1900065535]], "taken": [[2000000000, 2000000000]]},
        (2000000001, 2147483646),
    ),
    "subordinates of others to come there": ({"login_defs": {"SUB_UID_MAX": 4294967295}}, (70000, 99999)),
    "people there": ({"login_defs": {"UID_MAX": 4294967294}}, USUAL),
    "an unprivileged container": (CONTAINER, (20000, 59999)),
    "one whose people end lower": ({**CONTAINER, "login_defs": {"UID_MAX": 29999, "GID_MAX": 29999}}, (30000, 59999)),
    "one in which somebody is there": ({**CONTAINER, "taken": [[30000, 30000]]}, (30001, 59999)),
    "one with more uids": ({"uids": [[0, 131071]], "gids": [[0, 131071]]}, (70000, 99999)),
    "fewer gids than uids": ({"uids": BIG, "gids": [[0, 65535]]}, (20000, 59999)),
    "two parts": ({"uids": [[0, 65535], [1900000000, 1900100000]], "gids": BIG}, (1900000000, 1900100000)),
    "one with few uids": ({"uids": [[0, 999]], "gids": [[0, 999]]}, None),
    "one whose uids are all somebody's": ({**CONTAINER, "subordinates": [[1000, 65535]]}, None),
    "one with room for some hundred": ({**CONTAINER, "taken": [[20000, 59100]]}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_choice(case: str) -> None:
    ids, wanted = CASES[case]
    facts = Facts.from_json(change(BARE, {"ids": ids}))
    assert uids.choose(facts) == wanted
    if wanted is None:
        with pytest.raises(Unsupported, match=r"no 1000 uids in a row .*: there are uids 0 to"):
            plan(facts, DESIRED)
    else:
        (step,) = [step for step in plan(facts, DESIRED) if step.kind == "uids"]
        assert step.order["text"] == f'{{"ranges": [[{wanted[0]}, {wanted[1]}]]}}\n'


def now(but: dict[str, Any]) -> list[list[int]]:
    return uids.ranges(Facts.from_json(change(prepared(), but)))


def test_a_range_is_kept_as_long_as_it_will_do() -> None:
    mine, usual = [[80000, 89999]], [list(USUAL)]
    has = {"uid_ranges_file": mine}
    assert now({}) == usual
    assert now(has) == mine
    # A part of it has become someone's subordinates: the helper leaves that part out.
    assert now({**has, "ids": {"subordinates": [[80000, 85000]]}}) == mine
    # All of it has, or it no longer exists there: new users get a new range, existing users keep theirs.
    assert now({**has, "ids": {"subordinates": [[80000, 89500]]}}) == [*usual, *mine]
    assert now({**has, "ids": CONTAINER}) == [[20000, 59999], *mine]
    assert now({**has, "ids": {"uids": [[0, 85000]]}}) == [[70000, 85000], *mine]


def test_users_of_another_range_than_the_file_says_stay_ours() -> None:
    # As after a restored backup of /etc.
    has = {
        "uid_ranges_file": [[70000, 99999]],
        "ids": {"ours": [[30000, 30000], [80000, 80001], [USUAL[0], USUAL[0] + 3]]},
    }
    assert now(has) == [[70000, 99999], [30000, 30000], list(USUAL)]
    assert now({"ids": {"ours": [[70003, 70003], [70005, 70005]]}}) == [list(USUAL), [70000, 99999]]


def test_a_node_from_before_there_was_a_choice_keeps_its_users_and_moves_for_new_ones() -> None:
    old = change(prepared(), {"uid_ranges_file": None, "files": {layout.UIDS: None}})
    del old["ledger"]["uids"]
    facts = Facts.from_json(old)
    assert uids.ranges(facts) == [list(USUAL), [70000, 99999]]
    assert [f"{step.kind} {step.name}" for step in plan(facts, DESIRED)] == [
        f"ledger {layout.LEDGER}",
        f"uids {layout.UIDS}",
    ]


@pytest.mark.parametrize("damage", [None, [], "x", [[1]], [["a", 2]]])
def test_a_lost_file_is_written_again_from_the_ledger(damage: Any) -> None:
    node = change(prepared(), {"uid_ranges_file": damage, "ledger": {"uids": [[80000, 89999]]}})
    (step,) = plan(Facts.from_json(node), DESIRED)
    assert (step.kind, step.order["text"]) == ("uids", '{"ranges": [[80000, 89999]]}\n')
