"""On every release systemd understands the units, and they are as strict as SPECIFICATIONS.md promises."""

from __future__ import annotations

import re

import pytest

from codesmith.bootstrap import layout
from codesmith.bootstrap.prepare import prepare
from codesmith.lab import LabNode
from codesmith.nodes.registry import Node
from tests.releases import BOOKWORM_FIRST

pytestmark = BOOKWORM_FIRST

EXPOSURE_MAX = {layout.AGENT_SERVICE: 1.0, layout.HELPER_SERVICE: 3.0}


@pytest.fixture(scope="module")
def prepared(any_node: LabNode, tmp_path_factory: pytest.TempPathFactory) -> LabNode:
    """The node of this module, prepared."""
    prepare(Node(any_node.name, tmp_path_factory.mktemp("operator") / "nodes.yaml", lab=any_node.release))
    return any_node


def sh(node: LabNode, script: str) -> str:
    return node.run(["/bin/sh", "-euc", script]).stdout.strip()


@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_exposure(prepared: LabNode, unit: str) -> None:
    said = sh(prepared, f"systemd-analyze security --no-pager {unit} | tail -n 1")
    found = re.search(r"exposure level for [\w.-]+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE_MAX[unit]


def test_systemd_understands_every_line(prepared: LabNode) -> None:
    said = sh(
        prepared, f"systemd-analyze verify {' '.join(f'{layout.UNIT_DIR}/{u}' for u in layout.UNITS)} 2>&1 || true"
    )
    ours = [line for line in said.splitlines() if "codesmith" in line]
    if prepared.release == "bullseye":
        ours = [line for line in ours if "Unknown key name" not in line]
    assert ours == []


def test_the_sockets_are_for_whom_they_should_be(prepared: LabNode) -> None:
    for entry in layout.SOCKETS.values():
        assert sh(prepared, f"stat -c '0%a %U:%G' {entry.path}") == f"{entry.mode:04o} {entry.owner}:{entry.group}"


def test_the_agent_has_no_power_and_cannot_change_its_code(prepared: LabNode) -> None:
    pid = sh(prepared, f"systemctl show -P MainPID {layout.AGENT_SERVICE}".replace("-P ", "--value -p "))
    status = sh(prepared, f"cat /proc/{pid}/status")
    assert re.search(r"CapBnd:\s+0{16}", status)
    assert re.search(r"NoNewPrivs:\s+1", status)
    program = layout.program_of(layout.CURRENT)
    for path in (layout.CODE, program, f"{program}/agent/main.py", layout.CONFIG, "/srv/codesmith/workspaces"):
        tried = prepared.run(
            ["setpriv", "--reuid=codesmith", "--regid=codesmith", "--clear-groups", "test", "-w", path], check=False
        )
        assert tried.status == 1, path


def test_root_goes_when_it_has_nothing_to_do(prepared: LabNode) -> None:
    assert sh(prepared, f"systemctl is-active {layout.HELPER_SOCKET}") == "active"
    assert sh(prepared, f"systemctl is-active {layout.HELPER_SERVICE} || true") == "inactive"
