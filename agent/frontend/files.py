"""file.*: what the front end does for them. A fork of the workspace's supervisor carries them out, as its login.

Request and answer lie in memory that is shared with it for this one call: what is in files is in no message, log or
store. The login controls what the answer says, so the answer is checked like any other input.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Dict, Optional

from agent.contract.records.file import FileContents
from agent.frontend import file_answers, runtime_client, workspace_records
from agent.frontend.context import Context
from agent.frontend.runtime_client import REPLY_GRACE_S
from agent.shared import framing
from agent.shared.errors import AgentError, CommandFailed, InvalidParams, LimitReached

# Of a directory that is removed with all that is in it; all else is done in a moment, or refuses by itself.
TIMEOUT_S, REMOVE_TIMEOUT_S = 60.0, 120.0
CHANGES = ("edit", "make_directory", "move", "remove", "write")
ANSWER_BYTES_MAX = 16 << 20
# A directory has 10,000 entries at most, each of ten values.
VALUES_MAX = 1 << 17
OFFSET_MAX = (1 << 63) - (1 << 20)


def call(context: Context, workspace: str, action: str, **fields: Any) -> Any:
    """Return the result of an action on files of a workspace, as its login gives it; AgentError when it refuses."""
    document = workspace_records.find_ready(context, workspace)
    request = {"action": action, "root": document["path"], **fields}
    answer = _call_runtime(context, workspace, request, REMOVE_TIMEOUT_S if action == "remove" else TIMEOUT_S)
    if "refused" in answer:
        raise file_answers.refusal(workspace, fields, action, answer)
    return answer.get("result")


def read(context: Context, workspace: str, path: str, offset: int, limit: int, encoding: str) -> FileContents:
    """Return a piece of a file: text if it is UTF-8 and text was asked for, otherwise base64."""
    if offset > OFFSET_MAX:
        raise InvalidParams.of("offset", "is larger than any file")
    is_text = encoding == "text"
    result = call(context, workspace, "read", path=path, offset=offset, limit=limit, whole_characters=is_text)
    return file_answers.contents(result, offset, is_text=is_text)


def encoded(field: str, data: str, encoding: str) -> str:
    """Return what a caller gave as text or base64 as base64; InvalidParams when it is neither."""
    try:
        raw = base64.b64decode(data, validate=True) if encoding == "base64" else data.encode()
    except UnicodeEncodeError:
        raise InvalidParams.of(field, "has half of a surrogate pair; use base64 for what is not text") from None
    except ValueError:
        raise InvalidParams.of(field, "must be base64") from None
    return base64.b64encode(raw).decode("ascii")


def parse_mode(mode: Optional[str]) -> Optional[int]:
    """Return a mode as a number."""
    return None if mode is None else int(mode, 8)


def _call_runtime(context: Context, workspace: str, request: Dict[str, Any], timeout_s: float) -> Dict[str, Any]:
    memory = os.memfd_create("codesmith-files", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(json.dumps(request).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        done = context.runtimes.call(
            workspace, "files", descriptor=memory, reply_timeout_s=timeout_s + REPLY_GRACE_S, timeout_s=timeout_s
        )
        try:
            _check_end(workspace, runtime_client.check_ended(done))
            return _read_answer(memory)
        except AgentError as error:
            # It is not known how far it came: a repeated call with its id must not add to a file twice.
            error.is_pending = request["action"] in CHANGES
            raise
    finally:
        os.close(memory)


def _check_end(workspace: str, ended: Dict[str, Any]) -> None:
    if ended["killed_by"] == "memory":
        raise file_answers.memory(workspace)
    if ended["killed_by"] == "timeout":
        problem = "it did not end in time and was stopped; it may have been carried out in part"
        raise LimitReached(problem, hint=f"inv file.list {workspace}")
    if ended["exit_code"]:
        problem = "it was ended before it could answer; it may have been carried out"
        raise CommandFailed(problem, hint="try again", command="files", exit_code=ended["exit_code"], stderr="")


def _read_answer(memory: int) -> Dict[str, Any]:
    """Return the answer that a job has put into memory; its login may still write there, or make it longer."""
    size = os.fstat(memory).st_size
    if size > ANSWER_BYTES_MAX:
        raise runtime_client.nonsense()
    text = os.pread(memory, size, 0)
    try:
        return framing.parse(text, VALUES_MAX)
    except ConnectionError:
        raise runtime_client.nonsense() from None
