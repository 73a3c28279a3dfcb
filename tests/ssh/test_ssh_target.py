"""Where a node is, from nodes.yaml and the ssh configuration of the operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node
from codesmith.ssh import target as targets
from codesmith.ssh.target import resolve


def test_the_operators_ssh_configuration_is_followed(ssh_config: Path, tmp_path: Path) -> None:
    ssh_config.write_text(
        "Host web\n HostName web.example.org\n User ops\n Port 2222\n IdentityFile ~/.ssh/id_%h\n IdentitiesOnly yes\n"
        " ProxyCommand nc -x %r %h %p\n HostKeyAlias alias\n UserKnownHostsFile /a /b\n GlobalKnownHostsFile none\n"
    )
    found = resolve(Node("web1", tmp_path / "nodes.yaml", "web"))
    assert (found.host, found.port, found.user) == ("web.example.org", 2222, "ops")
    assert found.identities == (str(Path("~/.ssh/id_web.example.org").expanduser()),)
    assert found.identities_only
    assert found.proxy_command == "nc -x ops web.example.org 2222"
    assert found.key_name == "alias"
    assert found.known_hosts == (tmp_path / "known_hosts", Path("/a"), Path("/b"))


def test_what_nodes_yaml_says_wins(ssh_config: Path, tmp_path: Path) -> None:
    ssh_config.write_text("Host *\n User other\n Port 2222\n IdentityFile /other\n")
    found = resolve(Node("web1", tmp_path / "nodes.yaml", "web", "ops", 22, "keys/id"))
    assert (found.host, found.port, found.user) == ("web", 22, "ops")
    assert found.identities == (str(tmp_path / "keys/id"), "/other")


def test_a_broken_ssh_configuration_is_named(ssh_config: Path, tmp_path: Path) -> None:
    ssh_config.write_text("Nonsense yes\n")
    with pytest.raises(
        CodeSmithError, match=r"ssh refuses its configuration: .*terminating, 1 bad configuration options"
    ):
        resolve(Node("web1", tmp_path / "nodes.yaml", "web"))


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/x", "a b", "web\n"])
def test_a_host_that_is_an_option_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(CodeSmithError, match=r"is not a host name"):
        resolve(Node("web1", tmp_path / "nodes.yaml", host))


def test_without_ssh_the_configuration_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.shutil, "which", lambda name: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host web\n HostName web.example.org\n User ops\n Port 2222\n")
    found = resolve(Node("web1", tmp_path / "nodes.yaml", "web"))
    assert (found.host, found.port, found.user) == ("web.example.org", 2222, "ops")
    assert found.known_hosts[1] == tmp_path / ".ssh/known_hosts"
