"""Commands, logs and forwards of a page at the server: who gets what, at which pace, and what ends with the page."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time

import pytest

from codesmith.errors import CodeSmithError
from codesmith.tunnel.state import ForwardState
from codesmith.ui import outputs, page_work
from codesmith.workspace import forwards
from tests.ui.conftest import Events

pytestmark = pytest.mark.slow


class Page:
    """A page that is open: its stream, and what came of its commands and logs."""

    def __init__(self, ui, **view):
        self.ui, self.heard = ui, []
        self.stream = Events(ui, view)
        self.id = self._next("begin")["page"]

    def _next(self, wanted=""):
        name = ""
        while True:
            line = self.stream.answer.readline().decode()
            assert line, "the stream ended"
            if line.startswith("event: "):
                name = line[7:].strip()
            if line.startswith("data: ") and name in (wanted or ("output",)):
                return json.loads(line[6:])

    def asks(self, what, output="one", **params):
        status, _, body = self.ui.post(
            f"/nodes/web1/{what}", {"page": self.id, "output": output, "workspace": "shop", **params}
        )
        return status, json.loads(body)

    def until(self, is_so):
        while not is_so(self.heard):
            self.heard.append(self._next())
        return self.heard

    def text(self, stream="stdout", output="one"):
        pieces = [one["data"] for one in self.heard if one["kind"] == stream and one["output"] == output]
        return b"".join(base64.b64decode(piece) for piece in pieces)

    def ended(self, output="one"):
        def is_so(heard):
            return any(one["output"] == output and one["kind"] not in ("stdout", "stderr") for one in heard)

        self.until(is_so)
        return next(one for one in self.heard if one["output"] == output and one["kind"] not in ("stdout", "stderr"))

    def close(self):
        self.stream.__exit__()


def until(is_so):
    deadline = time.monotonic() + 8
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def shop(ui):
    ui.nodes["web1"].add("shop")
    return ui


@pytest.fixture
def page(shop):
    with contextlib.closing(Page(shop, node="web1", workspace="shop")) as page:
        yield page


def test_a_command_is_told_to_its_own_page_in_order_with_its_end(shop, page):
    def work(program):
        program.write(b"one")
        program.write(b"two", 2)
        program.write(b"\xff\x00three")
        program.end(7)

    shop.nodes["web1"].programs["make"] = work
    with contextlib.closing(Page(shop, node="web1", workspace="shop")) as other:
        status, answer = page.asks("exec", argv=["make"], timeout_s=5)
        assert (status, answer["job"]["argv"]) == (200, ["make"])
        assert "stream" not in answer["job"], "a token is nothing for a page"
        assert page.ended()["data"]["exit_code"] == 7
        assert [one["kind"] for one in page.heard] == ["stdout", "stderr", "stdout", "end"]
        assert page.text() == b"one\xff\x00three"
        other.asks("exec", output="mine", argv=["echo"])
        other.ended("mine")
        assert {one["output"] for one in other.heard} == {"mine"}


def test_a_page_that_does_not_read_stops_its_command_and_costs_little(shop, page):
    wrote = [0]

    def flood(program):
        while not program.stopped.is_set():
            program.write(b"x" * 65536)
            wrote[0] += 65536

    shop.nodes["web1"].programs["yes"] = flood
    assert page.asks("exec", argv=["yes"])[0] == 200
    (watcher,) = [one for one in shop.server.store.watchers() if one.id == page.id]
    before, same = -1, 0
    while same < 5:
        time.sleep(0.1)
        same = same + 1 if wrote[0] == before else 0
        before = wrote[0]
        # One piece may come on top, with what base64 adds.
        assert watcher.outputs.waiting_bytes <= outputs.WAITING_BYTES_MAX + (400 << 10)
    assert wrote[0] < 16 << 20, "what stands in sockets on the way"
    with contextlib.closing(Page(shop, node="web1")) as other:
        other.asks("exec", output="mine", argv=["echo", "other"])
        assert other.ended("mine")["data"]["exit_code"] == 0, "others are not held up"
    page.close()
    (job,) = [one for one in shop.nodes["web1"].jobs.values() if one.record["argv"] == ["yes"]]
    until(lambda: job.stopped.is_set())


def test_commands_end_with_their_page_and_jobs_do_not(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    job = agent.jobs[agent.job_start("shop", ["sleep"])["id"]]
    page.asks("exec", argv=["sleep", "1"])
    page.asks("follow", output="log", id=job.record["id"], offset=0)
    until(lambda: agent.streams == 2)
    page.close()
    until(lambda: agent.streams == 0)
    (command,) = [one for one in agent.jobs.values() if one is not job]
    assert command.record["killed_by"] == "disconnect"
    assert not job.is_over


def test_a_command_is_ended_without_its_page(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    page.asks("exec", argv=["sleep", "1"])
    until(lambda: agent.streams == 1)
    assert shop.post("/outputs/end", {"page": page.id, "output": "one"})[0] == 200
    until(lambda: agent.streams == 0)
    assert page.asks("exec", argv=["echo"])[0] == 200, "its name is free again"


def test_a_log_is_read_from_an_offset_and_says_where_the_next_byte_stands(shop, page):
    agent = shop.nodes["web1"]
    job = agent.jobs[agent.job_start("shop", ["echo", "hello"])["id"]]
    until(lambda: job.is_over)
    page.asks("follow", id=job.record["id"], offset=5)
    assert page.ended()["kind"] == "end"
    assert page.text() == b"hello\n"
    assert page.heard[0]["offset"] == 11
    assert "job.start" not in agent.calls


@pytest.mark.parametrize(
    ("what", "params", "problem"),
    [
        ("exec", {"argv": []}, "argv"),
        ("exec", {"argv": ["x"], "cwd": 7}, "cwd"),
        ("follow", {"id": "abcabcabcabc"}, "no job"),
        ("follow", {"id": "../x"}, "12 hexadecimal"),
        ("follow", {"id": "abcabcabcabc", "offset": "0"}, "offset"),
    ],
)
def test_what_the_agent_refuses_is_an_answer(shop, page, what, params, problem):
    status, answer = page.asks(what, **params)
    assert status == 200
    assert problem in json.dumps(answer["error"])
    assert answer["error"]["code"] in (-32602, 1001)


def test_what_is_no_request_of_an_open_page_is_refused(shop, page):
    agent = shop.nodes["web1"]
    good = {"page": page.id, "output": "one", "workspace": "shop", "argv": ["x"]}
    for wrong in ({"page": "other"}, {"page": None}, {"output": "a b"}, {"output": 7}, {"output": "x" * 41}):
        assert shop.post("/nodes/web1/exec", {**good, **wrong})[0] == 409
    assert shop.post("/nodes/none/exec", good)[0] == 404
    assert shop.post("/outputs/end", {"page": page.id, "output": "never"})[0] == 200
    # A page says what to run, and not how: no input, no terminal, no job that stays.
    more = {"stdin": "stream", "tty": {"rows": 1, "cols": 1, "term": "x"}, "ends_with_stream": False, "name": "x"}
    assert shop.post("/nodes/web1/exec", {**good, **more})[0] == 200
    (params,) = [params for method, params in agent.requests if method == "job.start"]
    assert (params["stdin"], params["ends_with_stream"]) == ("none", True)
    assert not {"tty", "name", "page", "output"} & set(params)


def test_a_page_has_a_bounded_number_of_them(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    for number in range(outputs.AT_ONCE):
        assert page.asks("exec", output=f"o{number}", argv=["sleep"])[0] == 200
    status, answer = page.asks("exec", output="more", argv=["sleep"])
    assert status == 409
    assert "close one of them" in answer["error"]["problem"]
    assert page.asks("exec", output="o1", argv=["sleep"])[0] == 409, "a name is used once"


def test_a_node_that_goes_is_said_to_be_lost(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    page.asks("exec", argv=["sleep"])
    until(lambda: agent.streams == 1)
    agent.stop()
    end = page.ended()
    assert end["kind"] == "lost"
    assert "ended before the command did" in end["data"]["problem"]


def test_read_only_pages_run_stop_and_forward_nothing_and_read_logs(serve):
    ui = serve("web1", read_only=True)
    ui.enter()
    agent = ui.nodes["web1"]
    agent.add("shop")
    job = agent.job_start("shop", ["echo", "hello"])
    with contextlib.closing(Page(ui, node="web1", workspace="shop")) as page:
        for what in ("exec", "forward", "unforward"):
            status, answer = page.asks(what, argv=["x"], port=80)
            assert status == 200
            assert answer["error"]["data"]["kind"] == "read_only_ui"
        assert "job.start" not in agent.calls
        page.asks("follow", id=job["id"], offset=0)
        page.ended()
        assert page.text() == b"echo hello\n"
    for method in ("job.start", "job.stop", "job.delete", "file.write", "file.move", "file.remove", "file.edit"):
        assert ui.rpc("web1", method)["error"]["data"]["kind"] == "read_only_ui"


def made(port, local):
    return ForwardState("web1", "nodes.yaml", "shop", port, local, "ready", "", time.time())


def test_forwards_of_a_workspace_are_told_started_and_stopped(shop, page, monkeypatch):
    there = {}
    asked = []

    def start(node, workspace, port, local=0, *, any_port=False):
        asked.append((node.name, workspace, port, local, any_port))
        there[port] = made(port, local or port)
        return there[port]

    monkeypatch.setattr(forwards, "list_forwards", lambda node, workspace: list(there.values()))
    monkeypatch.setattr(forwards, "start_forward", start)
    monkeypatch.setattr(forwards, "stop_forwards", lambda node, workspace, port: [there.pop(port)])
    with shop.events(node="web1", workspace="shop") as stream:
        status, answer = page.asks("forward", port=3000)
        assert (status, answer["address"]) == (200, "127.0.0.1:3000")
        stream.until(lambda now: now.get("web1", "forward/shop/3000"))
        page.asks("forward", port=3001, local=8000)
        assert asked == [("web1", "shop", 3000, 0, True), ("web1", "shop", 3001, 8000, False)]
        assert page.asks("unforward", port=3000)[0] == 200
        stream.until(lambda now: not now.get("web1", "forward/shop/3000"))


@pytest.mark.parametrize(
    "wrong", [{"port": "80"}, {"port": 0}, {"port": 65536}, {"port": True}, {"port": 80, "local": -1}, {}]
)
def test_a_forward_of_no_port_is_refused(shop, page, wrong, monkeypatch):
    monkeypatch.setattr(forwards, "start_forward", lambda *_, **__: pytest.fail("it was asked for"))
    status, answer = page.asks("forward", **wrong)
    assert status == 409
    assert "port" in answer["error"]["problem"]


def test_why_a_forward_is_not_there_is_said(shop, page, monkeypatch):
    def refuse(*_, **__):
        raise CodeSmithError("127.0.0.1:3000 is taken", hint="inv workspace.forward shop 3000:0")

    monkeypatch.setattr(page_work.forwards, "start_forward", refuse)
    status, answer = page.asks("forward", port=3000)
    assert (status, answer["error"]["problem"]) == (409, "127.0.0.1:3000 is taken")
    assert answer["error"]["hint"]


def test_jobs_are_told_one_by_one_and_only_what_changed(shop):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    first = agent.job_start("shop", ["sleep"])
    with shop.events(node="web1", workspace="shop") as stream, shop.events(node="web1") as whole:
        stream.until(lambda now: now.get("web1", f"job/shop/{first['id']}"))
        second = agent.job_start("shop", ["sleep"])
        stream.until(lambda now: now.get("web1", f"job/shop/{second['id']}"))
        agent.jobs[second["id"]].end(1)
        stream.until(lambda now: now.get("web1", f"job/shop/{second['id']}")["state"] == "exited")
        whole.until(lambda now: now.get("web1", "workspace/shop"))
        assert not [key for _, key in whole.state if key.startswith("job")]
    assert not {"job.attach", "job.logs", "job.get"} & set(agent.calls)


def test_what_waits_for_a_page_is_bounded_and_goes_with_it():
    class Endless:
        offset = None

        def __init__(self):
            self.dropped = threading.Event()
            self.closed = threading.Event()

        def pieces(self):
            while not self.dropped.is_set():
                yield "stdout", memoryview(b"x" * 1000)

        def drop(self):
            self.dropped.set()

        def close(self):
            self.closed.set()

    stream, woken = Endless(), threading.Event()
    one = outputs.Outputs(woken.set)
    one.open("a", lambda: stream)
    until(lambda: one.waiting_bytes > outputs.WAITING_BYTES_MAX - 3000)
    assert one.waiting_bytes <= outputs.WAITING_BYTES_MAX
    assert woken.is_set()
    assert len(one.take()) > 500
    until(lambda: one.waiting_bytes > outputs.WAITING_BYTES_MAX - 3000)
    one.close()
    assert stream.closed.wait(5)
    assert one.waiting_bytes == 0
    with pytest.raises(CodeSmithError):
        one.open("b", lambda: stream)
