"""Pin a host key when the operator says so. Nothing else ever adds a pin."""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codesmith.errors import Cancelled, CodeSmithError
from codesmith.paths import locked
from codesmith.ssh.connect import fetch_host_key
from codesmith.ssh.hostkeys import HostKey, pins_for, verify
from codesmith.ssh.target import resolve

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node


@dataclass(frozen=True)
class Trusted:
    """What `trust` did; `added` is False when the key was pinned already."""

    node: str
    host: str
    type: str
    fingerprint: str
    file: Path
    added: bool


@dataclass(frozen=True)
class Shown:
    """The host key that a node presents, and whether it is pinned already (in `file`)."""

    node: Node
    host: str
    key: HostKey
    file: Path
    is_pinned: bool

    @property
    def text(self) -> str:
        """What an operator compares."""
        return f"{self.node.name} ({self.host}) shows {self.key.type} {self.key.fingerprint}"

    def pin(self) -> Trusted:
        """Pin the key, if it is not."""
        if not self.is_pinned:
            add_pin(self.file, self.host, self.key)
        key = self.key
        return Trusted(self.node.name, self.host, key.type, key.fingerprint, self.file, added=not self.is_pinned)


def look(node: Node, *, timeout_s: float = 10) -> Shown:
    """Return the key that `node` presents now; no login is tried. HostKeyChanged if another key is pinned."""
    target = resolve(node)
    pins = pins_for(target)
    key = fetch_host_key(target, timeout_s=timeout_s)
    if any(not pin.is_revoked for pin in pins) or any(pin.key == key for pin in pins):
        verify(target, key, pins)
        return Shown(node, target.key_name, key, pins[0].path, is_pinned=True)
    return Shown(node, target.key_name, key, node.known_hosts, is_pinned=False)


def trust(
    node: Node, *, yes: bool = False, confirm: Callable[[str], bool] | None = None, timeout_s: float = 10
) -> Trusted:
    """Pin the key that `node` presents now, after `confirm` agrees or with `yes`; no login is tried.

    A key that is pinned already changes nothing. Cancelled if nobody agrees, HostKeyChanged if another key is pinned.
    """
    shown = look(node, timeout_s=timeout_s)
    if not (shown.is_pinned or yes or (confirm and confirm(f"{shown.text}. Trust it?"))):
        hint = f"compare the fingerprint, then: inv node.trust {shlex.quote(node.name)} --yes"
        key = shown.key
        raise Cancelled(f"node {node.name}: {key.type} {key.fingerprint} was not trusted", hint=hint)
    return shown.pin()


def add_pin(path: Path, name: str, key: HostKey) -> None:
    """Add one line to a known_hosts file by replacing it atomically; other lines, its mode and a link to it stay."""
    real = path.resolve()
    line = f"{name} {key.type} {base64.b64encode(key.blob).decode()}\n"
    try:
        with locked(real.parent):
            old, mode = (real.read_text(), real.stat().st_mode & 0o777) if real.exists() else ("", 0o644)
            _replace(real, old + ("" if old.endswith("\n") or not old else "\n") + line, mode)
    except OSError as error:
        hint = f"ls -ld {shlex.quote(str(real.parent))}"
        raise CodeSmithError(f"cannot write {path}: {error.strerror}", hint=hint) from error


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
