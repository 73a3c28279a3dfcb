"""Releases of other versions, for upgrades and rollbacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from codesmith.bootstrap import layout, zipapp
from codesmith.bootstrap import pack as packing
from codesmith.lab import LabNode
from tests.bootstrap.node_side import sh

Ship = Callable[..., None]


@pytest.fixture
def ship(agent_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Make prepare install this version, with `old` replaced by `new` in a file of it, and with these unit lines."""
    desired_for = layout.desired_for

    def change(version: str, old: str = "", new: str = "", file: str = "main.py", **unit_lines: str) -> None:
        agent = Path(shutil.copytree(agent_copy, tmp_path / version / "agent", dirs_exist_ok=True))
        here = zipapp.version(agent)
        for name, pair in (("__init__.py", (here, version)), (file, (old, new))):
            text = (agent / name).read_text()
            assert pair[0] in text
            (agent / name).write_text(text.replace(*pair) if pair[0] else text)
        payload = packing.pack_into(agent, tmp_path / version / "agent.pyz")

        def changed(payload: packing.Payload, node_id: str, git_hosts: Sequence[str] = ()) -> layout.Desired:
            desired = desired_for(payload, node_id, git_hosts)
            lines = {
                name: unit_lines.get(name.replace("codesmith-", "").replace(".", "_"), "") for name in layout.UNITS
            }
            return replace(desired, units={name: text + lines[name] for name, text in desired.units.items()})

        monkeypatch.setattr(packing, "pack", lambda: payload)
        monkeypatch.setattr(layout, "desired_for", changed)

    return change


def links(node: LabNode) -> dict[str, str]:
    """Return the agent's version at each of current, previous and fallback."""
    look = "[ ! -L {0} ] || python3 -I {0}/agent.pyz version"
    said = {
        path.rpartition("/")[2]: sh(node, look.format(path))
        for path in (layout.CURRENT, layout.PREVIOUS, layout.FALLBACK)
    }
    return {name: json.loads(text)["agent"] for name, text in said.items() if text}
