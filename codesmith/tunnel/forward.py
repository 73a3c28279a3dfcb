"""One forward of ports into a workspace: an `ssh -N -L` that is started again whenever it ends, until it is stopped."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.http.client import BadAnswer, Closed, Connection
from codesmith.tunnel.backoff import Backoff
from codesmith.tunnel.state import CONNECTING, DEGRADED, READY, STOPPED

log = logging.getLogger("codesmith.tunnel")

# What the ssh of a forward writes once it listens (its LocalCommand).
LISTENS = "listens"
LINES_KEPT = 8
# The agent's code for a workspace that is not there.
NOT_FOUND = 1001
LOOK_S, LOOK_EVERY_S = 8.0, 3.0


class Forward:
    """Keeps ssh running. A workspace that was stopped is not started for it: it waits until the workspace runs again.

    `argv` is the whole command; `endpoint` the socket at which the node answers. `on_change` is called after each
    change of `state`, `on_note` with each line that ssh writes while it is ready. `was_ready`: it has listened once.
    """

    def __init__(
        self,
        name: str,
        workspace: str,
        argv: Sequence[str],
        endpoint: Path,
        *,
        is_resumed: bool = False,
        on_change: Callable[[Forward], None] = lambda _: None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name, self.workspace, self.argv = name, workspace, tuple(argv)
        self._endpoint, self._on_change, self._on_note = endpoint, on_change, on_note
        self.was_ready = is_resumed
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._backoff = Backoff()
        self.state, self.since, self.error = CONNECTING, time.time(), None if not is_resumed else _resuming(name)
        self._thread = threading.Thread(target=self._run, name=f"forward {name}", daemon=True)
        self._thread.start()

    def ensure_ready(self, timeout_s: float) -> None:
        """Return once it listens; raise why not."""
        with self._changed:
            self._changed.wait_for(lambda: self.state != CONNECTING, timeout_s)
            if self.state == READY:
                return
            raise self.error or Unreachable(f"{self.name}: ssh did not listen within {timeout_s:.0f} s")

    def stop(self) -> None:
        """Close the ports and end every connection through them."""
        self._stopped.set()
        process = self._process
        if process is not None:
            process.terminate()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_s)

    @property
    def is_over(self) -> bool:
        """Whether it was stopped, or its first attempt failed."""
        return self.state == STOPPED

    def _run(self) -> None:
        if self.was_ready:
            self._await_workspace()
        while not self._stopped.is_set():
            error = self._hold()
            if self._stopped.is_set() or not self.was_ready:
                self._set(STOPPED, None if self._stopped.is_set() else error)
                return
            self._set(DEGRADED, error)
            self._stopped.wait(self._backoff.wait_s(error))
            self._await_workspace()
        self._set(STOPPED, None)

    def _hold(self) -> CodeSmithError:
        """Run ssh until it ends; return why."""
        # The kernel ends ssh with this thread: nothing listens for a forwarder that was killed.
        bound = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        try:
            process = subprocess.Popen(
                [*bound, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            return CodeSmithError(f"cannot run ssh: {error.strerror}", hint="apt install openssh-client")
        lines: list[str] = []
        with process:
            self._process = process
            if self._stopped.is_set():
                process.terminate()
            listening = threading.Thread(target=self._await_listening, args=(process,), daemon=True)
            listening.start()
            for line in process.stderr or ():
                lines = [*lines, line.rstrip("\r\n")][-LINES_KEPT:]
                if self.state == READY:
                    self._on_note(lines[-1])
            process.wait()
            listening.join()
            self._process = None
        return read_error(lines, self.name)

    def _await_listening(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            if line.strip() == LISTENS:
                self.was_ready = True
                self._backoff.reset()
                self._set(READY, None)

    def _await_workspace(self) -> None:
        """Return once the workspace runs: ssh would start it."""
        while not self._stopped.is_set():
            error = look(self._endpoint, self.workspace)
            if error is None:
                return
            self._set(DEGRADED, error)
            self._stopped.wait(LOOK_EVERY_S)

    def _set(self, state: str, error: CodeSmithError | None) -> None:
        with self._changed:
            is_changed = state != self.state or (error and error.problem) != (self.error and self.error.problem)
            if is_changed:
                self.state, self.error, self.since = state, error, time.time()
            self._changed.notify_all()
        if is_changed:
            log.info("%s: forward %s%s", self.name, state, f" ({error.problem})" if error else "")
            self._on_change(self)


def _resuming(name: str) -> CodeSmithError:
    return Unreachable(f"{name}: not connected again yet")


def read_error(lines: Sequence[str], name: str) -> CodeSmithError:
    """Return what ssh said: the error of its ProxyCommand if there is one, else its last line."""
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    if errors:
        return Unreachable(errors[-1], hint=hints[-1] if hints else "")
    taken = [line for line in lines if line.startswith(("bind ", "bind:"))]
    said = [*taken, *(line for line in reversed(lines) if line)]
    return Unreachable(f"{name}: {said[0]}" if said else f"{name}: ssh ended", hint="inv node.status")


def look(endpoint: Path, workspace: str) -> CodeSmithError | None:
    """Return None if the workspace runs, else what keeps it. Starts nothing."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "workspace.get", "params": {"name": workspace}}
    deadline = time.monotonic() + LOOK_S
    try:
        connection = Connection(endpoint, deadline)
        try:
            _, body, _ = connection.post(json.dumps(call).encode(), deadline)
        finally:
            connection.close()
        return read_look(json.loads(body), workspace)
    except (OSError, BadAnswer, Closed, ValueError) as error:
        return Unreachable(f"no answer from the node: {error}", hint="inv node.status")


def read_look(answer: Any, workspace: str) -> CodeSmithError | None:
    """Return what an answer to workspace.get says: None if the workspace runs."""
    try:
        if "result" in answer:
            if answer["result"]["runtime"]["state"] != "stopped":
                return None
            return Unreachable(f"{workspace} is stopped", hint=f"inv workspace.start {workspace}")
        error = answer["error"]  # of the agent, or of the forwarder
        if error.get("code") == NOT_FOUND:
            return Unreachable(f"{workspace} was deleted", hint=f"inv workspace.forward {workspace} --stop")
        hint = str(error.get("hint") or error.get("data", {}).get("hint", ""))
        return Unreachable(str(error.get("message") or error["problem"]), hint=hint)
    except (KeyError, TypeError, AttributeError) as error:
        return Unreachable(f"the node answered workspace.get with something else: {error!r}", hint="inv node.status")
