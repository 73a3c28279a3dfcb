"""What a workspace says of its files, checked: it is the word of its login."""

from __future__ import annotations

import base64
import re
import shlex
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Type

from agent.contract.records.file import File, FileContents, FileMatch, FileRemoved
from agent.frontend.runtime_client import is_count, nonsense
from agent.shared.clock import to_text
from agent.shared.errors import (
    AgentError,
    AlreadyExists,
    CommandFailed,
    InUse,
    InvalidParams,
    LimitReached,
    NotFound,
    Unsupported,
)

TYPES = ("file", "directory", "link", "fifo", "socket", "device")
ETAG = "[0-9a-f]{1,16}(-[0-9a-f]{1,16}){3}"
MODE_MAX = 0o7777
TEXT_MAX = 4096
# A file system may hold times that no calendar has.
YEARS = (datetime(1, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc))


class Refusal(NamedTuple):
    """The error for a word of a refusal, and the next command."""

    kind: Type[AgentError]
    hint: str = ""


REMOVE = "inv file.remove {workspace} {path} --recursive"
LIST, STAT = "inv file.list {workspace}", "inv file.stat {workspace} {path}"
REFUSALS = {
    "busy": Refusal(InUse, "try again"),
    "changed": Refusal(InUse, STAT),
    "exists": Refusal(AlreadyExists, STAT),
    "failed": Refusal(CommandFailed, STAT),
    "full": Refusal(LimitReached, "inv workspace.usage {workspace}"),
    "memory": Refusal(LimitReached, "inv sandbox.create {workspace} --memory SIZE allows it more"),
    "missing": Refusal(NotFound, LIST),
    "not_empty": Refusal(InUse, "inv file.list {workspace} --path {path}"),
    "other_file_system": Refusal(Unsupported, "inv workspace.exec {workspace} -- mv {path} NEW_PATH"),
    "quota": Refusal(LimitReached, "on the node: repquota -a"),
    "time": Refusal(LimitReached, "give a narrower `path`, or a simpler pattern"),
    "too_large": Refusal(LimitReached, "inv workspace.exec {workspace} -- COMMAND"),
}


def refusal(workspace: str, fields: Dict[str, Any], action: str, answer: Dict[str, Any]) -> AgentError:
    """Return the error for a refusal. Only its sentence is the login's; kind and hint are ours."""
    message = str(answer.get("message"))[:TEXT_MAX]
    if answer.get("refused") == "wrong":
        field = answer.get("field")
        problem = InvalidParams.of(str(field) if field in fields else "path", message)
        if is_count(answer.get("count")):
            problem.data["count"] = answer["count"]
        return problem
    found = REFUSALS.get(str(answer.get("refused")))
    if found is None:
        return nonsense()
    template = REMOVE if (action, answer["refused"]) == ("remove", "not_empty") else found.hint
    hint = template.format(workspace=workspace, path=_quoted_path(fields.get("new_path") or fields.get("path") or "."))
    error = found.kind(message, hint=hint)
    if found.kind is CommandFailed:
        error.data.update(command=f"file.{action}", exit_code=None, stderr=message)
    return error


def memory(workspace: str) -> LimitReached:
    """Return the error for a job that the kernel ended for lack of memory."""
    hint = REFUSALS["memory"].hint.format(workspace=workspace)
    return LimitReached("it needed more memory than it may have in this workspace, and was ended", hint=hint)


def file(record: Any) -> File:
    """Return the record of one entry."""
    if not isinstance(record, list) or len(record) != 7:
        raise nonsense()
    path, kind, size, mode, modified_ns, target, etag = record
    if not (
        _is_path(path)
        and kind in TYPES
        and is_count(size)
        and (is_count(mode) and mode <= MODE_MAX)
        and isinstance(modified_ns, int)
        and (target is None or _is_path(target))
        and re.fullmatch(ETAG, str(etag))
    ):
        raise nonsense()
    return {
        "path": path, "type": kind, "size_bytes": size, "mode": f"{mode:04o}", "modified_at": _time(modified_ns),
        "target": target, "etag": etag,
    }  # fmt: skip


def files(records: Any) -> Iterator[File]:
    """Yield the records of entries; there may be ten thousand."""
    return (file(record) for record in _list(records))


def contents(result: Any, offset: int, *, is_text: bool) -> FileContents:
    """Return a piece of a file, as text if it is."""
    known = result if isinstance(result, dict) else {}
    size: Any = known.get("size_bytes")
    following: Any = known.get("next_offset")
    etag = str(known.get("etag"))
    try:
        data = base64.b64decode(known.get("data"), validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise nonsense() from None
    is_known = is_count(size) and following == offset + len(data) and isinstance(known.get("eof"), bool)
    if not is_known or not re.fullmatch(ETAG, etag):
        raise nonsense()
    text = _decoded(data) if is_text else None
    return {
        "data": base64.b64encode(data).decode("ascii") if text is None else text,
        "encoding": "base64" if text is None else "text",
        "size_bytes": size, "next_offset": following, "eof": known["eof"], "etag": etag,
    }  # fmt: skip


def matches(result: Any) -> List[FileMatch]:
    """Return what a search has found."""
    return [_match(one) for one in _list(result)]


def removed(path: Any) -> FileRemoved:
    """Return what was removed."""
    if not _is_path(path):
        raise nonsense()
    return {"path": path, "removed": True}


def _match(found: Any) -> FileMatch:
    if not isinstance(found, list) or len(found) != 3:
        raise nonsense()
    path, line, text = found
    if not (_is_path(path) and is_count(line) and line > 0 and isinstance(text, str)):
        raise nonsense()
    return {"path": path, "line": line, "text": text}


def _list(value: Any) -> List[Any]:
    if not isinstance(value, list):
        raise nonsense()
    return value


def _is_path(value: Any) -> bool:
    # Longer than a path that a caller gives: what is below it is longer.
    return isinstance(value, str) and 0 < len(value) <= 4 * TEXT_MAX and "\0" not in value


def _decoded(data: bytes) -> Optional[str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _time(ns: int) -> str:
    first, last = (int(year.timestamp()) for year in YEARS)
    seconds = min(max(ns // 1_000_000_000, first), last)
    moment = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=ns % 1_000_000_000 // 1000)
    return to_text(moment, "milliseconds")


def _quoted_path(path: str) -> str:
    """Return a path as a word of a shell; one that cannot be typed is left to the reader."""
    return shlex.quote(path) if path.isprintable() else "PATH"
