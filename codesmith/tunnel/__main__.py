"""The forwarder as a program: `python -m codesmith.tunnel`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import types

THREAD_STACK_BYTES = 256 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Run the forwarder here, or start it in the background."""
    parser = argparse.ArgumentParser(
        prog="python -m codesmith.tunnel",
        description="Keep one SSH connection and one local Unix socket per node. Calls start it on demand; "
        "it ends with its last endpoint, or on SIGTERM.",
    )
    parser.add_argument("--background", action="store_true", help="detach, and return once the control socket accepts")
    chosen = parser.parse_args(arguments)
    leave_out_mocks()
    if not chosen.background:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        return serve(None)
    return start_detached()


def leave_out_mocks() -> None:
    """Keep Invoke from importing unittest.mock for its test double: with asyncio and ssl behind it that costs 4 MB."""
    if "invoke" not in sys.modules:
        light = types.ModuleType("unittest.mock")
        light.Mock = object  # type: ignore[attr-defined]
        sys.modules["unittest.mock"] = light


def start_detached() -> int:
    """Fork; the parent returns 0 once the child accepts on its control socket, 1 and its reason as JSON if not."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os._exit(_child(writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    if said == b"ready":
        return 0
    sys.stdout.write(said.decode("utf-8", "replace"))
    return 1


def _child(writer: int) -> int:
    from codesmith.errors import CodeSmithError
    from codesmith.paths import runtime_dir, state_dir
    from codesmith.tunnel.logfile import LogFile
    from codesmith.tunnel.state import error_to_dict

    try:
        runtime_dir()
        logging.getLogger("codesmith").setLevel(logging.INFO)
        logging.getLogger("codesmith").addHandler(LogFile(state_dir() / "forwarder.log"))
        status = serve(writer)
    except (CodeSmithError, OSError) as error:
        known = error if isinstance(error, CodeSmithError) else CodeSmithError(f"the forwarder did not start: {error}")
        os.write(writer, json.dumps(error_to_dict(known)).encode())
        status = 1
    logging.shutdown()
    return status


def serve(ready_fd: int | None) -> int:
    """Serve until told to end; write "ready" to `ready_fd` when the control socket accepts."""
    from codesmith.tunnel.forwarder import Forwarder
    from codesmith.tunnel.link import SshLink

    # A node's refusal is part of life here and has its own line; paramiko's log would repeat it with a traceback.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    threading.stack_size(THREAD_STACK_BYTES)
    forwarder = Forwarder(SshLink)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: forwarder.stop())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    if ready_fd is not None:
        os.write(ready_fd, b"ready")
        os.close(ready_fd)
    forwarder.run()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads may still wait for a node that does not answer; nothing of theirs outlives the process.
    os._exit(status)
