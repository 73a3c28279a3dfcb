"""Wait on the node for the agent's answer, which proves that a release runs."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

from codesmith.bootstrap.on_node.commands import Failed, run

ANSWER_WITHIN_S = 30.0
# A busy machine may start an agent slowly, but one that uses no processor time for so long will not answer.
IDLE_S = 10.0
LOOK_EVERY_S = 0.25
JOURNAL_WITHIN_S = 3.0
ANSWER_MAX = 1 << 16
BODY = b'{"jsonrpc":"2.0","id":1,"method":"node.version","params":{}}'
REQUEST = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Watch:
    """Watches a starting unit: does it still run, and does it use the processor?"""

    def __init__(self, unit: str, since: float) -> None:
        self._unit, self._since = unit, since
        self._used, self._idle_since = "", time.monotonic()

    def check(self) -> None:
        """Raise Failed if the unit has ended by itself (systemd may be restarting it), or if it idles for IDLE_S."""
        argv = ["systemctl", "show", "--property=ActiveState,SubState,NRestarts,MainPID", "--", self._unit]
        found = dict(line.partition("=")[::2] for line in run(argv).splitlines())
        if (
            found.get("ActiveState") in ("failed", "inactive")
            or found.get("SubState") == "auto-restart"
            or found.get("NRestarts") != "0"
        ):
            raise Failed(f"the agent did not answer: {_last_words(self._unit, self._since)}")
        used = _processor_time(found.get("MainPID", ""))
        if used != self._used:
            self._used, self._idle_since = used, time.monotonic()
        elif time.monotonic() - self._idle_since > IDLE_S:
            last = _last_words(self._unit, self._since)
            raise Failed(f"the agent did not answer, and did nothing for {IDLE_S:.0f} s: {last}")


def _processor_time(pid: str) -> str:
    """Return the processor time of a process as /proc shows it; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return " ".join(file.read().rpartition(")")[2].split()[11:13])
    except OSError:
        return ""


def wait_for_answer(path: str, unit: str, build: str, since: float) -> dict[str, Any]:
    """Return the result of node.version; Failed if the unit ends or idles, another build answers, or time runs out.

    An empty `build` accepts any. `since` is when the unit was started: older lines of its journal are ignored.
    """
    deadline, watch = time.monotonic() + ANSWER_WITHIN_S, Watch(unit, since)
    while time.monotonic() < deadline:
        found = _ask_version(path, watch, deadline)
        if found is None:
            watch.check()
            time.sleep(LOOK_EVERY_S)  # it does not listen yet, and there is nothing to wait on
        elif build and found.get("build") != build:
            raise Failed(f"another build answers than the one that was started: {found.get('build')}")
        else:
            return found
    raise Failed(f"the agent did not answer within {ANSWER_WITHIN_S:.0f} s: {_last_words(unit, since)}")


def _last_words(unit: str, since: float) -> str:
    """Return the last line that the unit's program wrote to the journal, else what systemd wrote about it.

    A line reaches the journal a moment after the unit's end is known, also where the journal is told to sync.
    """
    # systemd logs under the unit's name too, until its process becomes the program.
    own = [f"_SYSTEMD_UNIT={unit}", "SYSLOG_IDENTIFIER=python3"]
    deadline = time.monotonic() + JOURNAL_WITHIN_S
    try:
        while time.monotonic() < deadline:
            run(["journalctl", "--sync"])
            found = _last_line(since, own) or _last_line(since, [f"--unit={unit}", "--priority=err"])
            if found:
                return found
            time.sleep(LOOK_EVERY_S)
        return _last_line(since, [f"--unit={unit}"]) or "it logged nothing"
    except Failed as failed:
        return f"its log cannot be read: {failed.command.split(' ')[0]} {failed}"


def _last_line(since: float, matches: list[str]) -> str:
    command = ["journalctl", f"--since=@{since:.6f}", "--lines=5", "--output=cat", "--no-pager", "--quiet"]
    lines = [line.strip() for line in run([*command, *matches]).splitlines() if line.strip()]
    return lines[-1][-300:] if lines else ""


def _ask_version(path: str, watch: Watch, deadline: float) -> dict[str, Any] | None:
    """Call once, while the unit runs; None if there was no answer."""
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(LOOK_EVERY_S)
            peer.connect(path)
            peer.sendall(REQUEST)
            while time.monotonic() < deadline:
                if not select.select([peer], [], [], LOOK_EVERY_S)[0]:
                    watch.check()
                    continue
                chunk = peer.recv(65536)
                if not chunk or len(answer) > ANSWER_MAX:
                    break
                answer += chunk
        found = json.loads(answer.partition(b"\r\n\r\n")[2])["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None
