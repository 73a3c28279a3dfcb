"""cargo behind a list, in an image that has it: nearly two gigabytes, so it is not among the tools of every run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.agent.on_node import tools
from tests.agent.on_node.internet import Internet
from tests.person import Person

# The first time the image is built. Debian 12's cargo knows no sparse registries.
pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(900)]
LISTED, OTHER = "cargo.test", "other.test"


def test_cargo_builds_with_a_crate_of_a_listed_host_and_of_no_other(
    make_internet: Callable[..., tuple[Person, Internet]],
) -> None:
    person, internet = make_internet("trixie", packages=tools.CARGO_PACKAGES)
    person.runs(f"inv workspace.create demo --node web1 && inv sandbox.create demo --allow {LISTED} --node web1")

    def builds(host: str) -> str:
        command = "inv workspace.exec demo --node web1 -- bash -s"
        return person.runs(command, typed=tools.script(tools.CARGO, host), check=False).out.strip()

    assert builds(LISTED) == tools.wanted(tools.CARGO, LISTED)
    assert (builds(OTHER), f"https {OTHER} GET" in "".join(internet.asked())) == ("", False)
    denied = person.runs("inv sandbox.get demo --node web1 --json").json["denied"]
    assert [(one["host"], one["port"]) for one in denied] == [(OTHER, 443)]
