"""The audit record: one line of JSON for each attempt to change something, refused ones too.

Records are appended to a file that only root and the agent can write, and to the journal. JSON escapes line breaks. The
cursor of a record is the position of its line and a digest of the line. So pages do not depend on the clock, and
continue in a file that was moved aside meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import posixpath
import pwd
import stat
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

from agent.shared.clock import RisingClock
from agent.shared.paths import UPLOAD

# The parameters that name a user or a workspace, and those that a record shows. All others (keys, environment, standard
# input, argv) stay out of it.
TARGETS = ("name", "user", "workspace")
SHOWN = (*TARGETS, "id", "path", "new_path", "how")
CREDENTIALS = ("agent", "ssh_key", "token", "password")
PATH = "/var/log/codesmith/audit.jsonl"
# A refused call may hold anything: texts are cut to this length, so that a line is short and never cut itself.
TEXT_MAX = 128
# The etag of what is not there yet.
ABSENT = "absent"
FIELDS = {"time", "method", "request_id", "peer_uid", "peer_login", "target", "outcome", "duration_s"}
# What only some records have; null in all others.
ENDED = ("exit_code", "signal", "killed_by")
SOMETIMES = ("owner", *ENDED, "token")
CURSOR = "[0-9a-f]{1,16}-[0-9a-f]{16}"
# So many files beside the audit file are searched for a cursor.
FILES_MAX = 100
LINE_BYTES_MAX = 16384
CHUNK_BYTES = 65536
# More than there can be changes in progress.
TAIL_LINES = 1000


class Audit:
    """An append-only file; a record is on disk before its call is answered."""

    def __init__(self, path: str) -> None:
        self._lock, self._path = threading.Lock(), path
        self._order, self._clock = threading.Lock(), RisingClock()
        self.descriptor = self._open()
        size = os.fstat(self.descriptor).st_size
        if size and os.pread(self.descriptor, 1, size - 1) != b"\n":
            self.append(b"\n")  # a power cut tore the last line: end it, so that the next one is whole

    def note(self, attempt: Attempt, outcome: str) -> None:
        """Append the record of an attempt; `outcome` is "ok" or the kind of the error."""
        with self.next_line(attempt, outcome) as line:
            self.write(line)

    @contextmanager
    def next_line(self, attempt: Attempt, outcome: str) -> Iterator[str]:
        """Yield the record of an attempt, which the caller writes in this context; other records wait meanwhile."""
        with self._order:
            yield attempt.record(outcome, self._clock.now())

    def with_time_now(self, line: str) -> str:
        """Return the record of an interrupted attempt with the time of now; `line` was made when it began."""
        record = json.loads(line)
        begun, now = record["time"], self._clock.now()
        duration_s = (parse_time(now) - parse_time(begun)).total_seconds()
        return _dump({**record, "time": now, "duration_s": round(max(duration_s, 0.0), 4)})

    def write(self, line: str) -> None:
        """Append one record to the file, and to the journal even if the file cannot be written."""
        try:
            with self._lock:
                self._follow()
                self.append(line.encode() + b"\n")
                os.fsync(self.descriptor)
        except OSError as error:  # a full disk must not stop deletions; the journal has the record
            print(f"the audit file cannot be written: {error}", file=sys.stderr, flush=True)
        print("audit " + line, file=sys.stderr, flush=True)

    def has(self, line: str) -> bool:
        """Return whether a record is among the last TAIL_LINES of the file."""
        wanted = line.encode()
        return any(there == wanted for _, there in itertools.islice(self._lines(), TAIL_LINES))

    def _lines(self) -> Iterator[Tuple[int, bytes]]:
        return _lines_backwards(self.descriptor, os.fstat(self.descriptor).st_size)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _follow(self) -> None:
        """Begin a new file when this one was moved away, as logrotate does."""
        try:
            if os.path.samestat(os.lstat(self._path), os.fstat(self.descriptor)):
                return
        except FileNotFoundError:
            pass
        moved, self.descriptor = self.descriptor, self._open()
        os.close(moved)
        folder = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def append(self, data: bytes) -> None:
        """Append all of `data` or nothing: half a line would damage the next one too."""
        size = os.fstat(self.descriptor).st_size
        if os.write(self.descriptor, data) != len(data):
            os.ftruncate(self.descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Attempt:
    """One call that tries to change something. It leaves one record, which may stand for `more` equal attempts."""

    def __init__(
        self, method: str, params: Any, peer_uid: Optional[int], *, more: int = 0,
        owner_of: Callable[[str], Optional[str]] = lambda _: None, token: Optional[Dict[str, str]] = None,
    ) -> None:  # fmt: skip
        self._method, self._params, self._more = method, params if isinstance(params, dict) else {}, more
        self.peer_uid, self.token, self._begun = peer_uid, token, time.monotonic()
        workspace = self._params.get("name" if method.startswith("workspace.") else "workspace")
        # The user whose workspace it is now: a record says it also when the workspace is somebody else's later.
        self._owner = owner_of(workspace) if isinstance(workspace, str) and len(workspace) <= TEXT_MAX else None
        self._learnt: Dict[str, Any] = {}
        self._is_upload = False
        # The id of its record in the store, if one was stored before its end.
        self.announced: Optional[int] = None

    @property
    def is_piece(self) -> bool:
        """Whether it has added a piece to an upload. The first piece and the move have records; these have none."""
        is_added = self._method == "file.write" and self._params.get("append") is True
        return is_added and self._params.get("if_etag") not in (None, ABSENT) and self._is_upload

    def learn(self, result: Any) -> None:
        """Take from the result of the call what its record shows: how a command ended, the id of a job, a new owner."""
        if not isinstance(result, dict):
            return
        if self._method == "file.write":
            # What was written to, not what was named: that may be a link.
            self._is_upload = posixpath.basename(result["path"]).startswith(UPLOAD)
        elif self._method == "workspace.exec":
            self.end(result)
        elif self._method == "job.start":
            self._params = {**self._params, "id": result["id"]}
        elif self._method.startswith("workspace.") and self._owner is None:
            self._owner = result.get("user")

    def end(self, ended: Mapping[str, Any], duration_s: Optional[float] = None) -> None:
        """Take how a command ended, and how long it ran if that is not how long this took."""
        self._learnt = {key: ended[key] for key in ENDED}
        if duration_s is not None:
            self._learnt["duration_s"] = duration_s

    def record(self, outcome: str, time_: str) -> str:
        """Return its record as one line of JSON."""
        request_id = self._params.get("request_id")
        record = {
            "time": time_,
            "method": self._method,
            "request_id": request_id[:TEXT_MAX] if isinstance(request_id, str) else None,
            "peer_uid": self.peer_uid,
            "peer_login": login_of_uid(self.peer_uid),
            "target": {**target_of(self._params), **({"more": str(self._more)} if self._more else {})},
            "outcome": outcome,
            "duration_s": round(time.monotonic() - self._begun, 4),
            **({} if self._owner is None else {"owner": self._owner}),
            **({} if self.token is None else {"token": self.token}),
            **self._learnt,
        }
        return _dump(record)


def parse_time(text: str) -> datetime:
    """Return a time of RFC 3339; ValueError when the text is not one, or has no time zone."""
    # Python 3.9 does not read the Z.
    time_ = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)
    if time_.tzinfo is None:
        raise ValueError("no time zone")
    return time_


def _dump(record: Dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))


def target_of(params: Dict[str, Any]) -> Dict[str, str]:
    """Return what a call named, and the kind of its credential; never the credential itself."""
    target = {field: params[field][:TEXT_MAX] for field in SHOWN if isinstance(params.get(field), str)}
    repo = params.get("repo")
    credential = (repo if isinstance(repo, dict) else params).get("credential")
    kinds = [kind for kind in CREDENTIALS if isinstance(credential, dict) and kind in credential]
    return {**target, "credential": kinds[0]} if kinds else target


def login_of_uid(uid: Optional[int]) -> Optional[str]:
    """Return the login of a uid; None when it has none."""
    if uid is None:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def read_backwards(path: str = PATH, cursor: str = "") -> Iterator[Dict[str, Any]]:
    """Yield the records with their cursors, newest first: all, or those before `cursor`. Reads by chunks.

    Lines that are not a record (a power cut tore them) are left out. LookupError when the record of the cursor is
    neither in the file nor in a file beside it.
    """
    try:
        descriptor, end = _open_at_cursor(path, cursor) if cursor else _open_at_end(path)
    except FileNotFoundError:
        return
    try:
        for place, line in _lines_backwards(descriptor, end):
            record = _parse(line)
            if record is not None:
                yield {**record, "cursor": _cursor(place, line)}
    finally:
        os.close(descriptor)


def _cursor(place: int, line: bytes) -> str:
    return f"{place:x}-{hashlib.sha256(line).hexdigest()[:16]}"


def _open_at_end(path: str) -> Tuple[int, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    return descriptor, os.fstat(descriptor).st_size


def _open_at_cursor(path: str, cursor: str) -> Tuple[int, int]:
    """Open the file that has the line of a cursor: `path`, or a file beside it, where logrotate moves or copies it."""
    place, folder = int(cursor.partition("-")[0], 16), os.path.dirname(path)
    beside = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    for candidate in (path, *beside[:FILES_MAX]):
        try:
            descriptor, size = _open_at_end(candidate)
        except OSError:
            continue
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if is_file and place < size and cursor == _cursor(place, _line_at(descriptor, place)):
            return descriptor, place
        os.close(descriptor)
    raise LookupError(cursor)


def _line_at(descriptor: int, place: int) -> bytes:
    return os.pread(descriptor, LINE_BYTES_MAX, place).partition(b"\n")[0]


def _lines_backwards(descriptor: int, end: int) -> Iterator[Tuple[int, bytes]]:
    """Yield position and text of the lines before `end`, last first; a line over LINE_BYTES_MAX may be cut."""
    place, rest = end, b""
    while place > 0:
        size = min(CHUNK_BYTES, place)
        place -= size
        lines = (os.pread(descriptor, size, place) + rest).split(b"\n")
        begins = itertools.accumulate((len(line) + 1 for line in lines), initial=place)
        first, *others = zip(begins, lines)
        yield from reversed(others)
        rest = first[1][-LINE_BYTES_MAX:]
    yield 0, rest


def _parse(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not FIELDS <= set(record) <= {*FIELDS, *SOMETIMES}:
        return None
    return {**dict.fromkeys(SOMETIMES), **record}
