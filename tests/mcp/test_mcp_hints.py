"""Hints of the node in answers to an agent, which has tools and no command line of the operator's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codesmith.mcp.tools import Toolbox

CONTRACT = json.loads((Path(__file__).parents[2] / "agent" / "openrpc.json").read_text())


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("", ""),
        ("take another name", "take another name"),
        ("inv file.list demo", "use the tool file_list"),
        ("inv job.list demo", "use the tool job_list"),
        ("inv user.enable ann", "a command for the operator: codesmith user.enable ann"),
        ("inv workspace.stop demo, then inv job.list demo",
         "a command for the operator: codesmith workspace.stop demo, then codesmith job.list demo"),
    ],
)  # fmt: skip
def test_a_hint_names_the_tool_or_who_has_the_command(hint: str, shown: str) -> None:
    assert Toolbox(CONTRACT, read_only=False).hint(hint) == shown


def test_a_tool_that_is_not_offered_is_not_named() -> None:
    assert Toolbox(CONTRACT, read_only=True).hint("inv file.write demo a").startswith("a command for the operator")
