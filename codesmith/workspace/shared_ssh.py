"""One ssh connection into a workspace for all that a command does there; it ends with this process."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from codesmith.errors import Unsupported
from codesmith.paths import runtime_dir
from codesmith.tunnel.forward import read_error
from codesmith.workspace import ssh_config
from codesmith.workspace.ssh_config import SshConfig

if TYPE_CHECKING:
    from codesmith.nodes.registry import Node

# `cat` ends with our end of its standard input, even if we are killed.
STAY = "exec sh -c 'echo there; exec cat >/dev/null'"
THERE = "there"
END_S = 5.0


class SharedSsh:
    """The connection. Use it as a context manager."""

    def __init__(self, node: Node, workspace: str) -> None:
        from codesmith.nodes.registry import Registry

        if shutil.which("ssh") is None:
            raise Unsupported("there is no `ssh` on this machine", hint="apt install openssh-client")
        config = SshConfig(Registry.load(node.registry))
        config.write()
        self.alias = ssh_config.alias_of(workspace, node)
        self._folder = Path(tempfile.mkdtemp(prefix="c-", dir=runtime_dir()))
        # The words of ssh before the alias, for what shares the connection.
        self.ssh = ("ssh", "-F", str(config.path), "-S", str(self._folder / "s"), "-o", "LogLevel=ERROR")
        self._process = subprocess.Popen(
            [*self.ssh, "-M", self.alias, STAY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C ends what uses it first
        )

    def __enter__(self) -> SharedSsh:
        try:
            for line in self._process.stdout or ():
                if line.strip() == THERE:
                    return self
            said = self._process.stderr.read() if self._process.stderr else ""
            raise read_error(said.splitlines(), self.alias.partition(".")[0])
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and all that runs through it."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)
