"""Somebody who has only a key, and OpenSSH: no CodeSmith, no account of their own but the login of a user."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.agent.on_node.door_one import PATIENCE_S, generate_key
from tests.agent.on_node.web1 import Web1

ENTER = Path(__file__).resolve().parents[3] / "codesmith/bootstrap/on_node/enter.py"
# What prepare and the helper do for this door. Where they have done it, nothing is left to do here.
OPEN = """
test ! -e /etc/ssh/sshd_config.d/40-codesmith.conf || exit 0
touch /run/by-hand
echo {enter} | base64 -d >/usr/lib/codesmith/enter
chmod 755 /usr/lib/codesmith/enter
groupadd codesmith-logins
mkdir -p /srv/codesmith/keys /srv/codesmith/logins /etc/systemd/system/user@.service.d
chmod 755 /srv/codesmith/keys /srv/codesmith/logins
printf '[Unit]\\nConditionPathExists=!/srv/codesmith/logins/%%i\\n' >/etc/systemd/system/user@.service.d/cs.conf
systemctl daemon-reload
cat >/etc/ssh/sshd_config.d/40-codesmith.conf <<'END'
Match Group codesmith-logins
    ForceCommand /usr/lib/codesmith/enter
    AuthorizedKeysFile /srv/codesmith/keys/%u
    AuthorizedKeysCommand none
    AuthenticationMethods publickey
    PasswordAuthentication no
    DisableForwarding yes
    X11Forwarding no
    PermitUserRC no
    AcceptEnv LANG LC_*
Match all
END
systemctl reload ssh
"""
# As `enter` asks: the door may have answered and closed before all was said.
ASK = """
import json, socket, struct
from contextlib import suppress
body = json.dumps({"protocol": 1, "command": "esc id"}).encode()
door = socket.socket(socket.AF_UNIX)
door.connect("/run/codesmith/door.sock")
with suppress(OSError):
    door.sendall(struct.pack(">I", len(body)) + body)
print(door.recv(1000)[4:].decode())
"""
# A configuration of their own, for the sshd inside.
CONFIG = """
Host site
  User workspace
  ProxyCommand ssh -F {config} node codesmith-dial site
  KnownHostsCommand /usr/bin/ssh -F {config} node codesmith-known-hosts site
  StrictHostKeyChecking yes
  IdentityFile {key}
  IdentitiesOnly yes
  BatchMode yes
  LogLevel ERROR
"""
LET_IN = """
test -e /run/by-hand || exit 0
usermod --groups codesmith-logins --inactive -1 --expiredate '' --password '*' --shell /usr/lib/codesmith/enter {login}
echo '{keys}' >/srv/codesmith/keys/{login}
touch /srv/codesmith/logins/$(id -u {login})
"""


def open_door(web1: Web1) -> None:
    """Have the node's sshd lead into workspaces."""
    web1.on(OPEN.format(enter=base64.b64encode(ENTER.read_bytes()).decode()))


class Colleague:
    """The owner of one key, as the user `name` of a node."""

    def __init__(self, web1: Web1, folder: Path, name: str) -> None:
        self.web1, self.name, self.login = web1, name, f"cs-{name}"
        self.key = generate_key(folder, name)
        self.config, entry = folder / f"{name}.config", web1.person.lab_entry("web1")
        self.known_hosts = web1.person.registry.parent / "known_hosts"
        lines = {
            "HostName": entry["host"], "Port": entry["port"], "User": self.login, "IdentityFile": self.key,
            "IdentitiesOnly": "yes", "IdentityAgent": "none", "BatchMode": "yes", "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts, "LogLevel": "ERROR",
        }  # fmt: skip
        self.config.write_text("Host node\n" + "".join(f"  {key} {value}\n" for key, value in lines.items()))
        self.key_line = self.key.with_suffix(".pub").read_text().strip()

    def let_in(self) -> None:
        """Let the node know the key, once the user is there."""
        self.web1.on(LET_IN.format(login=self.login, keys=self.key_line))

    def argv(self, program: str, *words: str) -> list[str]:
        return [program, "-F", str(self.config), *words]

    def run(
        self, program: str, *words: str, typed: bytes = b"", code: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ssh, scp or sftp; it must end with `code`."""
        done = subprocess.run(self.argv(program, *words), input=typed, capture_output=True, timeout=PATIENCE_S)
        assert code is None or done.returncode == code, (words, done)
        return done

    def ssh(self, *words: str, typed: bytes = b"", code: int | None = 0) -> str:
        """Run a command and return its output."""
        return self.run("ssh", "node", *words, typed=typed, code=code).stdout.decode()

    def own_configuration(self, folder: Path) -> Path:
        """Write a configuration for the sshd inside the workspace `site`, as docs/people-with-a-key.md has it."""
        config = folder / "config"
        config.write_text(CONFIG.format(config=self.config, key=self.key))
        return config

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run ssh in the background, with pipes; killed at the end."""
        pipe = subprocess.PIPE
        with subprocess.Popen(self.argv("ssh", *words), stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def session(self, word: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """Enter with `cat`: what is written comes back."""
        with self.running("node", f"{word} echo up; exec cat".strip()) as process:
            assert process.stdout and process.stdout.readline() == b"up\n", process.stderr and process.stderr.read()
            yield process


class People(NamedTuple):
    """Who enters: esc has a workspace of that name, only one of another name, ann two, and nobody none."""

    esc: Colleague
    only: Colleague
    ann: Colleague
    nobody: Colleague


def meet(web1: Web1, folder: Path) -> People:
    """Make users of them all, with their workspaces, and let them in."""
    open_door(web1)
    found = People(*(Colleague(web1, folder, name) for name in ("esc", "only", "ann", "nobody")))
    create = web1.client.workspace.create
    for one in found[1:]:
        web1.client.user.create(name=one.name, ssh_keys=[one.key_line])
    create(name="esc", ssh_keys=[found.esc.key_line])
    for name, user in (("shop", "only"), ("site", "ann"), ("web", "ann"), ("esc-b", None)):
        create(name=name, user=user)
        web1.client.workspace.start(name=name)
    for one in found:
        one.let_in()
    return found
