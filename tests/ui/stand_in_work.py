"""What runs and lies in the workspaces of a stand-in: jobs with their logs and streams, and files, all in memory."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

AT = "2026-11-29T20:53:52.973Z"
HEADER = struct.Struct(">BI")
STDOUT, STDERR, END, SIGNAL, POSITION, REFUSAL = 1, 2, 3, 5, 8, 9
READ_MAX = 1 << 19


class Refusal(Exception):
    def __init__(self, code: int, message: str, **data: Any) -> None:
        self.error = {"code": code, "message": message, "data": data}


class Program:
    """A command that runs. `write` gives out what it writes, `end` ends it; `stopped` is set when it should end."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record, self.stopped = record, threading.Event()
        self.log: list[tuple[int, bytes]] = []
        self.changed = threading.Condition()
        self.connection: socket.socket | None = None
        # Where the log begins: what was before it has been left out.
        self.begins = 0

    def write(self, data: bytes, kind: int = STDOUT) -> None:
        with self.changed:
            self.record["stdout_bytes" if kind == STDOUT else "stderr_bytes"] += len(data)
            if self.connection is None:
                self.log.append((kind, data))
            self.changed.notify_all()
        if self.connection is not None:
            self.connection.sendall(HEADER.pack(kind, len(data)) + data)

    def end(self, exit_code: int = 0, signal: str | None = None, killed_by: str | None = None) -> None:
        with self.changed:
            state = "killed" if signal else "exited"
            self.record |= {
                "state": state,
                "exit_code": exit_code,
                "signal": signal,
                "killed_by": killed_by,
                "ended_at": AT,
            }
            self.changed.notify_all()

    @property
    def is_over(self) -> bool:
        return self.record["ended_at"] is not None

    @property
    def ended(self) -> bytes:
        keys = ("state", "exit_code", "signal", "killed_by")
        data = json.dumps({**{key: self.record[key] for key in keys}, "duration_s": 1.5}).encode()
        return HEADER.pack(END, len(data)) + data


def echo(program: Program) -> None:
    program.write(" ".join(program.record["argv"]).encode() + b"\n")
    program.end()


class Work:
    """job.* and file.* of a stand-in. `programs` has what a command does, by its first word; or it prints itself."""

    def __init__(self) -> None:
        self.programs: dict[str, Callable[[Program], None]] = {}
        self.jobs: dict[str, Program] = {}
        self.tokens: dict[str, tuple[Program, int | None]] = {}
        self.streams = 0
        self.files: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(0xABC000000001)
        self._etags = itertools.count(1)

    # -- jobs

    def job_start(self, workspace: str, argv: list[str], ends_with_stream: bool = False, **more: Any) -> Any:
        record = {
            "id": f"{next(self._ids):012x}", "workspace": workspace, "name": more.get("name"), "argv": argv,
            "state": "waiting" if ends_with_stream else "running", "exit_code": None, "signal": None, "killed_by": None,
            "tty": False, "ends_with_stream": ends_with_stream, "started_at": AT, "ended_at": None, "stdout_bytes": 0,
            "stderr_bytes": 0, "by": "root",
        }  # fmt: skip
        program = self.jobs[record["id"]] = Program(record)
        if ends_with_stream:
            return {**record, "stream": self._token(program, None)}
        self._run(program)
        return {**record, "stream": None}

    def job_list(self, workspace: str, state: str | None = None) -> Any:
        kept = [dict(one.record) for one in self.jobs.values() if one.record["workspace"] == workspace]
        return [one for one in reversed(kept) if not one["ends_with_stream"] and state in (None, one["state"])]

    def job_get(self, workspace: str, id: str) -> Any:  # noqa: A002
        return dict(self._job(id).record)

    def job_attach(self, workspace: str, id: str, offset: int | None = None) -> Any:  # noqa: A002
        return self._token(self._job(id), offset)

    def job_logs(self, workspace: str, id: str, offset: int = 0, **_: Any) -> Any:  # noqa: A002
        program = self._job(id)
        whole = b"".join(data for _, data in program.log)[offset:]
        piece = whole[:1000]
        return {
            "data": base64.b64encode(piece).decode(), "encoding": "base64", "offset": offset,
            "next_offset": offset + len(piece), "eof": len(piece) == len(whole) and program.is_over,
        }  # fmt: skip

    def job_stop(self, workspace: str, id: str, signal: str = "SIGTERM", **_: Any) -> Any:  # noqa: A002
        program = self._job(id)
        program.end(128 + 15, signal, "operator")
        program.stopped.set()
        return dict(program.record)

    def job_delete(self, workspace: str, id: str) -> Any:  # noqa: A002
        if not self._job(id).is_over:
            raise Refusal(1004, "it runs", kind="in_use")
        del self.jobs[id]
        return {"id": id, "deleted": True}

    def end_work(self) -> None:
        """End what still runs."""
        for program in self.jobs.values():
            program.stopped.set()

    def _job(self, number: str) -> Program:
        if number not in self.jobs:
            raise Refusal(1001, f"no job {number} in this workspace", kind="not_found")
        return self.jobs[number]

    def _token(self, program: Program, offset: int | None) -> dict[str, str]:
        token = secrets.token_hex(32)
        self.tokens[token] = program, offset
        return {"token": token, "expires_at": AT}

    def _run(self, program: Program) -> threading.Thread:
        work = self.programs.get(program.record["argv"][0], echo)
        program.record["state"] = "running"

        def run() -> None:
            try:
                work(program)
            except OSError:  # nobody reads any more
                program.end(137, "SIGKILL", "disconnect")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def stream(self, connection: socket.socket, token: str) -> None:
        """Serve a stream to its end, after its request was read."""
        program, offset = self.tokens.pop(token)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: codesmith-stream\r\n\r\n")
        self.streams += 1
        gone = threading.Event()
        threading.Thread(target=self._listen, args=(connection, program, gone), daemon=True).start()
        try:
            if program.record["ends_with_stream"]:
                program.connection = connection
                self._run(program).join()
                connection.sendall(program.ended)
            else:
                self._follow(connection, program, offset or 0, gone)
        finally:
            self.streams -= 1

    def _follow(self, connection: socket.socket, program: Program, offset: int, gone: threading.Event) -> None:
        begins = max(offset, program.begins)
        place = json.dumps({"offset": begins}).encode()
        connection.sendall(HEADER.pack(POSITION, len(place)) + place)
        at, skip = 0, begins - program.begins
        while not gone.is_set():
            with program.changed:
                while at == len(program.log) and not program.is_over and not gone.is_set():
                    program.changed.wait(0.2)
                kept, at = program.log[at:], len(program.log)
                is_over = program.is_over
            for kind, data in kept:
                rest, skip = data[skip:], max(0, skip - len(data))
                if rest:
                    connection.sendall(HEADER.pack(kind, len(rest)) + rest)
            if is_over:
                connection.sendall(program.ended)
                return

    @staticmethod
    def _listen(connection: socket.socket, program: Program, gone: threading.Event) -> None:
        try:
            while connection.recv(65536):
                pass
        except OSError:
            pass
        gone.set()
        if program.record["ends_with_stream"]:
            if not program.is_over:
                program.end(137, "SIGKILL", "disconnect")
            program.stopped.set()

    # -- files

    def put(self, path: str, data: bytes = b"", kind: str = "file", target: str | None = None) -> None:
        """Give the workspace an entry, as if somebody else had made it."""
        self.files[path] = {
            "type": kind,
            "data": data,
            "mode": "0644",
            "target": target,
            "etag": f"e{next(self._etags)}",
        }

    def _file(self, path: str) -> dict[str, Any]:
        if path not in self.files:
            raise Refusal(1001, f"{path}: no such file or directory", kind="not_found")
        one = self.files[path]
        return {
            "path": path, "type": one["type"], "size_bytes": len(one["data"]), "mode": one["mode"], "modified_at": AT,
            "target": one["target"], "etag": one["etag"],
        }  # fmt: skip

    def file_list(self, workspace: str, path: str = ".") -> Any:
        prefix = "" if path == "." else f"{path}/"
        if path != "." and self._file(path)["type"] != "directory":
            raise Refusal(-32602, f"{path} is not a directory", kind="invalid_params")
        return [self._file(one) for one in sorted(self.files)
                if one.startswith(prefix) and "/" not in one[len(prefix):]]  # fmt: skip

    def file_stat(self, workspace: str, path: str) -> Any:
        return self._file(path)

    def file_read(
        self, workspace: str, path: str, offset: int = 0, limit: int = READ_MAX, encoding: str = "text"
    ) -> Any:
        record = self._file(path)
        data = self.files[path]["data"]
        piece = data[offset : offset + limit]
        try:
            text, kind = (piece.decode(), "text") if encoding == "text" else ("", "base64")
        except UnicodeDecodeError:
            text, kind = "", "base64"
        return {
            "data": text if kind == "text" else base64.b64encode(piece).decode(), "encoding": kind,
            "size_bytes": len(data), "next_offset": offset + len(piece), "eof": offset + len(piece) == len(data),
            "etag": record["etag"],
        }  # fmt: skip

    def file_write(
        self, workspace: str, path: str, data: str, encoding: str = "text", mode: str | None = None,
        append: bool = False, if_etag: str | None = None,
    ) -> Any:  # fmt: skip
        there = self.files.get(path)
        if if_etag is not None and if_etag != (there["etag"] if there else "absent"):
            raise Refusal(1004, f"{path} was changed by somebody else", kind="in_use")
        raw = data.encode() if encoding == "text" else base64.b64decode(data)
        before = there["data"] if append and there else b""
        self.put(path, before + raw)
        if mode or there:
            self.files[path]["mode"] = mode or (there or {})["mode"]
        return self._file(path)

    def file_move(self, workspace: str, path: str, new_path: str, replace: bool = False) -> Any:
        self._file(path)
        if new_path in self.files and not replace:
            raise Refusal(1002, f"{new_path} exists", kind="already_exists")
        for one in [one for one in self.files if one == path or one.startswith(f"{path}/")]:
            self.files[new_path + one[len(path) :]] = self.files.pop(one)
        return self._file(new_path)

    def file_remove(self, workspace: str, path: str, recursive: bool = False) -> Any:
        self._file(path)
        inside = [one for one in self.files if one.startswith(f"{path}/")]
        if inside and not recursive:
            raise Refusal(1004, f"{path} is not empty", kind="in_use")
        for one in [path, *inside]:
            del self.files[one]
        return {"path": path, "removed": True}

    def file_make_directory(self, workspace: str, path: str, **_: Any) -> Any:
        if path in self.files:
            raise Refusal(1002, f"{path} exists", kind="already_exists")
        self.put(path, kind="directory")
        return self._file(path)
