"""The forwarder as a program: `python -m codesmith.tunnel`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shlex
import signal
import sys
import threading
import types
from collections.abc import Callable

THREAD_STACK_BYTES = 256 * 1024
# 400 local connections and hundreds of nodes, with their listeners and proxies.
DESCRIPTORS = 4096


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
        status = _child(writer)
        logging.shutdown()
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    if said == b"ready":
        return 0
    sys.stdout.write(said.decode("utf-8", "replace"))
    return 1


def _child(writer: int) -> int:
    from codesmith.errors import CodeSmithError, error_to_dict
    from codesmith.paths import runtime_dir, state_dir, state_place, writing
    from codesmith.tunnel.logfile import LogFile

    try:
        runtime_dir()
        logging.getLogger("codesmith").setLevel(logging.INFO)
        with writing(path := state_dir() / "forwarder.log"):
            logfile = LogFile(path)
        logging.getLogger("codesmith").addHandler(logfile)
        return serve(writer, logfile.bound)
    except CodeSmithError as error:
        known = error
    except OSError as error:
        log = shlex.quote(str(state_place() / "forwarder.log"))
        known = CodeSmithError(f"the forwarder did not start: {error}", hint=f"see why: tail {log}")
    os.write(writer, json.dumps(error_to_dict(known)).encode())
    return 1


def serve(ready_fd: int | None, tidy: Callable[[], None] = lambda: None) -> int:
    """Serve until told to end; write "ready" to `ready_fd` when the control socket accepts."""
    from codesmith.tunnel.forwarder import Forwarder
    from codesmith.tunnel.link import SshLink

    # A node's refusal is part of life here and has its own line; paramiko's log would repeat it with a traceback.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    threading.stack_size(THREAD_STACK_BYTES)
    take_descriptors()
    forwarder = Forwarder(SshLink)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: forwarder.stop())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    if ready_fd is not None:
        os.write(ready_fd, b"ready")
        os.close(ready_fd)
    forwarder.run(tidy)
    return 0


def take_descriptors() -> None:
    """Use what the system allows: the limit of the shell that happened to start us (`ulimit -n`) was meant for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads may still wait for a node that does not answer; nothing of theirs outlives the process.
    os._exit(status)
