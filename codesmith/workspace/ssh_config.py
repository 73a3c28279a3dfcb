"""The way into a workspace as a block of ssh configuration, for programs that take only the name of a host.

The blocks lie in our state directory, one file each. ssh goes by them once the operator's own configuration has an
Include line for them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from codesmith.errors import CodeSmithError
from codesmith.paths import ensure_private, state_dir, writing
from codesmith.ssh.options import SESSION_OPTIONS, Option, config_lines
from codesmith.ssh.target import parse_ssh_g

SSH_G_TIMEOUT_S = 10
# A terminal is for the caller to ask for.
SETTLED = tuple(one for one in SESSION_OPTIONS if one[0] != "RequestTTY")
# Keys that the operator's configuration adds do no harm.
ADDED = ("identityfile", "certificatefile")


@dataclass(frozen=True)
class Block:
    """The settings of one workspace, found by its alias."""

    workspace: str
    node: str
    note: str
    options: tuple[Option, ...]

    @property
    def alias(self) -> str:
        """Return the name that ssh and an editor are given."""
        return f"{self.workspace}.{self.node}.codesmith"

    @property
    def text(self) -> str:
        """Return the block; a program that asks for a terminal, or forwards a port, by its own options still can."""
        body = "".join(f"  {line}\n" for line in config_lines((*self.options, *SETTLED)))
        return f"# {self.note}\nHost {self.alias}\n{body}"

    @property
    def path(self) -> Path:
        """Return where it lies, below a directory of ours (0700)."""
        return ensure_private(state_dir() / "ssh") / f"{self.alias}.conf"


def write(block: Block) -> None:
    """Write the block, 0600, in one step; an older one of the same alias is replaced."""
    path = block.path
    fresh = path.with_suffix(f".{os.getpid()}")
    with writing(path):
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(block.text)
        fresh.replace(path)


def ensure_in_effect(block: Block) -> None:
    """Return if ssh, given the alias, goes by the block; CodeSmithError with the command that includes it if not."""
    wanted = {keyword.lower() for keyword, _ in (*block.options, *SETTLED)}.difference(ADDED)
    ours, found = _effective("-F", str(block.path), block.alias), _effective(block.alias)
    different = sorted(keyword for keyword in wanted if ours.get(keyword) != found.get(keyword))
    if different:
        raise CodeSmithError(
            f"ssh does not go by {block.path}: your ssh configuration says otherwise ({', '.join(different)}), and an "
            "editor knows the way from there alone; what stands first in it counts",
            hint=including(f'Include "{block.path.parent}/*.conf"'),
        )


def including(line: str) -> str:
    """Return a command that puts a line first in the operator's ssh configuration; a link stays one."""
    keep = '(umask 077; mkdir -p ~/.ssh; was="$(cat ~/.ssh/config 2>/dev/null)"; '
    return f"{keep}printf '%s\\n' {shlex.quote(line)} \"$was\" >~/.ssh/config)"


def _effective(*words: str) -> dict[str, list[str]]:
    """Return what `ssh -G` says; nothing where ssh cannot say."""
    try:
        done = subprocess.run(
            ["ssh", "-G", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=SSH_G_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_ssh_g(done.stdout) if done.returncode == 0 else {}
