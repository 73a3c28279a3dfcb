"""Nodes are added to nodes.yaml and removed, by real `inv` processes."""

from __future__ import annotations

import json

import pytest

from codesmith.nodes.registry import Node
from codesmith.ssh import connect
from codesmith.ssh.target import resolve

pytestmark = pytest.mark.slow


def test_a_node_is_added_shown_and_removed(place):
    place.write("nodes:\n  web1: {host: web1.invalid}  # ours\n")
    added = place.inv("node.add", "db1", "--host", "db1.invalid", "--port", "2222", "--tag", "eu", "--label", "a=b")
    assert (added.returncode, added.stderr) == (0, "")
    assert "# ours\n" in place.nodes.read_text()
    assert [row["name"] for row in json.loads(place.inv("node.list", "--json").stdout)] == ["web1", "db1"]
    assert json.loads(place.inv("node.remove", "db1", "--yes", "--json").stdout)["removed"] is True
    assert place.nodes.read_text() == "nodes:\n  web1: {host: web1.invalid}  # ours\n"


def test_what_was_remembered_of_the_way_to_a_node_goes_with_it(place):
    place.write("nodes:\n  web1: {host: web1.invalid}\n")
    stays, goes = (resolve(Node(name, place.nodes, f"{name}.invalid")) for name in ("web2", "web1"))
    for target in (stays, goes):
        connect.remember(target, "no common algorithm")
    assert place.inv("node.remove", "web1", "--yes").returncode == 0
    assert [connect.recall(target) for target in (stays, goes)] == ["no common algorithm", ""]


def test_a_lab_node_that_is_gone_can_be_removed(place):
    place.write("nodes:\n  web1: {lab: bookworm}\n")
    assert place.inv("node.remove", "web1", "--yes").returncode == 0
