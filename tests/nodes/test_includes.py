"""What nodes.yaml includes: files of its kind, Ansible inventories, programs; and that all of it is only read."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codesmith.errors import BadRegistry, CodeSmithError
from codesmith.fleet import endpoints, entries
from codesmith.nodes import program, writer
from codesmith.nodes.registry import Registry
from codesmith.tunnel import control

INI = """\
# an inventory
lone.example.org ansible_port=2222   # with a comment

[web]
web1 ansible_host=10.0.0.1 ansible_user=ops
web[02:03].example.org

[db]
db_1 ansible_host='db.example.org' codesmith_name=base
  web1 ansible_ssh_private_key_file=keys/web1

[eu:children]
web
db   # those too

[eu:vars]
ansible_user=root
ansible_ssh_private_key_file = "~/.ssh/eu"
http_port=80

[db:vars]
ansible_user=dba

[local]
localhost ansible_connection=local
"""
YAML = """\
all:
  vars: {ansible_user: root, secret: !vault "x", list: [1]}
  hosts:
    lone.example.org: {ansible_port: 2222}
  children:
    web:
      hosts:
        web1: {ansible_host: 10.0.0.1, ansible_user: ops}
        web[02:03].example.org:
    eu:
      vars: {ansible_ssh_private_key_file: keys/eu}
      children:
        web:
        db:
          hosts: {db_1: {codesmith_name: base}}
"""


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A nodes.yaml that includes `more` beside it."""
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CODESMITH_NODES", str(tmp_path / "nodes.yaml"))
    monkeypatch.delenv("CODESMITH_NODE", raising=False)
    path = tmp_path / "nodes.yaml"
    path.write_text("include: more.yaml\nnodes:\n  own: {host: own.example.org}\n")
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def includes(main: Path, *names: str) -> None:
    main.write_text(f"include: [{', '.join(names)}]\nnodes:\n  own: {{host: own.example.org}}\n")


def refused(main: Path, problem: str) -> CodeSmithError:
    with pytest.raises(BadRegistry) as caught:
        Registry.load(main)
    assert problem in caught.value.problem, caught.value.problem
    return caught.value


def test_another_file_adds_its_nodes_with_paths_of_its_own(main: Path) -> None:
    folder = main.parent / "teams"
    folder.mkdir()
    (folder / "red.yaml").write_text(
        "default: red1\ninclude: blue.yaml\nnodes:\n  red1: {host: a, tags: [eu], identity: keys/red}\n"
    )
    (folder / "blue.yaml").write_text("nodes:\n  blue1: {host: b, tags: [us], identity: ~/.ssh/blue}\n")
    main.write_text("default: blue1\ninclude: teams/red.yaml\nnodes:\n  own: {host: c, identity: keys/own}\n")
    registry = Registry.load(main)
    assert list(registry.nodes) == ["own", "red1", "blue1"] and registry.one().name == "blue1"
    assert registry.get("red1").identity_path == folder / "keys" / "red"
    assert registry.get("own").identity_path == main.parent / "keys" / "own"
    assert registry.get("blue1").identity_path == Path("~/.ssh/blue").expanduser()
    assert [node.name for node in registry.choose(tags=["eu"])] == ["red1"]
    assert {node.registry for node in registry.nodes.values()} == {main}
    assert [node.source for node in registry.nodes.values()] == [
        str(main), str(folder / "red.yaml"), str(folder / "blue.yaml"),
    ]  # fmt: skip


def test_a_list_shows_where_each_node_is_from(main: Path) -> None:
    (main.parent / "more.yaml").write_text("nodes: {more1: {host: a}}\n")
    registry = Registry.load(main)
    rows = endpoints.listing(registry)
    assert [row["source"] for row in rows] == [str(main), str(main.parent / "more.yaml")]
    assert [row["source"] for row in endpoints.with_short_sources(rows, registry)] == ["nodes.yaml", "more.yaml"]


@pytest.mark.parametrize(
    ("name", "text"), [("hosts", INI), ("hosts.ini", INI), ("hosts.yml", YAML), ("hosts.yaml", YAML)]
)
def test_an_inventory_adds_its_hosts_with_groups_as_tags(main: Path, name: str, text: str) -> None:
    (main.parent / name).write_text(text)
    includes(main, name)
    nodes = Registry.load(main).nodes
    assert set(nodes) == {"own", "lone-example-org", "web1", "web02-example-org", "web03-example-org", "base"}
    assert (nodes["lone-example-org"].host, nodes["lone-example-org"].port) == ("lone.example.org", 2222)
    assert nodes["web02-example-org"].host == "web02.example.org"
    assert {"eu", "web"} <= set(nodes["web1"].tags) <= {"db", "eu", "web"}
    assert nodes["lone-example-org"].tags == () and sorted(nodes["base"].tags) == ["db", "eu"]
    assert nodes["web1"].user == "ops" and nodes["web02-example-org"].user == "root"


def test_variables_of_an_inventory_count_as_for_ansible(main: Path) -> None:
    (main.parent / "hosts").write_text(INI)
    includes(main, "hosts")
    nodes = Registry.load(main).nodes
    assert (nodes["base"].host, nodes["base"].user) == ("db.example.org", "dba")  # a child's before its parent's
    assert nodes["web1"].identity_path == main.parent / "keys" / "web1"  # a host's before a group's
    assert nodes["web02-example-org"].identity_path == Path("~/.ssh/eu").expanduser()


def test_a_long_name_of_a_host_is_cut_to_its_first_label(main: Path) -> None:
    (main.parent / "hosts").write_text("db-primary.eu-west-1.compute.example.org\n")
    includes(main, "hosts")
    assert Registry.load(main).get("db-primary").host == "db-primary.eu-west-1.compute.example.org"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("hosts", "[web]\nweb1 ansible_port=http\n", "hosts:2: web1.ansible_port: 'http'; expected a whole number"),
        ("hosts", "a ansible_host='{{ ip }}'\n", "hosts:1: a.ansible_host: '{{ ip }}'; expected a value: templates"),
        ("hosts", "web1 'open\n", "hosts:1: ungrouped: No closing quotation; expected a host and variables"),
        ("hosts", "web1 loose\n", "hosts:1: ungrouped: 'loose'; expected a variable, as ansible_host=10.0.0.1"),
        ("hosts", "[web:odd]\na\n", "hosts:2: web:odd: no such kind of section: 'odd'; expected children or vars"),
        ("hosts", "web[1:x]\n", "hosts:1: web[1:x]: no range: [1:x]; expected a range"),
        ("hosts", "web[9:1]\n", "hosts:1: web[9:1]: 0 hosts: [9:1]; expected 1 to 10000"),
        ("hosts", f"{'a' * 40}\n", "cannot be a node's name; expected a name of 1 to 28 of a-z, 0-9 and -: set the"),
        ("hosts", "a.b\na_b\n", "hosts:2: a_b: it is node a-b, as is the host on line 1"),
        ("hosts", "[a:children]\nb\n[b:children]\na\n[b]\nx\n", "groups that are children of each other in a circle"),
        ("hosts.yml", "all:\n  hosts:\n    a: {ansible_host: [1]}\n", "hosts.yml:3: all.hosts.a.ansible_host: a list"),
        ("hosts.yml", "all:\n  hosts:\n    a: {ansible_host: '{{ ip }}'}\n", "a value: templates are not evaluated"),
        ("hosts.yml", "all:\n  hosts:\n    a: {ansible_user: 'a b'}\n", "a.ansible_user: 'a b'; expected a login name"),
        ("more.yaml", "nodes:\n  a: {hots: x}\n", "more.yaml:2: nodes.a.hots: no such key, did you mean `host`?"),
    ],
)
def test_a_mistake_in_an_included_file_names_that_file(main: Path, name: str, text: str, problem: str) -> None:
    (main.parent / name).write_text(text)
    includes(main, name)
    refused(main, problem)


def test_a_program_prints_nodes(main: Path) -> None:
    path = script(main.parent / "cloud", 'echo "nodes: {cloud1: {host: $(basename "$PWD"), identity: key}}"')
    includes(main, "cloud")
    registry = Registry.load(main)
    assert (registry.get("cloud1").host, registry.get("cloud1").source) == (main.parent.name, str(path))
    assert registry.get("cloud1").identity_path == main.parent / "key"


def test_a_program_runs_once_a_command_and_its_last_words_are_kept(main: Path) -> None:
    script(main.parent / "cloud", 'echo run >>runs; echo "nodes: {cloud1: {host: a}}"')
    includes(main, "cloud")
    assert list(Registry.load(main, runs_programs=False).nodes) == ["own"]
    assert not (main.parent / "runs").exists()
    for _ in range(3):
        assert list(Registry.load(main).nodes) == ["own", "cloud1"]
    assert (main.parent / "runs").read_text() == "run\n"
    assert list(Registry.load(main, runs_programs=False).nodes) == ["own", "cloud1"]
    kept = program.kept_file(main.parent / "cloud")
    assert stat.S_IMODE(kept.stat().st_mode) & 0o077 == 0 or stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_a_program_that_fails_is_told_with_what_it_said(main: Path) -> None:
    script(main.parent / "cloud", "echo 'no token' >&2; exit 7")
    includes(main, "cloud")
    error = refused(main, f"the program {main.parent}/cloud, which nodes.yaml includes, has ended with exit code 7:")
    assert error.problem.endswith("\n  no token") and error.hint == str(main.parent / "cloud")
    script(main.parent / "words", "echo hello")
    includes(main, "words")
    refused(main, f"{main.parent}/words:1: 'hello'; expected a mapping with `nodes:`")
    (main.parent / "more.yaml").write_text("nodes: {}\n")
    (main.parent / "more.yaml").chmod(0o755)
    includes(main, "more.yaml")
    assert "chmod -x" in refused(main, "more.yaml, which nodes.yaml includes, cannot be run: Exec format error").hint
    script(main.parent / "silent", ":")
    includes(main, "silent")
    assert list(Registry.load(main).nodes) == ["own"]


@pytest.mark.slow
def test_a_program_that_hangs_is_ended_with_all_it_started(main: Path) -> None:
    path = script(main.parent / "cloud", "echo begun >&2; sleep 600 & echo $! >pid; wait")
    with pytest.raises(BadRegistry, match=r"gave no answer within 0\.5 s:\n  begun"):
        program.output(path, timeout_s=0.5)
    pid = int((main.parent / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < deadline


def test_a_name_that_is_there_twice_is_an_error_that_names_both_places(main: Path) -> None:
    (main.parent / "more.yaml").write_text("nodes:\n\n  own: {host: a}\n")
    error = refused(main, f"more.yaml:3: nodes.own: {main}:3 has a node of this name too; expected each name once")
    assert "+3 " in error.hint
    (main.parent / "more.yaml").write_text("nodes:\n  b: {host: a, endpoint: tcp:7001}\n")
    main.write_text("include: [more.yaml]\nnodes:\n  a: {host: a, endpoint: tcp:7001}\n")
    refused(main, f"nodes.b.endpoint: tcp:7001 is the endpoint of a already, in {main}:3; expected a port of its own")


def test_a_circle_is_an_error_that_names_it(main: Path) -> None:
    more = main.parent / "more.yaml"
    more.write_text("include: nodes.yaml\nnodes: {}\n")
    refused(
        main, f"more.yaml:1: include: a circle: {main} -> {more} -> {main}; expected a file that does not lead back"
    )
    main.write_text("include: nodes.yaml\n")
    refused(main, f"nodes.yaml:1: include: a circle: {main} -> {main}")


def test_what_cannot_be_included_is_told_with_the_line(main: Path) -> None:
    refused(
        main, f"nodes.yaml:1: include: cannot read {main.parent}/more.yaml: No such file or directory; expected a fi"
    )
    (main.parent / "more.yaml").mkdir()
    refused(main, f"nodes.yaml:1: include: {main.parent}/more.yaml is no file")
    script(main.parent / "cloud", "echo nodes:").chmod(0o757)
    includes(main, "cloud")
    refused(main, "is a program that everybody may change; expected a file that you or root own")
    main.write_text("include: {a: b}\n")
    refused(main, "nodes.yaml:1: include: a mapping; expected a file or a list of files")
    main.write_text("default: x\ninclude: []\nnodes: {a: {host: b}}\n")
    refused(main, "nodes.yaml:1: default: no node is named 'x'")
    (main.parent / "other.yaml").write_text("nodes: {b: {host: c}}\n")
    main.write_text("include: [other.yaml]\ndefault: x\nnodes: {a: {host: b}}\n")
    refused(main, "nodes.yaml:2: default: no node is named 'x' (nodes here and in what it includes: a, b)")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_not_included(main: Path) -> None:
    (main.parent / "more.yaml").write_text("nodes: {}\n")
    os.chown(main.parent / "more.yaml", 1234, 1234)
    refused(main, "more.yaml belongs to another user")


def test_nodes_of_an_included_file_are_only_read(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "disconnect", lambda _: pytest.fail("its endpoint was closed"))
    more = main.parent / "more.yaml"
    more.write_text("nodes:\n  more1: {host: a, endpoint: tcp:7001}\n")
    before = main.read_text(), more.read_text()
    for change in (lambda: entries.remove(str(main), "more1", yes=False), lambda: writer.remove(main, "more1")):
        with pytest.raises(CodeSmithError) as caught:
            change()
        assert caught.value.problem == f"more1 is in {more}:2, which {main} includes and nothing here changes"
        assert caught.value.hint.endswith(f"+2 {more}")
    with pytest.raises(CodeSmithError, match=r"there is a node 'more1' already, in .*more\.yaml:2, which .* includes"):
        writer.add(main, "more1", {"host": "b"})
    with pytest.raises(BadRegistry, match="tcp:7001 is the endpoint of own2 already"):
        writer.add(main, "own2", {"host": "b", "endpoint": "tcp:7001"})
    assert (main.read_text(), more.read_text()) == before
    writer.add(main, "own2", {"host": "b"})
    writer.remove(main, "own")
    assert list(Registry.load(main).nodes) == ["own2", "more1"]


@pytest.mark.slow
def test_node_list_has_the_file_of_each_node(main: Path) -> None:
    (main.parent / "hosts.ini").write_text("[eu]\nweb1 ansible_host=10.0.0.1\n")
    includes(main, "hosts.ini")
    argv = [sys.executable, "-m", "codesmith", "node.list"]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [(line.split("\t")[0], *line.split("\t")[-2:]) for line in lines] == [
        ("own", "", "nodes.yaml"), ("web1", "eu", "hosts.ini"),
    ]  # fmt: skip
    rows = json.loads(subprocess.run([*argv, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [row["source"] for row in rows] == [str(main), str(main.parent / "hosts.ini")]
