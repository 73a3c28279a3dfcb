"""sshd inside the runtime: one `sshd -i` for each stream, which accepts the keys of who opened it: mostly one.

It runs as the workspace's login and has no more rights than any command of the workspace, so neither has anybody who
comes in by it. Host key and configuration are the login's too: changing them harms only the login.
"""

from __future__ import annotations

import hashlib
import os
import pwd
from typing import Dict, List, Mapping

from agent.shared.errors import CommandFailed, InvalidParams, Unsupported
from agent.shared.names import WORKSPACE_USER
from agent.shared.sshkeys import parse_key
from agent.supervisor.start import DEFAULT_SIGNALS

SSHD, KEYGEN = "/usr/sbin/sshd", "/usr/bin/ssh-keygen"
TMP = "/tmp"
# Channels over one connection: editors and shared connections open many.
SESSIONS_MAX = 1024
OPTIONS = (
    "UsePAM=no", "PidFile=none", "StrictModes=no",
    # A token or the door has opened the stream. The key proves that the same person uses it.
    "AuthenticationMethods=publickey", "PasswordAuthentication=no", "PermitEmptyPasswords=no",
    "HostbasedAuthentication=no", "AuthorizedKeysCommand=none", "AuthorizedPrincipalsFile=none",
    "TrustedUserCAKeys=none",
    "PermitUserRC=no", "PermitUserEnvironment=no", "AcceptEnv=LANG LC_* COLORTERM",
    "Subsystem=sftp internal-sftp", f"MaxSessions={SESSIONS_MAX}",
    "AllowTcpForwarding=yes", "AllowStreamLocalForwarding=yes", "AllowAgentForwarding=yes",
    "GatewayPorts=no", "PermitTunnel=no", "X11Forwarding=no",
    "PrintMotd=no", "PrintLastLog=no", "UseDNS=no", "LogLevel=ERROR",
    # A client that vanished must not keep the runtime from ending.
    "LoginGraceTime=60", "ClientAliveInterval=60", "ClientAliveCountMax=3",
)  # fmt: skip


class HostKey:
    """The host key of this runtime: made at first use, and again if the login has removed it."""

    def __init__(self) -> None:
        self._folder = ""

    @property
    def folder(self) -> str:
        """The folder of the key, which only the login can read."""
        if not os.path.isfile(os.path.join(self._folder, "host_key.pub")):
            self._folder = _make_folder()
        return self._folder


HOST_KEY = HostKey()


def host_keys() -> List[str]:
    """Return the public host keys that `serve` shows, each as `type base64`."""
    with open(os.path.join(HOST_KEY.folder, "host_key.pub"), encoding="ascii") as file:
        return [" ".join(line.split()[:2]) for line in file]


def serve(stream: int, public_keys: object, environment: Mapping[str, str]) -> int:
    """Start an sshd that speaks on the descriptor `stream` and accepts each of `public_keys`; return its pid.

    Its sessions get `environment`. Unsupported where there is no sshd, InvalidParams for a key that is none.
    """
    folder = HOST_KEY.folder
    options = [*OPTIONS, *_own_options(folder, public_keys, environment)]
    words = [word for option in options for word in ("-o", option)]
    return os.posix_spawn(
        SSHD, [SSHD, "-i", "-e", "-f", "/dev/null", *words], _plain_environment(),
        file_actions=[(os.POSIX_SPAWN_DUP2, stream, number) for number in (0, 1)],
        setsid=True, setsigdef=DEFAULT_SIGNALS, setsigmask=(),
    )  # fmt: skip


def _own_options(folder: str, public_keys: object, environment: Mapping[str, str]) -> List[str]:
    login = pwd.getpwuid(os.getuid()).pw_name
    # sshd before 8.7 knows no escape within quotes.
    pairs = {**environment, "MAIL": f"/var/mail/{login}"}.items()
    variables = [f'"{name}={value}"' for name, value in pairs if not {'"', "\\", "\n"} & set(value)]
    return [
        f"HostKey={os.path.join(folder, 'host_key')}",
        f"AuthorizedKeysFile={_write_keys(folder, public_keys)}",
        f"AllowUsers={login} {WORKSPACE_USER}",
        f"SetEnv={' '.join(variables)}",
    ]


def _write_keys(folder: str, public_keys: object) -> str:
    """Return a file with these keys alone. There is one for each set of keys, not one for each stream."""
    if not isinstance(public_keys, list) or not public_keys or not all(isinstance(key, str) for key in public_keys):
        raise InvalidParams.of("public_key", "must be a string")
    text = "".join(parse_key(key, "public_key") + "\n" for key in public_keys)
    path = os.path.join(folder, hashlib.sha256(text.encode()).hexdigest())
    temporary = f"{path}.{os.urandom(4).hex()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(text)
    os.replace(temporary, path)
    return path


def _make_folder() -> str:
    if not os.path.exists(SSHD):
        raise Unsupported(f"there is no {SSHD} on this node", hint="on the node: apt-get install openssh-server")
    folder = os.path.join(TMP, f".codesmith-ssh-{os.urandom(8).hex()}")
    os.mkdir(folder, 0o700)
    command = [KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", os.path.join(folder, "host_key")]
    pid = os.posix_spawn(KEYGEN, command, _plain_environment(), setsigdef=DEFAULT_SIGNALS, setsigmask=())
    status = os.waitpid(pid, 0)[1]
    if status != 0:
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        problem = "ssh-keygen could not make a host key for this workspace"
        raise CommandFailed(problem, hint="inv node.logs", command=KEYGEN, exit_code=code, stderr="")
    return folder


def _plain_environment() -> Dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
