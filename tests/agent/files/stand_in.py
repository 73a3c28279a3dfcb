"""file.* without a node: the methods themselves, with a directory of this machine in the place of a runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.frontend import workspace_records
from agent.methods import METHODS
from agent.shared.errors import AgentError
from tests.sdk.sdk_doubles import error, result

TOP = Path(__file__).parents[3]
# What a fork of the supervisor does.
RUN = "import sys; sys.path.insert(0, sys.argv[1]); from agent.files import job; job.run({}, int(sys.argv[2]))"
# A login does not get past the mode of a file, as root does.
AS_LOGIN = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
ENDED = {"exit_code": 0, "signal": None, "killed_by": None, "duration_s": 0.1}


class StandInFiles:
    """A workspace `demo` that is a directory. `forge` changes what its login answers, `ended` how the job ends."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.calls = folder, list[tuple[str, dict[str, Any]]]()
        self.forge: Callable[[bytes], bytes] = lambda answer: answer
        self.ended: dict[str, Any] = ENDED
        self._methods = {method.name: method.function for method in METHODS}
        self._context = SimpleNamespace(runtimes=SimpleNamespace(call=self._runtime))
        monkeypatch.setattr(workspace_records, "find_ready", lambda context, name: {"path": str(folder)})

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of a method; AgentError when it is refused."""
        params.pop("request_id", None)
        self.calls.append((method, params))
        found = self._methods[method](self._context, **params)
        return list(found) if method == "file.list" else found

    def answer(self, request: dict[str, Any]) -> bytes:
        """Answer a request as a scripted endpoint does."""
        try:
            done = result(self.call(request["method"], **request["params"]))
        except AgentError as refusal:
            done = error(refusal.code, refusal.problem, **refusal.data)
        answer: bytes = done(request)
        return answer

    def _runtime(self, workspace: str, request: str, *, descriptor: int, **_: Any) -> dict[str, Any]:
        assert (workspace, request) == ("demo", "files")
        asked = json.loads(os.pread(descriptor, 1 << 24, 0))
        assert asked["root"] == str(self.folder)
        command = [*AS_LOGIN, sys.executable, "-I", "-S", "-c", RUN, str(TOP), str(descriptor)]
        subprocess.run(command, cwd=self.folder, pass_fds=[descriptor], check=True)
        answer = self.forge(os.pread(descriptor, 1 << 24, 0))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, answer, 0)
        return self.ended
