"""Decide where and how a node is reached, before anything is sent.

`ssh -G` reads the ssh configuration if ssh is installed, so that Include, Match, ProxyJump and IdentityAgent mean what
they mean to the operator's `ssh`; otherwise paramiko's parser does. Light: imports neither Fabric nor paramiko.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith import paths
from codesmith.errors import AuthenticationFailed, CodeSmithError, LabNodeDown
from codesmith.nodes.lab_home import ssh_config_of

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

SSH_PORT = 22
PASSWORDS = ("password", "keyboard-interactive")
SSH_G_TIMEOUT_S = 10
KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
# Options that paramiko does not support; without them the connection may lead elsewhere or nowhere.
ONLY_OPENSSH = {name: name.lower() for name in ("ProxyUseFdpass", "BindAddress", "BindInterface")}
# Options that a command in a hint overrides, so that it does not share a session or run another command.
_HINT = "ControlPath=none ForkAfterAuthentication=no RemoteCommand=none SessionType=default"
HINT_OPTIONS = dict(option.split("=") for option in _HINT.split())
# Tokens that `ssh -G` expands for us: a hash of the connection, and the gateway.
ASKED = ("C", "j")
IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


@dataclass(frozen=True)
class Target:
    """Everything that a connection needs to know. `identities` are private key files in the order to try them."""

    name: str
    host: str
    port: int = SSH_PORT
    user: str = "root"
    identities: tuple[str, ...] = ()
    # The identity that nodes.yaml names. If it cannot be used, no other key is tried.
    named_identity: str = ""
    certificates: tuple[str, ...] = ()
    identities_only: bool = False
    identity_agent: str | None = None
    proxy_jump: str | None = None
    proxy_command: str | None = None
    # The command passes a connected socket instead of copying bytes (ProxyUseFdpass).
    proxy_gives_socket: bool = False
    pkcs11_provider: str | None = None
    host_key_alias: str | None = None
    known_hosts: tuple[Path, ...] = ()
    # The password methods to use if no key logs in, in order; in batch mode nobody is asked.
    passwords: tuple[str, ...] = PASSWORDS
    is_batch: bool = False
    # How many gateways came before: ssh configurations can lead in a circle.
    jumps: int = 0
    # The name whose ssh configuration leads to `host`.
    alias: str = ""
    # The carrier that nodes.yaml names, and the option of the ssh configuration that only OpenSSH supports.
    carrier: str = ""
    only_openssh: str = ""
    # The options, as `Keyword=value`, that a command in a hint must override.
    hint_options: tuple[str, ...] = ()

    @property
    def key_name(self) -> str:
        """The name under which known_hosts files list this host."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.host.lower() if self.port == SSH_PORT else f"[{self.host.lower()}]:{self.port}"

    def ssh_line(self, before: str, after: str = "") -> str:
        """Return an ssh command to paste that leads here: `before` is the program, `after` the remote command."""
        words = [word for option in self.hint_options for word in ("-o", option)]
        words += ["-p", str(self.port)] if self.port != SSH_PORT else []
        host = self.alias or self.host
        if set("@\\") & set(self.user):  # a login like ops@corp.example
            words += ["-o", f"User={self.user}", host] if before == "ssh-copy-id" else ["-l", self.user, host]
        else:
            words.append(f"{self.user}@{host}")
        return f"{before} {shlex.join(words)} {after}".rstrip()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name} ({self.user}@{host}:{self.port})"


def target_of(connection: Any) -> Target:
    """Return the target of a connection; of a plain Fabric connection its host, port and user."""
    target: Target | None = getattr(connection, "target", None)
    return target or Target(connection.host, connection.host, connection.port, connection.user)


def resolve(node: Node) -> Target:
    """Return how `node` is reached: as the lab says for a lab node, else from nodes.yaml and the ssh configuration."""
    if node.lab:
        return _lab_target(node)
    identity = (str(node.identity_path),) if node.identity_path else ()
    host, port = split_port(node.host or node.name)
    wanted = Target(
        node.name, host, node.port or port, node.user or "", identity, "".join(identity), carrier=node.ssh or ""
    )
    return resolve_host(wanted, first_known_hosts=(node.known_hosts,))


def resolve_host(wanted: Target, *, first_known_hosts: Iterable[Path] = ()) -> Target:
    """Complete `wanted` from the operator's ssh configuration; values that `wanted` has win."""
    if wanted.host.startswith("-") or not wanted.host or any(c.isspace() for c in wanted.host):
        problem = f"node {wanted.name}: {wanted.host!r} is not a host name"
        raise CodeSmithError(problem, hint="correct `host:` in nodes.yaml")
    config = _read_with_ssh(wanted) if shutil.which("ssh") else _read_with_paramiko(wanted)
    return _merge(wanted, config, tuple(first_known_hosts))


def ensure_identity(target: Target) -> None:
    """Raise AuthenticationFailed unless the identity that nodes.yaml names, or its public key, can be read.

    `ssh -i` ignores a missing file and logs in with the next key.
    """
    path, reason = target.named_identity, "No such file or directory"
    for name in (path, f"{path}.pub") if path else ():
        try:
            with open(name, "rb"):
                return
        except FileNotFoundError:
            pass
        except OSError as error:
            reason = error.strerror or str(error)
            break
    if path:
        hint = f"ls -l {shlex.quote(path)}  # or correct `identity:` in nodes.yaml"
        raise AuthenticationFailed(f"node {target}: the identity {path} cannot be read: {reason}", hint=hint)


def split_port(address: str) -> tuple[str, int]:
    """Return host and port of `host`, `host:port`, an IPv6 address, `[address]` or `[address]:port`; port 0 if none."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and (host.endswith("]") or ":" not in host):
        return host.strip("[]"), int(port)
    return address.strip("[]"), 0


def _lab_target(node: Node) -> Target:
    lab = _read_with_ssh(Target(node.name, node.name), _lab_config(node.name))
    host = lab["hostname"][0]
    return Target(
        name=node.name,
        host=node.host or host,
        port=node.port or int(lab["port"][0]),
        user=node.user or lab["user"][0],
        identities=(str(node.identity_path or lab["identityfile"][0]),),
        named_identity=str(node.identity_path or ""),
        identities_only=True,
        # The lab lists the host key under the node's own address, even if a relay leads there.
        host_key_alias=host if node.host or node.port else None,
        # A recreated lab node has a new host key, so the lab's file comes before earlier pins.
        known_hosts=(Path(lab["userknownhostsfile"][0]), node.known_hosts),
        carrier=node.ssh or "",
    )


def _lab_config(name: str) -> Path:
    """Return the ssh configuration that the lab writes for a node; LabNodeDown unless it is switched on."""
    config, hint = ssh_config_of(name), f"inv lab.up --node {name}"
    try:
        if config.is_file():
            return config
        what = "is switched off" if config.parent.is_dir() else "has not been booted"
    except PermissionError as error:
        problem = f"lab node {name!r}: {config.parent.parent.parent} belongs to root"
        raise LabNodeDown(problem, hint="sudo -E " + hint) from error
    raise LabNodeDown(f"lab node {name!r} {what}", hint=hint)


def _read_with_ssh(
    wanted: Target, config: Path | None = None, options: tuple[str, ...] = ()
) -> Mapping[str, list[str]]:
    login = [*(("-p", str(wanted.port)) if wanted.port else ()), *(("-l", wanted.user) if wanted.user else ())]
    argv = ["ssh", "-G", *(("-F", str(config)) if config else ()), *options, *login, "--", wanted.host]
    try:
        status, stdout, stderr = _run(argv)
    except subprocess.TimeoutExpired as error:
        problem = f"node {wanted.name}: `ssh -G` did not end within {SSH_G_TIMEOUT_S} s (a `Match exec` that hangs?)"
        raise CodeSmithError(problem, hint=f"ssh -v -G -- {wanted.host}") from error
    if status != 0:
        reason = "; ".join(stderr.strip().splitlines()[-2:]) or "no reason given"
        problem = f"node {wanted.name}: ssh refuses its configuration: {reason}"
        raise CodeSmithError(problem, hint=shlex.join(["ssh", "-G", "--", wanted.host]))
    return parse_ssh_g(stdout)


def _run(argv: list[str]) -> tuple[int, str, str]:
    """Return status, stdout and stderr; after SSH_G_TIMEOUT_S end ssh and what its `Match exec` started."""
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
        encoding="utf-8", errors="surrogateescape",
    ) as process:  # fmt: skip
        try:
            stdout, stderr = process.communicate(timeout=SSH_G_TIMEOUT_S)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, stdout, stderr


def parse_ssh_g(text: str) -> dict[str, list[str]]:
    """Return the output of `ssh -G` as keywords in lower case, each with its values in order."""
    config: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        config.setdefault(keyword.lower(), []).append(value)
    return config


def _read_with_paramiko(wanted: Target) -> Mapping[str, list[str]]:
    from paramiko.config import SSHConfig
    from paramiko.ssh_exception import ConfigParseError

    config: dict[str, list[str]] = {}
    for path in (Path("~/.ssh/config").expanduser(), Path("/etc/ssh/ssh_config")):
        if not path.is_file():
            continue
        try:
            values = SSHConfig.from_path(str(path)).lookup(wanted.host)
        except (ConfigParseError, OSError) as error:
            raise CodeSmithError(f"node {wanted.name}: {path} cannot be read: {error}", hint=f"ls -l {path}") from error
        for keyword, value in values.items():
            config.setdefault(keyword, list(value) if isinstance(value, list) else [value])
    return config


def _merge(wanted: Target, config: Mapping[str, list[str]], first_known_hosts: tuple[Path, ...]) -> Target:
    def one(keyword: str) -> str | None:
        value = config.get(keyword, [""])[0]
        return value if value and value.lower() != "none" else None

    target = replace(
        wanted,
        host=one("hostname") or wanted.host,
        alias=wanted.host,
        port=wanted.port or int(one("port") or SSH_PORT),
        user=wanted.user or one("user") or getpass.getuser(),
    )
    expand = _Expander(target, wanted)
    agent = one("identityagent")
    return replace(
        target,
        identities=_unique([*wanted.identities, *expand.files(config.get("identityfile", IDENTITIES), "IdentityFile")]),
        certificates=_unique(expand.files(config.get("certificatefile", ()), "CertificateFile")),
        identities_only=one("identitiesonly") == "yes",
        identity_agent="none" if agent is None and "identityagent" in config else expand.agent(agent),
        proxy_jump=one("proxyjump"),
        proxy_command=expand.command(one("proxycommand") or "") or None,
        proxy_gives_socket=one("proxyusefdpass") == "yes",
        pkcs11_provider=one("pkcs11provider"),
        host_key_alias=one("hostkeyalias"),
        passwords=_passwords(config),
        is_batch=one("batchmode") == "yes",
        hint_options=tuple(
            f"{name}={value}" for name, value in HINT_OPTIONS.items() if config.get(name.lower(), [value]) != [value]
        ),
        known_hosts=(*first_known_hosts, *map(Path, _known_hosts(config, expand))),
        only_openssh=next((name for name, keyword in ONLY_OPENSSH.items() if one(keyword) not in (None, "no")), ""),
    )


def _passwords(config: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return the password methods that the configuration allows, in the order that it prefers."""
    if config.get("batchmode") == ["yes"]:
        return ()
    keywords = {"password": "passwordauthentication", "keyboard-interactive": "kbdinteractiveauthentication"}
    allowed = [name for name in PASSWORDS if config.get(keywords[name]) != ["no"]]
    preferred = ",".join(config.get("preferredauthentications", [])).split(",")
    return tuple(name for name in (preferred if preferred != [""] else allowed) if name in allowed)


def _known_hosts(config: Mapping[str, list[str]], expand: _Expander) -> list[str]:
    named = [*config.get("userknownhostsfile", []), *config.get("globalknownhostsfile", [])]
    return expand.files([name for value in named for name in value.split()] or KNOWN_HOSTS, "UserKnownHostsFile")


class _Expander:
    """Expands %-tokens as ssh_config(5) does, and ${VARIABLE} in the names of files."""

    def __init__(self, target: Target, wanted: Target) -> None:
        self._name, local, here = target.name, getpass.getuser(), os.uname().nodename
        self._wanted, original = wanted, wanted.host
        tokens = {"h": target.host, "n": original, "p": str(target.port), "r": target.user, "u": local, "%": "%"}
        tokens |= {"d": str(Path.home()), "i": str(os.getuid()), "k": target.host_key_alias or original}
        self._tokens = {**tokens, "l": here, "L": here.partition(".")[0]}

    def command(self, text: str) -> str:
        """Return a command with its tokens expanded; the shell expands its variables."""
        return re.sub(r"%(.)", lambda found: self._token(found[1]), text)

    def files(self, names: Iterable[str], keyword: str) -> list[str]:
        """Return the expanded paths, without `none` and /dev/null."""
        return [self._file(name, keyword) for name in names if name not in ("none", os.devnull)]

    def agent(self, value: str | None) -> str | None:
        """Return the socket that IdentityAgent names: None for SSH_AUTH_SOCK, "none" for no agent."""
        if value is None or value == "SSH_AUTH_SOCK":
            return None
        if re.fullmatch(r"\$[A-Za-z_]\w*", value):
            return os.environ.get(value[1:]) or "none"
        return self._file(value, "IdentityAgent")

    def _file(self, text: str, keyword: str) -> str:
        def put(found: re.Match[str]) -> str:
            return self._variable(found[2], keyword) if found[2] else self._token(found[1])

        return str(paths.expanded(re.sub(r"%(.)|\$\{([^}]*)\}", put, text)))

    def _token(self, sign: str) -> str:
        """Return the value of a token; ssh expands those that differ between releases of OpenSSH."""
        if sign in ASKED and sign not in self._tokens and shutil.which("ssh"):
            found = _read_with_ssh(self._wanted, options=("-o", f"ControlPath=/%{sign}"))
            self._tokens[sign] = found.get("controlpath", [""])[0].removeprefix("/")
        return self._tokens.get(sign, f"%{sign}")

    def _variable(self, name: str, keyword: str) -> str:
        value = os.environ.get(name)
        if value is None:
            problem = f"node {self._name}: {keyword} in the ssh configuration names ${{{name}}}, which is not set"
            # A running forwarder keeps its environment, so it has to end first.
            raise CodeSmithError(problem, hint=f"export {name}=VALUE; inv node.disconnect --all")
        return value


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
