"""Which refused hosts belong to which job."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from codesmith.errors import AgentRefused
from codesmith.workspace import denied_hosts

TIMES = {"b": "2026-11-30T10:20:00.000Z", "a": "2026-11-30T10:10:00.000Z"}
DENIED = [SimpleNamespace(host=host, last_at=time) for host, time in TIMES.items()]


def job(name: str, begun: int, ended: int | None, **more: Any) -> Any:
    times = [None if minute is None else f"2026-11-30T10:{minute}:00.000Z" for minute in (begun, ended)]
    record = {"state": "exited" if ended else "running", "exit_code": 1 if ended else None, **more}
    return SimpleNamespace(id=name, workspace="demo", started_at=times[0], ended_at=times[1], **record)


class Client:
    """Answers sandbox.get, or refuses it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked, self.sandbox, self._error = 0, self, error

    def get(self, workspace: str) -> Any:
        self.asked += 1
        if self._error:
            raise self._error
        return SimpleNamespace(denied=DENIED)


def of(client: Any, *jobs: Any) -> dict[str, list[str]]:
    return {name: [one.host for one in found] for name, found in denied_hosts.of_jobs(client, jobs).items()}


def test_a_job_has_the_hosts_that_were_refused_while_it_ran() -> None:
    jobs = [job("before", 11, 19), job("first", 10, 15), job("both", 10, 20), job("still", 19, None)]
    client = Client()
    assert of(client, *jobs) == {"before": [], "first": ["a"], "both": ["b", "a"], "still": ["b"]}
    assert client.asked == 1


def test_a_job_that_succeeded_or_waits_has_none_and_nothing_is_asked() -> None:
    client = Client()
    jobs = [job("fine", 10, 20, exit_code=0), job("waits", 10, None, state="waiting")]
    jobs[1].started_at = None
    assert of(client, *jobs) == {"fine": [], "waits": []}
    assert client.asked == 0


def test_without_a_sandbox_there_is_nothing_to_tell() -> None:
    assert of(Client(AgentRefused("no sandbox", code=1404)), job("one", 10, 20)) == {"one": []}
