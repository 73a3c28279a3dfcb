"""The proxy that git reaches a URL by: it looks a host up once, and never connects to the node itself.

A runtime without the whole network has it outside, in mode `open`. With the whole network it runs beside git, for as
long as git does: so what is looked up, where a redirect leads and what a release of git can do are the same in all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from agent import connect
from agent.shared.egress_paths import BEHIND
from agent.shared.paths import JOB_MARK, JOB_PATH

UPSTREAM = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
UNRESOLVED = ("does not resolve", "is not resolved", "has no address")
PROXIES_OF_SSH = (b"proxycommand", b"proxyjump")
# systemd passes a listening socket as this descriptor.
LISTENING = 3
# LISTEN_PID is the pid of the program itself.
AS_SYSTEMD = 'LISTEN_PID=$$ exec "$@"'


class Refused(Exception):
    """The proxy refuses this host, for the reason that its text says."""


class WayOut(NamedTuple):
    """The host of a URL, the port of the proxy that leads there, and the variables by which git over https takes it."""

    host: str
    port: int
    proxy_port: int
    variables: Mapping[str, str] = {}
    is_https: bool = False

    def ssh_options(self, ssh: Sequence[str]) -> List[str]:
        """Return the options by which ssh takes the proxy, unless the node's configuration has another way there."""
        if shutil.which("ssh", path=JOB_PATH) is None:
            return []
        words = [*ssh, "-G", "--", self.host]
        done = subprocess.run(words, env={"PATH": JOB_PATH}, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        pairs = [line.split(b" ", 1) for line in done.stdout.splitlines()]
        if any(pair[0] in PROXIES_OF_SSH and pair[1:] != [b"none"] for pair in pairs):
            return []
        program = f"{sys.executable} -I -S {_release()} connect %h %p {self.proxy_port}"
        return ["-o", f"ProxyCommand={program}", "-o", "ProxyUseFdpass=yes"]

    def check_refused(self) -> None:
        """Raise Refused if the proxy does not connect to the host; git itself does not show what the proxy says."""
        try:
            reason = connect.refusal(self.host, self.port, self.proxy_port)
        except (OSError, ValueError):
            return
        if reason:
            raise Refused(reason)

    def why_unreached(self) -> str:
        """Return why the proxy does not get to the host, in the words of git or ssh without a proxy; "" if it does."""
        try:
            reason = connect.unreached(self.host, self.port, self.proxy_port).partition("\n")[0]
        except (OSError, ValueError):
            return ""
        if not reason:
            return ""
        if any(words in reason for words in UNRESOLVED):
            what = (
                "fatal: unable to access 'https://{0}/': Could not resolve host: {0}"
                if self.is_https
                else "ssh: Could not resolve hostname {0}"
            )
            return what.format(self.host)
        why = "Connection timed out" if "does not answer" in reason else reason.rpartition(": ")[2]
        what = (
            "fatal: unable to access 'https://{0}:{1}/': Failed to connect to {0} port {1}: {2}"
            if self.is_https
            else "ssh: connect to host {0} port {1}: {2}"
        )
        return what.format(self.host, self.port, why)


@contextlib.contextmanager
def opened(url: str, git_hosts: Sequence[str] = ()) -> Iterator[WayOut]:
    """Yield the way to the host of a URL. `git_hosts` may be reached although they are on the node itself.

    Behind a proxy of the node git over https takes that one, which looks hosts up itself.
    """
    split = urlsplit(url if "://" in url else "ssh://" + url.replace(":", "/", 1))
    is_https = split.scheme == "https"
    host, port = split.hostname or "", split.port or (443 if is_https else 22)
    behind = os.environ.get(BEHIND)
    with contextlib.ExitStack() as held:
        proxy_port = int(behind.rpartition(":")[2]) if behind else held.enter_context(_proxy(git_hosts))
        has_upstream = not behind and any(os.environ.get(name) for name in UPSTREAM)
        way = WayOut(host, port, proxy_port, {} if has_upstream else _variables(proxy_port), is_https)
        if has_upstream and is_https:
            way.check_refused()
        yield way


def _variables(port: int) -> Dict[str, str]:
    """Return the variables of the proxy; no host goes past it."""
    values = {"https_proxy": f"http://127.0.0.1:{port}", "http_proxy": f"http://127.0.0.1:{port}", "no_proxy": ""}
    return {spelling: value for name, value in values.items() for spelling in (name, name.upper())}


@contextlib.contextmanager
def _proxy(git_hosts: Sequence[str]) -> Iterator[int]:
    """Run the proxy in mode `open` beside git, and yield its port."""
    folder = tempfile.mkdtemp(prefix="codesmith-")  # 0700; a runtime has its own /tmp
    pid: Optional[int] = None
    try:
        with open(f"{folder}/policy.json", "w", encoding="utf-8") as file:
            workspace = os.environ.get("CODESMITH_WORKSPACE", "")
            allow = list(git_hosts)
            json.dump({"workspace": workspace, "mode": "open", "allow": allow, "deny": [], "hint": ""}, file)
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
            pid = _spawn(listening, folder)
            port = listening.getsockname()[1]
        yield port
    finally:
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        shutil.rmtree(folder, ignore_errors=True)


def _spawn(listening: socket.socket, folder: str) -> int:
    environment = {"PATH": JOB_PATH, "LC_ALL": "C.UTF-8", "LISTEN_FDS": "1", "RUNTIME_DIRECTORY": folder}
    environment.update({name: os.environ[name] for name in (JOB_MARK,) if name in os.environ})
    program = (sys.executable, "-I", "-S", _release(), "egress", folder)
    words: Tuple[str, ...] = ("/bin/sh", "-c", AS_SYSTEMD, "sh", *program)
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    actions = [(os.POSIX_SPAWN_DUP2, listening.fileno(), LISTENING), *quiet]
    return os.posix_spawn(words[0], words, environment, file_actions=actions)


def _release() -> str:
    return os.path.realpath(sys.path[0])
