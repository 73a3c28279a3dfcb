"""Where and how a node is reached, decided before anything is sent.

OpenSSH's own `ssh -G` answers where it is installed, so that Include, Match, ProxyJump and IdentityAgent mean what they
mean to the operator's `ssh`; paramiko's parser answers elsewhere. Nothing heavy is imported here.
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
# Options that paramiko does not do, and without which the way may lead elsewhere or nowhere.
ONLY_OPENSSH = {name: name.lower() for name in ("ProxyUseFdpass", "BindAddress", "BindInterface")}
# What a command that somebody pastes must not take from the ssh configuration: another session, another command.
PASTED = {"ControlPath": "none", "ForkAfterAuthentication": "no", "RemoteCommand": "none", "SessionType": "default"}
# Tokens that `ssh -G` puts in for us: a hash of the way, and the gateway.
ASKED = ("C", "j")
IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


@dataclass(frozen=True)
class Target:
    """Everything a connection needs to know. `identities` are private key files, the likely ones first."""

    name: str
    host: str
    port: int = SSH_PORT
    user: str = "root"
    identities: tuple[str, ...] = ()
    # The one that nodes.yaml names: nothing takes its place when it cannot be used.
    named_identity: str = ""
    certificates: tuple[str, ...] = ()
    identities_only: bool = False
    identity_agent: str | None = None
    proxy_jump: str | None = None
    proxy_command: str | None = None
    # The command hands over a socket instead of passing bytes on (ProxyUseFdpass).
    proxy_gives_socket: bool = False
    pkcs11_provider: str | None = None
    host_key_alias: str | None = None
    known_hosts: tuple[Path, ...] = ()
    # The ways of giving a password that may be used when no key opens, the first first; nobody is asked in a batch.
    passwords: tuple[str, ...] = PASSWORDS
    is_batch: bool = False
    # How many gateways already lie between: ssh configurations can lead in a circle.
    jumps: int = 0
    # What ssh is asked for where its configuration leads to `host`, and options without which it would do other things.
    alias: str = ""
    # The carrier that nodes.yaml asks for; and what of the ssh configuration only OpenSSH does.
    carrier: str = ""
    only_openssh: str = ""
    overruled: tuple[str, ...] = ()

    @property
    def key_name(self) -> str:
        """Return the name under which known_hosts files list this host."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.host.lower() if self.port == SSH_PORT else f"[{self.host.lower()}]:{self.port}"

    def ssh_line(self, before: str, after: str = "") -> str:
        """Return a command to paste that goes where this leads; `before` names the program, `after` what runs there."""
        words = [word for one in self.overruled for word in ("-o", one)]
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
    """Return where a connection leads."""
    found: Target | None = getattr(connection, "target", None)
    return found or Target(connection.host, connection.host, connection.port, connection.user)


def resolve(node: Node) -> Target:
    """Return how `node` is reached: from the lab for a lab node, else from nodes.yaml and the ssh configuration."""
    if node.lab:
        return _lab_target(node)
    identity = (str(node.identity_path),) if node.identity_path else ()
    host, port = split_port(node.host or node.name)
    wanted = Target(
        node.name, host, node.port or port, node.user or "", identity, "".join(identity), carrier=node.ssh or ""
    )
    return resolve_host(wanted, first_known_hosts=(node.known_hosts,))


def resolve_host(wanted: Target, *, first_known_hosts: Iterable[Path] = ()) -> Target:
    """Complete `wanted` from the operator's ssh configuration; what `wanted` names wins."""
    if wanted.host.startswith("-") or not wanted.host or any(c.isspace() for c in wanted.host):
        raise CodeSmithError(
            f"node {wanted.name}: {wanted.host!r} is not a host name", hint="correct `host:` in nodes.yaml"
        )
    config = _read_with_ssh(wanted) if shutil.which("ssh") else _read_with_paramiko(wanted)
    return _merge(wanted, config, tuple(first_known_hosts))


def ensure_identity(target: Target) -> None:
    """Raise AuthenticationFailed unless the identity that nodes.yaml names is there, or its public half.

    `ssh -i` passes over a file that is missing, and logs in with whatever key is next.
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
        raise AuthenticationFailed(
            f"node {target}: the identity {path} cannot be read: {reason}",
            hint=f"ls -l {shlex.quote(path)}  # or correct `identity:` in nodes.yaml",
        )


def split_port(place: str) -> tuple[str, int]:
    """Return host and port of `host`, `host:port`, an IPv6 address, `[address]` or `[address]:port`; port 0 if none."""
    host, colon, port = place.rpartition(":")
    if colon and port.isdigit() and (host.endswith("]") or ":" not in host):
        return host.strip("[]"), int(port)
    return place.strip("[]"), 0


def _lab_target(node: Node) -> Target:
    config = _lab_config(node.name)
    found = _read_with_ssh(Target(node.name, node.name), config)
    host = found["hostname"][0]
    return Target(
        name=node.name,
        host=node.host or host,
        port=node.port or int(found["port"][0]),
        user=node.user or found["user"][0],
        identities=(str(node.identity_path or found["identityfile"][0]),),
        named_identity=str(node.identity_path or ""),
        identities_only=True,
        # The lab knows the key by its own address, also when the way there leads through a relay.
        host_key_alias=host if node.host or node.port else None,
        # A lab node is made anew, and its key with it: what the lab says goes before what was pinned.
        known_hosts=(Path(found["userknownhostsfile"][0]), node.known_hosts),
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
        status, said, problems = _run(argv)
    except subprocess.TimeoutExpired as error:
        problem = f"node {wanted.name}: `ssh -G` did not end within {SSH_G_TIMEOUT_S} s (a `Match exec` that hangs?)"
        raise CodeSmithError(problem, hint=f"ssh -v -G -- {wanted.host}") from error
    if status != 0:
        reason = "; ".join(problems.strip().splitlines()[-2:]) or "no reason given"
        raise CodeSmithError(
            f"node {wanted.name}: ssh refuses its configuration: {reason}",
            hint=shlex.join(["ssh", "-G", "--", wanted.host]),
        )
    return parse_ssh_g(said)


def _run(argv: list[str]) -> tuple[int, str, str]:
    """Run ssh; when it is late it ends, and with it what its `Match exec` started and would be waited for."""
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
        encoding="utf-8", errors="surrogateescape",
    ) as process:  # fmt: skip
        try:
            said, problems = process.communicate(timeout=SSH_G_TIMEOUT_S)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, said, problems


def parse_ssh_g(text: str) -> dict[str, list[str]]:
    """Return what `ssh -G` printed: each keyword with its values in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    return found


def _read_with_paramiko(wanted: Target) -> Mapping[str, list[str]]:
    from paramiko.config import SSHConfig
    from paramiko.ssh_exception import ConfigParseError

    found: dict[str, list[str]] = {}
    for path in (Path("~/.ssh/config").expanduser(), Path("/etc/ssh/ssh_config")):
        if not path.is_file():
            continue
        try:
            values = SSHConfig.from_path(str(path)).lookup(wanted.host)
        except (ConfigParseError, OSError) as error:
            raise CodeSmithError(f"node {wanted.name}: {path} cannot be read: {error}", hint=f"ls -l {path}") from error
        for keyword, value in values.items():
            found.setdefault(keyword, list(value) if isinstance(value, list) else [value])
    return found


def _merge(wanted: Target, config: Mapping[str, list[str]], first_known_hosts: tuple[Path, ...]) -> Target:
    def one(keyword: str) -> str | None:
        value = config.get(keyword, [""])[0]
        return value if value and value.lower() != "none" else None

    found = replace(
        wanted,
        host=one("hostname") or wanted.host,
        alias=wanted.host,
        port=wanted.port or int(one("port") or SSH_PORT),
        user=wanted.user or one("user") or getpass.getuser(),
    )
    words = _Words(found, wanted)
    agent = one("identityagent")
    return replace(
        found,
        identities=_unique([*wanted.identities, *words.files(config.get("identityfile", IDENTITIES), "IdentityFile")]),
        certificates=_unique(words.files(config.get("certificatefile", ()), "CertificateFile")),
        identities_only=one("identitiesonly") == "yes",
        identity_agent="none" if agent is None and "identityagent" in config else words.agent(agent),
        proxy_jump=one("proxyjump"),
        proxy_command=words.command(one("proxycommand") or "") or None,
        proxy_gives_socket=one("proxyusefdpass") == "yes",
        pkcs11_provider=one("pkcs11provider"),
        host_key_alias=one("hostkeyalias"),
        passwords=_passwords(config),
        is_batch=one("batchmode") == "yes",
        overruled=tuple(
            f"{word}={ours}" for word, ours in PASTED.items() if config.get(word.lower(), [ours]) != [ours]
        ),
        known_hosts=(*first_known_hosts, *map(Path, _known_hosts(config, words))),
        only_openssh=next((name for name, keyword in ONLY_OPENSSH.items() if one(keyword) not in (None, "no")), ""),
    )


def _passwords(config: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return the ways of giving a password that the configuration leaves, in the order that it prefers."""
    if config.get("batchmode") == ["yes"]:
        return ()
    keywords = {"password": "passwordauthentication", "keyboard-interactive": "kbdinteractiveauthentication"}
    allowed = [name for name in PASSWORDS if config.get(keywords[name]) != ["no"]]
    preferred = ",".join(config.get("preferredauthentications", [])).split(",")
    return tuple(name for name in (preferred if preferred != [""] else allowed) if name in allowed)


def _known_hosts(config: Mapping[str, list[str]], words: _Words) -> list[str]:
    named = [*config.get("userknownhostsfile", []), *config.get("globalknownhostsfile", [])]
    return words.files([name for value in named for name in value.split()] or KNOWN_HOSTS, "UserKnownHostsFile")


class _Words:
    """Expands what ssh_config(5) lets stand for something else: %-tokens, and ${VARIABLE} where it names a file."""

    def __init__(self, target: Target, wanted: Target) -> None:
        self._name, local, here = target.name, getpass.getuser(), os.uname().nodename
        self._wanted, original = wanted, wanted.host
        known = {"h": target.host, "n": original, "p": str(target.port), "r": target.user, "u": local, "%": "%"}
        known |= {"d": str(Path.home()), "i": str(os.getuid()), "k": target.host_key_alias or original}
        self._tokens = {**known, "l": here, "L": here.partition(".")[0]}

    def command(self, text: str) -> str:
        """Return a command; its variables are its shell's to expand."""
        return re.sub(r"%(.)", lambda found: self._token(found[1]), text)

    def files(self, names: Iterable[str], keyword: str) -> list[str]:
        """Return the paths, without those that stand for no file."""
        return [self._file(name, keyword) for name in names if name not in ("none", os.devnull)]

    def agent(self, value: str | None) -> str | None:
        """Return the socket of IdentityAgent: None for the usual one, "none" for none."""
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
        """Return what a token stands for; how some are made differs between releases of OpenSSH, so ssh says it."""
        if sign in ASKED and sign not in self._tokens and shutil.which("ssh"):
            found = _read_with_ssh(self._wanted, options=("-o", f"ControlPath=/%{sign}"))
            self._tokens[sign] = found.get("controlpath", [""])[0].removeprefix("/")
        return self._tokens.get(sign, f"%{sign}")

    def _variable(self, name: str, keyword: str) -> str:
        value = os.environ.get(name)
        if value is None:
            problem = f"node {self._name}: {keyword} in the ssh configuration names ${{{name}}}, which is not set"
            # A forwarder that runs already does not learn it.
            raise CodeSmithError(problem, hint=f"export {name}=VALUE; inv node.disconnect --all")
        return value


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
