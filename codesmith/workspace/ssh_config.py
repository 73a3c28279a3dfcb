"""The ssh_config block of a workspace, for programs that take only a host name.

Each block is a file in the state directory. ssh uses the blocks once the operator's own configuration has an Include
line for them.
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
# The program that uses the block decides about a terminal.
FIXED = tuple(one for one in SESSION_OPTIONS if one[0] != "RequestTTY")
# Keys that the operator's configuration adds do no harm, so they may differ.
ADDED = ("identityfile", "certificatefile")


@dataclass(frozen=True)
class Block:
    """The ssh settings of one workspace, under its alias."""

    workspace: str
    node: str
    note: str
    options: tuple[Option, ...]

    @property
    def alias(self) -> str:
        """Return the host name to give to ssh or an editor."""
        return f"{self.workspace}.{self.node}.codesmith"

    @property
    def text(self) -> str:
        """Return the text of the block. A program can still ask for a terminal or forward ports by its own options."""
        body = "".join(f"  {line}\n" for line in config_lines((*self.options, *FIXED)))
        return f"# {self.note}\nHost {self.alias}\n{body}"

    @property
    def path(self) -> Path:
        """Return the path of its file, in a directory that only the operator can read (0700)."""
        return ensure_private(state_dir() / "ssh") / f"{self.alias}.conf"


def write(block: Block) -> None:
    """Write the block (0600), replacing an older one of the same alias atomically."""
    path = block.path
    fresh = path.with_suffix(f".{os.getpid()}")
    with writing(path):
        fresh.unlink(missing_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(block.text)
        fresh.replace(path)


def ensure_in_effect(block: Block) -> None:
    """Check that ssh, given the alias, uses the block; else raise CodeSmithError with the command that includes it."""
    keywords = {keyword.lower() for keyword, _ in (*block.options, *FIXED)}.difference(ADDED)
    expected, effective = _effective("-F", str(block.path), block.alias), _effective(block.alias)
    different = sorted(keyword for keyword in keywords if expected.get(keyword) != effective.get(keyword))
    if different:
        raise CodeSmithError(
            f"ssh does not use {block.path}: your ssh configuration has other values ({', '.join(different)}), and an "
            "editor reads nothing else; the first value in it counts",
            hint=include_command(f'Include "{block.path.parent}/*.conf"'),
        )


def include_command(line: str) -> str:
    """Return a command that inserts a line at the top of the operator's ssh_config; a symbolic link stays one."""
    keep = '(umask 077; mkdir -p ~/.ssh; was="$(cat ~/.ssh/config 2>/dev/null)"; '
    return f"{keep}printf '%s\\n' {shlex.quote(line)} \"$was\" >~/.ssh/config)"


def _effective(*words: str) -> dict[str, list[str]]:
    """Return the settings that `ssh -G` prints; empty if it fails."""
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
