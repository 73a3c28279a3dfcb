"""Reading nodes.yaml: what is accepted, what is refused, and which node a command means."""

from __future__ import annotations

import json
import os
import tempfile
from operator import itemgetter
from pathlib import Path

import pytest
import yaml

from codesmith import paths
from codesmith.errors import BadRegistry, CodeSmithError, UnknownName, UnknownNode
from codesmith.nodes.registry import Node, Registry

CASES = yaml.safe_load((Path(__file__).parent / "bad_files.yaml").read_text())
GOOD = """\
default: web2
nodes:
  web1:
    host: web1.example.org
    user: ops
    port: 2222
    identity: ~/.ssh/id_web
    tags: [eu, test]
    labels: {rack: r7}
    ssh: openssh
    endpoint: tcp:7001
  web2: {host: 10.0.0.1, ssh: fabric}
  on: {host: "fe80::1%eth0"}
  lab1:
    lab: trixie
    bridge: club
    ssh: openssh
    tags: [test]
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.delenv("CODESMITH_NODE", raising=False)
    monkeypatch.setenv("CODESMITH_NODES", str(tmp_path / "nodes.yaml"))

    def write(text: str | bytes) -> Path:
        path = tmp_path / "nodes.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize("case", CASES, ids=itemgetter("case"))
def test_a_bad_file_is_answered_with_file_line_key_and_what_is_expected(case, write):
    path = write(case["text"])
    with pytest.raises(BadRegistry) as caught:
        Registry.load()
    assert caught.value.problem.startswith(f"{path}:{case['says']}")
    assert f"+{case['says'].partition(':')[0]} " in caught.value.hint


@pytest.mark.parametrize("user", ["ops@corp.example", "CORP\\ops", "corp+ops", "o.p-s_1"])
def test_a_login_of_a_domain_is_a_user(write, user):
    write(f"nodes:\n  web1: {{host: web1.example.org, user: '{user}'}}\n")
    assert Registry.load().get("web1").user == user


@pytest.mark.parametrize("user", ["@corp", "-oProxyCommand=x", "ops\\", "\\ops", "a;b", "a`b", "a$b", "a(b)", "a|b"])
def test_what_ssh_takes_for_no_login_is_no_user(write, user):
    write(f"nodes:\n  web1: {{host: web1.example.org, user: '{user}'}}\n")
    with pytest.raises(BadRegistry, match="a login name"):
        Registry.load()


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(write):
    path = write(b"nodes:\n  web1:\n    host: caf\xe9\n")
    with pytest.raises(BadRegistry, match=f"{path}:3: not UTF-8"):
        Registry.load()


def test_a_file_that_is_not_there_is_answered_with_how_to_make_it(tmp_path):
    with pytest.raises(BadRegistry) as caught:
        Registry.load(tmp_path / "none.yaml")
    assert caught.value.hint == f"inv node.add NAME --host HOST --file {tmp_path}/none.yaml"


def test_a_file_of_another_user_is_not_found_by_chance(tmp_path, monkeypatch):
    (tmp_path / "nodes.yaml").write_text("nodes:\n  evil: {host: evil.example.org}\n")
    os.chown(tmp_path / "nodes.yaml", 65534, 65534)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.delenv("CODESMITH_NODES", raising=False)
    with pytest.raises(BadRegistry, match="belongs to another user"):
        paths.nodes_file()
    assert paths.nodes_file(str(tmp_path / "nodes.yaml")) == tmp_path / "nodes.yaml"


def test_the_state_directory_is_codesmith_home_else_that_of_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CODESMITH_HOME", raising=False)
    for word, folder in (("", ".local/state"), ("relative", ".local/state"), (str(tmp_path / "xdg"), "xdg")):
        monkeypatch.setenv("XDG_STATE_HOME", word)
        assert paths.state_place() == tmp_path / folder / "codesmith"
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "mine"))
    assert paths.state_dir() == tmp_path / "mine"
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700


def test_a_runtime_directory_that_is_not_ours_is_left_to_its_owner(monkeypatch):
    """After `su` the variable names another user's directory; a relative path differs between processes."""
    monkeypatch.delenv("CODESMITH_HOME", raising=False)
    fallback = Path(f"/tmp/codesmith-{os.getuid()}")
    with tempfile.TemporaryDirectory(prefix="cs-") as ours, tempfile.TemporaryDirectory(prefix="cs-") as other:
        os.chown(other, 4711, -1)
        for place in ("/nonexistent", "relative", "/" + "x" * 70, "", other):
            monkeypatch.setenv("XDG_RUNTIME_DIR", place)
            assert paths.runtime_place() == fallback, place
        monkeypatch.setenv("XDG_RUNTIME_DIR", ours)
        assert paths.runtime_place() == Path(ours, "codesmith")


def test_everything_a_person_may_write_is_read(write):
    path = write(GOOD)
    registry = Registry.load()
    assert list(registry.nodes) == ["web1", "web2", "on", "lab1"]
    web1 = registry.get("web1")
    assert web1 == Node(
        name="web1",
        registry=path,
        host="web1.example.org",
        user="ops",
        port=2222,
        identity="~/.ssh/id_web",
        tags=("eu", "test"),
        labels=(("rack", "r7"),),
        endpoint="tcp:7001",
        ssh="openssh",
    )
    assert web1.identity_path == Path.home() / ".ssh" / "id_web"
    assert registry.get("lab1").lab == "trixie"
    assert registry.get("lab1").known_hosts == path.parent / "known_hosts"


def test_a_file_with_a_byte_order_mark_is_read(write):
    write(b"\xef\xbb\xbf" + GOOD.encode())
    assert Registry.load().default == "web2"


def test_a_registry_without_nodes_is_a_registry(write):
    write("nodes:\n")
    assert Registry.load().nodes == {}
    with pytest.raises(CodeSmithError, match="no nodes in"):
        Registry.load().one()


def test_a_relative_identity_counts_from_the_registry(write):
    path = write("nodes: {a: {host: x, identity: keys/a}}\n")
    assert Registry.load().get("a").identity_path == path.parent / "keys" / "a"


def test_the_key_of_a_node_changes_with_every_connection_field_and_with_nothing_else(write, tmp_path):
    base = Node("a", tmp_path / "nodes.yaml", host="x")
    variants = [
        Node("b", tmp_path / "nodes.yaml", host="x"),
        Node("a", tmp_path / "other.yaml", host="x"),
        Node("a", tmp_path / "nodes.yaml", host="y"),
        Node("a", tmp_path / "nodes.yaml", host="x", user="u"),
        Node("a", tmp_path / "nodes.yaml", host="x", port=22),
        Node("a", tmp_path / "nodes.yaml", host="x", identity="k"),
        Node("a", tmp_path / "nodes.yaml", host="x", endpoint="tcp:1"),
        Node("a", tmp_path / "nodes.yaml", host="x", ssh="openssh"),
        Node("a", tmp_path / "nodes.yaml", lab="trixie"),
    ]
    assert len({node.key for node in [base, *variants]}) == 10
    assert Node("a", tmp_path / "nodes.yaml", host="x", tags=("t",), labels=(("k", "v"),)).key == base.key
    assert Node("a", tmp_path / "nodes.yaml", lab="trixie", bridge="b").key == variants[-1].key
    assert len(base.key) == 16


def test_a_node_survives_the_way_through_json(write):
    write(GOOD)
    for node in Registry.load().nodes.values():
        assert Node.from_dict(json.loads(json.dumps(node.to_dict()))) == node


def test_a_node_is_chosen_by_name_then_environment_then_default_then_being_the_only_one(write, monkeypatch):
    write(GOOD)
    registry = Registry.load()
    assert registry.one("web1").name == "web1"
    assert registry.one().name == "web2"
    monkeypatch.setenv("CODESMITH_NODE", "lab1")
    assert registry.one().name == "lab1"
    assert registry.one("web1").name == "web1"
    monkeypatch.delenv("CODESMITH_NODE")
    write("nodes: {only: {host: x}}\n")
    assert Registry.load().one().name == "only"


def test_several_nodes_without_a_default_need_a_choice(write):
    write("nodes: {a: {host: x}, b: {host: y}}\n")
    with pytest.raises(CodeSmithError, match=r"which node\? .* has 2: a, b") as caught:
        Registry.load().one()
    assert caught.value.hint == "name one: --node a"


def test_names_and_tags_add_up_and_all_means_all(write):
    write(GOOD)
    registry = Registry.load()

    def names(*args, **kwargs):
        return [node.name for node in registry.choose(*args, **kwargs)]

    assert names(["web2", "web1", "web2"]) == ["web2", "web1"]
    assert names([], ["test"]) == ["web1", "lab1"]
    assert names(["web2"], ["eu", "test"]) == ["web2", "web1", "lab1"]
    assert names(all=True) == ["web1", "web2", "on", "lab1"]
    assert names() == ["web2"]


def test_an_unknown_name_or_tag_has_exit_code_3_and_names_what_there_is(write):
    write(GOOD)
    with pytest.raises(UnknownNode, match=r"no node 'web3' .*known: web1, web2, on, lab1") as caught:
        Registry.load().get("web3")
    assert caught.value.code == 3
    with pytest.raises(UnknownName, match=r"no node .* has the tag 'us' .tags there: eu, test.") as caught:
        Registry.load().choose(tags=["us"])
    assert caught.value.code == 3


def test_of_hundreds_of_nodes_an_error_names_the_likely_ones(write):
    write("nodes:\n" + "".join(f"  web{number}: {{host: x}}\n" for number in range(300)))
    with pytest.raises(UnknownNode) as caught:
        Registry.load().get("web77x")
    assert "web77" in caught.value.problem
    assert "and 292 more" in caught.value.problem


@pytest.mark.parametrize(
    "host", ["git.example.org", "*.example.org:8443", "10.0.0.0/8:*", "fd00::7", "[fd00::/8]:22", "GIT.local"]
)
def test_a_node_may_name_hosts_for_git(tmp_path: Path, host: str) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(f"nodes:\n  a:\n    host: x\n    git_hosts: ['{host}', '{host}']\n")
    if host == "[fd00::/8]:22":  # the bits stand behind the bracket
        with pytest.raises(BadRegistry):
            Registry.load(path)
        return
    node = Registry.load(path).get("a")
    assert node.git_hosts == (host.lower(),)
    assert Node.from_dict(node.to_dict()) == node
