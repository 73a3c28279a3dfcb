"""`codesmith-job`: background work, for programs and people inside a workspace."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
from typing import Any, Dict, List, Optional

from agent.shared import framing
from agent.supervisor import frames

PROTOCOL = 1
REPLY_BYTES_MAX = 16 << 20
CONNECT_TIMEOUT_S = 10.0
WAIT_S = 3600.0
NO_JOB, INTERRUPTED = 3, 130
ABOUT = """\
Background work in this workspace. A job goes on when the command or session that started it ends, and ends with
`codesmith-job stop`, its time limit, or the workspace's runtime. Its output is kept: the first 1 MiB and the last 8.
"""
EXAMPLES = """\
examples:
  codesmith-job start --name web -- python3 -m http.server 8000
  codesmith-job logs -f web
  codesmith-job stop web
"""


class Failed(Exception):
    """What the program tells on stderr, and its exit code."""

    def __init__(self, problem: str, hint: str = "", code: int = 1) -> None:
        super().__init__(problem)
        self.problem, self.hint, self.code = problem, hint, code


def main(path: str, arguments: List[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(Supervisor(path), options)
        sys.stdout.flush()
    except Failed as failed:
        sys.stderr.write(f"error: {failed.problem}\n" + (f"hint: {failed.hint}\n" if failed.hint else ""))
        return failed.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


class Supervisor:
    """The supervisor of this workspace, on its socket inside."""

    def __init__(self, path: str) -> None:
        self._path = path

    def ask(self, request: str, descriptor: Optional[int] = None, **fields: Any) -> Dict[str, Any]:
        """Return the result of a request; Failed with what it refuses."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CONNECT_TIMEOUT_S)
            try:
                connection.connect(self._path)
                framing.send(connection, {"protocol": PROTOCOL, "request": request, **fields}, descriptor)
                connection.settimeout(None)
                reply = framing.receive(connection, REPLY_BYTES_MAX)
            except OSError as error:
                problem = f"the runtime of this workspace does not answer on {self._path} ({error})"
                name = os.environ.get("CODESMITH_WORKSPACE", "NAME")
                raise Failed(problem, f"from outside: inv workspace.stop {name} (it ends what runs)") from None
        if "error" in reply:
            raise Failed(str(reply["error"]["message"]))
        result: Dict[str, Any] = reply["result"]
        return result

    def find(self, word: str) -> Dict[str, Any]:
        """Return the job of this id, or the newest of this name."""
        jobs = self.ask("job_list")["jobs"]
        for key in ("id", "name"):
            for job in jobs:
                if job[key] == word:
                    found: Dict[str, Any] = job
                    return found
        raise Failed(f"no job {word!r} in this workspace", "codesmith-job list", NO_JOB)


def _start(supervisor: Supervisor, options: argparse.Namespace) -> int:
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not argv:
        raise Failed("no command", "codesmith-job start -- COMMAND", 2)
    if options.name is not None and not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{1,64}", options.name):
        raise Failed("--name takes 1 to 64 characters, without control characters", code=2)
    job = supervisor.ask(
        "job_start", argv=argv, cwd=os.getcwd(), env=dict(os.environ), name=options.name, timeout_s=options.timeout
    )["job"]
    print(job["id"])
    return 0


def _list(supervisor: Supervisor, options: argparse.Namespace) -> int:
    jobs = supervisor.ask("job_list")["jobs"]
    if options.json:
        print(json.dumps(jobs, indent=2))
        return 0
    rows = [("ID", "NAME", "STATE", "CODE", "STARTED", "COMMAND")]
    for job in jobs:
        code = "" if job["exit_code"] is None else str(job["exit_code"])
        command = " ".join(job["argv"])
        command = "".join(one if one.isprintable() else "?" for one in command)
        rows.append((job["id"], job["name"] or "", job["state"], code, job["started_at"][:19] + "Z", command[:80]))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows if jobs else ():
        print("  ".join([*(word.ljust(width) for word, width in zip(row, widths)), row[5]]).rstrip())
    return 0


def _logs(supervisor: Supervisor, options: argparse.Namespace) -> int:
    job = supervisor.find(options.job)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        supervisor.ask("job_attach", theirs.fileno(), id=job["id"], offset=0)
        theirs.close()
        offset, end = 0, None if options.follow else job["stdout_bytes"] + job["stderr_bytes"]
        parser = frames.Parser(tuple(range(10)), frames.OUTPUT_MAX)
        while end is None or offset < end:
            frame = parser.next()
            if frame is None:
                data = ours.recv(1 << 16)
                if not data:
                    raise Failed("the runtime of this workspace has ended")
                parser.add(data)
            elif frame[0] in (frames.STDOUT, frames.STDERR):
                output = (sys.stdout if frame[0] == frames.STDOUT else sys.stderr).buffer
                output.write(frame[1])
                output.flush()
                offset += len(frame[1])
            elif frame[0] == frames.POSITION:
                missed = json.loads(bytes(frame[1]))["offset"] - offset
                if missed:
                    sys.stderr.write(f"\n... {missed} bytes are not kept ...\n")
                    sys.stderr.flush()
                offset += missed
            elif frame[0] == frames.END:
                break
    return 0


def _stop(supervisor: Supervisor, options: argparse.Namespace) -> int:
    job = supervisor.find(options.job)
    supervisor.ask("job_stop", id=job["id"], signal=options.signal, grace_s=options.grace)
    return 0


def _wait(supervisor: Supervisor, options: argparse.Namespace) -> int:
    job = supervisor.find(options.job)
    while job["state"] == "running":
        job = supervisor.ask("job_wait", id=job["id"], timeout_s=WAIT_S)["job"]
    if job["exit_code"] is None:
        raise Failed(f"job {job['id']} is lost: its end was not seen", f"codesmith-job logs {job['id']}")
    code: int = job["exit_code"]
    return code


def _delete(supervisor: Supervisor, options: argparse.Namespace) -> int:
    supervisor.ask("job_delete", id=supervisor.find(options.job)["id"])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "codesmith-job", description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    start = commands.add_parser("start", help="start a command, and print the id of its job")
    start.add_argument("--name", help="what to call it; the other commands take it for the id")
    start.add_argument("--timeout", type=float, metavar="SECONDS", help="end it after so long")
    start.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="no shell is involved")
    start.set_defaults(run=_start)
    list_ = commands.add_parser("list", help="show the jobs of this workspace, the newest first")
    list_.add_argument("--json", action="store_true", help="everything that is known of them")
    list_.set_defaults(run=_list)
    helps = {
        "logs": ("show what a job wrote, stdout and stderr apart", _logs),
        "stop": ("end a job with all it started", _stop),
        "wait": ("wait for the end of a job, and exit with its exit code", _wait),
        "delete": ("forget a job that has ended, and its log", _delete),
    }
    for name, (text, run) in helps.items():
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        if name == "logs":
            command.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
        if name == "stop":
            command.add_argument("--signal", default="SIGTERM", help="the first signal (default: SIGTERM)")
            command.add_argument(
                "--grace", type=float, default=5.0, metavar="SECONDS", help="then SIGKILL, after so long (default: 5)"
            )
        command.add_argument("job", metavar="JOB", help="its id or name")
    return parser
