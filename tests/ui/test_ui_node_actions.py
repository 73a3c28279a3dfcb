"""What the server does to nodes when a page asks: plans, looks of the doctor, journals that are followed."""

from __future__ import annotations

import json
import sys
import threading
import time

import pytest

from codesmith.ui import journal

pytestmark = pytest.mark.slow


def test_an_action_goes_on_and_is_told_to_every_page(serve):
    """Doctor of a node that cannot be reached: its findings say so, also on a page that was opened later."""
    ui = serve("gone", without=("gone",))
    ui.enter()
    status, _, body = ui.post("/actions", {"kind": "doctor", "nodes": ["gone"]})
    assert status == 200
    (number,) = json.loads(body)["ids"]
    with ui.events() as page:
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "done")
        findings = page.get("", f"action/{number}")["result"]["findings"]
    assert {"ok", "fail"} <= {one["status"] for one in findings}
    with ui.events(node="gone") as page:
        page.until(lambda now: now.get("", f"action/{number}"))


def test_a_plan_that_fails_says_why(serve):
    ui = serve("gone", without=("gone",))
    ui.enter()
    (number,) = json.loads(ui.post("/actions", {"kind": "plan", "nodes": ["gone"]})[2])["ids"]
    with ui.events() as page:
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "failed")
        action = page.get("", f"action/{number}")
    assert "127.0.0.1" in action["problem"]
    assert action["hint"]


@pytest.mark.parametrize("body", [{}, {"kind": "plan"}, {"kind": 1, "nodes": []}, {"kind": "plan", "nodes": "web1"}])
def test_an_action_that_is_none_is_refused(ui, body):
    assert ui.post("/actions", body)[0] in (400, 409)
    assert ui.post("/actions", {"kind": "uninstall", "nodes": ["web1"]})[0] == 409


def test_a_second_click_is_no_second_action(serve, monkeypatch):
    from codesmith.ui import actions

    ui = serve("web1")
    ui.enter()
    hold = threading.Event()
    monkeypatch.setitem(actions.KINDS, "doctor", lambda node, say: hold.wait(10) and {"findings": []})
    ids = [json.loads(ui.post("/actions", {"kind": "doctor", "nodes": ["web1"]})[2])["ids"] for _ in range(3)]
    hold.set()
    assert ids[0] == ids[1] == ids[2]


FOLLOWED = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (open(sys.argv[1], "w").write("ended"), sys.exit(0)))
print("first", flush=True)
time.sleep(1)
print("second", flush=True)
time.sleep(60)
"""


def test_a_journal_is_told_as_it_grows_and_ends_when_nobody_looks(ui, tmp_path, monkeypatch):
    command = (sys.executable, "-c", FOLLOWED, str(tmp_path / "end"))
    monkeypatch.setattr(journal, "command_for", lambda node: command)
    with ui.events(node="web1") as page:
        (number,) = json.loads(ui.post("/actions", {"kind": "logs", "nodes": ["web1"]})[2])["ids"]
        page.until(lambda now: now.get("web1", "journal/web1") == ["first"])
        page.until(lambda now: now.get("web1", "journal/web1") == ["first", "second"])
    deadline = time.monotonic() + 15
    while not (tmp_path / "end").exists():
        assert time.monotonic() < deadline, "it goes on though no page is open"
        time.sleep(0.1)
    with ui.events(node="web1") as page:
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "done")


def test_a_journal_is_stopped_on_request(ui, tmp_path, monkeypatch):
    command = (sys.executable, "-c", FOLLOWED, str(tmp_path / "end"))
    monkeypatch.setattr(journal, "command_for", lambda node: command)
    with ui.events(node="web1") as page:
        (number,) = json.loads(ui.post("/actions", {"kind": "logs", "nodes": ["web1"]})[2])["ids"]
        page.until(lambda now: now.get("web1", "journal/web1"))
        ui.post("/actions", {"kind": "stop-logs", "nodes": ["web1"]})
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "done")
    assert (tmp_path / "end").exists()


def test_a_journal_that_cannot_be_read_says_why(serve):
    ui = serve("gone", without=("gone",))
    ui.enter()
    with ui.events(node="gone") as page:
        (number,) = json.loads(ui.post("/actions", {"kind": "logs", "nodes": ["gone"]})[2])["ids"]
        page.until(lambda now: (now.get("", f"action/{number}") or {}).get("state") == "failed")
        action = page.get("", f"action/{number}")
    assert "127.0.0.1" in action["problem"]
    assert action["hint"]
