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
# Enough for 400 local connections and hundreds of nodes, with their listeners and ProxyCommands.
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
    keep_mocks_out()
    if not chosen.background:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        return serve(None)
    return start_detached()


def keep_mocks_out() -> None:
    """Keep Invoke from importing unittest.mock for its test double: with asyncio and ssl it costs 4 MB."""
    if "invoke" not in sys.modules:
        light = types.ModuleType("unittest.mock")
        light.Mock = object  # type: ignore[attr-defined]
        sys.modules["unittest.mock"] = light


def start_detached() -> int:
    """Fork; return 0 once the child accepts on its control socket, else print its error as JSON and return 1."""
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
        report = pipe.read()
    if report == b"ready":
        return 0
    sys.stdout.write(report.decode("utf-8", "replace"))
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
        return serve(writer, logfile.shorten)
    except CodeSmithError as error:
        failure = error
    except OSError as error:
        log = shlex.quote(str(state_place() / "forwarder.log"))
        failure = CodeSmithError(f"the forwarder did not start: {error}", hint=f"see why: tail {log}")
    os.write(writer, json.dumps(error_to_dict(failure)).encode())
    return 1


def serve(ready_fd: int | None, tidy: Callable[[], None] = lambda: None) -> int:
    """Serve until `stop`, SIGTERM or the last endpoint is gone; write "ready" to `ready_fd` once the socket accepts.

    `tidy` is called about every 20 s.
    """
    from codesmith.tunnel.forwarder import Forwarder
    from codesmith.tunnel.link import SshLink

    # A node that refuses is normal here and has its own log line; paramiko's log would repeat it with a traceback.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    threading.stack_size(THREAD_STACK_BYTES)
    raise_descriptor_limit()
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


def raise_descriptor_limit() -> None:
    """Raise the limit of descriptors as far as the system allows: `ulimit -n` was set for the shell, not for this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads may still wait for a node that does not answer; they end with the process.
    os._exit(status)
