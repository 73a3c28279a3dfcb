"""What rsync runs in place of ssh: a command in a workspace whose standard streams are ours.

    python3 -P -m codesmith.workspace.rsync_shell REGISTRY NODE WORKSPACE LIFELINE HOST COMMAND...

Its bytes are encrypted once, by the endpoint's connection; through an ssh into the workspace it would be twice.
LIFELINE is the number of a descriptor: when its other end is closed, who copies was killed, and the command is ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Node, Registry
from codesmith.sdk.client import Client
from codesmith.sdk.ended import Ended
from codesmith.sdk.streams import Stream
from codesmith.workspace import console

DESCRIPTORS = {"stdout": 1, "stderr": 2}
# What ssh ends with when the connection is lost; copy_rsync knows it.
LOST = 255


def command(node: Node, workspace: str, lifeline: int) -> tuple[str, ...]:
    """Return the words before the host name, for rsync's --rsh."""
    return (sys.executable, "-P", "-m", __name__, str(node.registry), node.name, workspace, str(lifeline))


def main(registry: str, node: str, workspace: str, lifeline: str, _host: str, *argv: str) -> int:
    """Run a command in a workspace; return its exit code."""
    # What rsync sends to its shell when it ends early. The end of its output tells the same, and lets the far side
    # keep what has arrived.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for descriptor in (0, 1):
        os.set_blocking(descriptor, True)
    try:
        with (
            Client(Registry.load(Path(registry), runs_programs=False).get(node)) as client,
            client.run(workspace, list(argv), stdin=True) as run,
        ):
            threading.Thread(target=_await_end, args=(int(lifeline), run), daemon=True).start()
            return code_of(console.join(run, console.Source(0), show=show))
    except CodeSmithError as error:
        os.write(2, f"{error.problem}\n".encode(errors="replace"))
        return LOST


def show(name: str, data: memoryview | bytes) -> None:
    """Pass a piece of output on. If nobody reads any more it is dropped: the far side is ending by itself then."""
    try:
        console.write_all(DESCRIPTORS[name], data)
    except BrokenPipeError:
        pass


def code_of(ended: Ended) -> int:
    """Return the exit code for rsync: that of a lost connection for what did not end by itself."""
    return LOST if ended.killed_by or ended.exit_code is None else ended.exit_code


def _await_end(lifeline: int, run: Stream) -> None:
    while os.read(lifeline, 1):
        pass
    run.drop()


def entry(words: Sequence[str]) -> int:
    """Run the program with its words."""
    return main(*words)


if __name__ == "__main__":
    sys.exit(entry(sys.argv[1:]))
