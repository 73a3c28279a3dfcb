"""What can be done on the pages, in Debian's Chromium with a stand-in agent behind them."""

from __future__ import annotations

import re
import threading
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from codesmith.tunnel.state import ForwardState
from codesmith.ui import actions
from codesmith.workspace import forwards
from tests.ui.page import HOSTILE, SHOWN, confirm, field, settled, tab_to

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

USAGE = {
    "name": "workspace.usage", "summary": "Return what a workspace uses.", "x-mutates": False, "errors": [],
    "params": [{"name": "name", "required": True, "schema": {"type": "string"}}],
}  # fmt: skip
STOP = {**USAGE, "name": "workspace.stop", "summary": "Stop a runtime.", "x-mutates": True}


def test_a_workspace_is_created_and_what_the_agent_says_stands_at_its_field(site, visit):
    page = settled(visit(site, "/nodes/web1/create"))
    field(page, "name").first.fill("No Name")
    field(page, "labels").first.fill("team=blue\nbad key!=x")
    page.get_by_role("button", name="Create the workspace").click()
    problem = page.locator(".field", has=page.get_by_label(re.compile("^name"))).locator(".problem").first
    expect(problem).to_have_text("must be 1 to 28 of a-z, 0-9 and inner hyphens")
    expect(field(page, "name").first).to_be_focused()
    expect(field(page, "labels").first).to_have_attribute("aria-invalid", "true")
    field(page, "name").first.fill("fresh")
    field(page, "labels").first.fill("team=blue")
    page.get_by_role("button", name="Create the workspace").click()
    page.wait_for_url("**/nodes/web1/workspaces/fresh")
    expect(page.get_by_text("team=blue")).to_be_visible()
    assert site.nodes["web1"].workspaces["fresh"]["labels"] == {"team": "blue"}


def test_what_is_under_way_survives_a_reload_and_is_done_once(site, visit):
    agent = site.nodes["web1"]
    update = agent.workspace_update
    agent.workspace_update = lambda **given: agent.slow.wait(10) and update(**given)
    agent.slow.clear()
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_text("Change the labels").click()
    field(page, "labels").fill("stage=live")
    page.get_by_role("button", name="Save the labels").click()
    expect(page.locator("#notices")).to_contain_text("workspace.update shop on web1 is under way")
    page.reload()
    expect(page.locator("#notices")).to_contain_text("is still under way")
    agent.slow.set()
    expect(page.locator("#notices")).to_contain_text("is done")
    expect(page.get_by_text("stage=live").first).to_be_visible()
    ids = {params["request_id"] for method, params in agent.requests if method == "workspace.update"}
    assert len(ids) == 1


def test_a_workspace_goes_only_after_its_name_was_typed(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_role("button", name="Delete the workspace").click()
    dialog = page.get_by_role("dialog")
    for lost in ("/srv/codesmith/workspaces/shop", "the repos app", "its user shop"):
        expect(dialog).to_contain_text(lost)
    go = dialog.get_by_role("button", name="Delete the workspace")
    expect(go).to_be_disabled()
    assert Axe().run(page).violations_count == 0
    dialog.get_by_label("Type shop to go on").fill("shop2")
    expect(go).to_be_disabled()
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_have_count(0)
    assert "shop" in site.nodes["web1"].workspaces
    page.get_by_role("button", name="Delete the workspace").click()
    dialog.get_by_label("Keep the user").check()
    dialog.get_by_label("Type shop to go on").fill("shop")
    go.click()
    page.wait_for_url("**/nodes/web1")
    assert "shop" not in site.nodes["web1"].workspaces
    assert [params["keep_user"] for method, params in site.nodes["web1"].requests if method == "workspace.delete"] == [
        True
    ]


def looked(stdout: str):
    """Return the answer of a look at the repos."""
    return lambda **_: {
        "exit_code": 0, "signal": None, "stdout": stdout, "stdout_encoding": "text", "stderr": "", "killed_by": None,
        "stderr_encoding": "text", "truncated": False, "omitted_bytes": 0, "duration_s": 0.01,
    }  # fmt: skip


def test_before_a_workspace_goes_its_repos_files_and_jobs_are_looked_at(ui, visit):
    agent = ui.nodes["web1"]
    agent.add("shop", runtime={"state": "running", "since": "2026-11-29T20:00:00.000Z", "idle_stop_at": None})
    agent.workspace_exec = looked(f"2 3 1 ./code/app\x000 0 1 ./code/clean\x000 1 0 ./{HOSTILE}\x00nonsense\x00")
    agent.workspace_usage = lambda name: {"memory_bytes": 0, "cpu_s": 0.0, "disk_bytes": 3 << 20, "files": 12}
    agent.programs["make"] = lambda program: program.stopped.wait(20)
    agent.job_start("shop", ["make", "all"])
    page = settled(visit(ui, "/nodes/web1/workspaces/shop"))
    expect(page.get_by_role("group", name="Jobs")).to_contain_text("make all")
    assert "workspace.exec" not in agent.calls
    page.get_by_role("button", name="Delete the workspace").click()
    dialog = page.get_by_role("dialog")
    for lost in (
        "code/app: 3 commits that no remote has and 2 changed files", "code/clean: everything in it is pushed",
        f"{SHOWN}: 1 commit that no remote has; it has no remote", "3.0 MiB in 12 files", "1 running job: make all",
    ):  # fmt: skip
        expect(dialog).to_contain_text(lost)
    assert Axe().run(page).violations_count == 0


def test_a_stopped_workspace_is_not_started_to_look_at_what_it_has(ui, visit):
    agent = ui.nodes["web1"]
    agent.add("shop", runtime={"state": "stopped", "since": None, "idle_stop_at": None})
    agent.workspace_exec = looked("")
    page = settled(visit(ui, "/nodes/web1/workspaces/shop"))
    page.get_by_role("button", name="Delete the workspace").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("were not looked at: the workspace is stopped")
    page.wait_for_timeout(300)
    assert "workspace.exec" not in agent.calls
    dialog.get_by_role("button", name="Start it and look").click()
    expect(dialog).to_contain_text("no git repo was found in it")


def test_a_port_is_forwarded_opened_and_stopped(ui, visit, monkeypatch):
    there = {}

    def start(node, workspace, port, local=0, *, any_port=False):
        there[port] = ForwardState(node.name, "", workspace, port, 8123, "ready", "", time.time())
        return there[port]

    monkeypatch.setattr(forwards, "list_forwards", lambda node, workspace: list(there.values()))
    monkeypatch.setattr(forwards, "start_forward", start)
    monkeypatch.setattr(forwards, "stop_forwards", lambda node, workspace, port: [there.pop(port)])
    ui.nodes["web1"].add("shop")
    page = settled(visit(ui, "/nodes/web1/workspaces/shop"))
    page.get_by_label("Port inside").fill("none")
    page.get_by_role("button", name="Forward it").click()
    expect(page.get_by_role("alert").get_by_text("a port is a number from 1 to 65535")).to_be_visible()
    page.get_by_label("Port inside").fill("3000")
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="127.0.0.1:8123")
    expect(link).to_have_attribute("href", "http://127.0.0.1:8123/")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("button", name="Stop forwarding 3000").click()
    expect(link).to_have_count(0)


def test_all_that_is_done_to_a_workspace_can_be_done_with_the_keyboard(site, visit):
    """No mouse: from the fleet to a workspace, a command run, limits set."""
    page = settled(visit(site))
    tab_to(page, "web1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/nodes/web1")
    settled(page)
    assert page.evaluate("document.activeElement.tagName") == "H1"
    tab_to(page, "shop")
    page.keyboard.press("Enter")
    page.wait_for_url("**/workspaces/shop")
    settled(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "exec":
            break
    page.keyboard.type("git --version")
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Output of git")).to_have_text("git --version\n")
    tab_to(page, "Set limits")
    page.keyboard.press("Enter")
    tab_to(page, "", id_of="limits.memory_bytes")
    page.keyboard.type("512M")
    page.keyboard.press("Enter")
    expect(page.locator("#limits ~ div").first).to_contain_text("512 MiB")
    assert site.nodes["web1"].workspaces["shop"]["sandbox"]["limits"] == {"memory_bytes": 512 << 20}
    tab_to(page, "Delete the workspace")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("document.activeElement.textContent") == "Delete the workspace"


def test_labels_are_changed_and_removed(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_text("Change the labels").click()
    expect(field(page, "labels")).to_have_value("team=red")
    field(page, "labels").fill("stage=live")
    page.get_by_role("button", name="Save the labels").click()
    expect(page.get_by_text("stage=live").first).to_be_visible()
    expect(page.locator(".badge", has_text="team=red")).to_have_count(0)
    assert site.nodes["web1"].workspaces["shop"]["labels"] == {"stage": "live"}


def test_a_wrong_limit_is_told_at_that_limit(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_text("Set limits").click()
    form = page.locator("form", has=page.get_by_role("button", name="Set the limits"))
    form.get_by_label("tasks", exact=True).fill("many")
    form.get_by_role("button", name="Set the limits").click()
    expect(form.locator(".field", has=page.get_by_label("tasks", exact=True)).locator(".problem")).to_have_text(
        "must be integer"
    )


def test_a_runtime_is_shown_with_its_usage_and_stopped(serve, visit):
    used = {
        "memory_bytes": 100 << 20,
        "memory_peak_bytes": 120 << 20,
        "memory_limit_bytes": 512 << 20,
        "cpu_s": 1.5,
        "tasks": 3,
        "disk_bytes": 1 << 20,
        "files": 12,
    }
    stopped = threading.Event()
    ui = serve(
        "web1",
        extra={
            "workspace.usage": (USAGE, lambda name: used),
            "workspace.stop": (STOP, lambda name: stopped.set() or {}),
        },
    )
    ui.nodes["web1"].add(
        "shop",
        runtime={"state": "running", "since": "2026-11-29T20:00:00.000Z", "idle_stop_at": None},
        shared_with=["ada"],
        home="/srv/codesmith/home/cs-shop",
    )
    page = settled(visit(ui, "/nodes/web1/workspaces/shop"))
    expect(page.get_by_role("img", name="memory, now 100 MiB of 512 MiB")).to_be_visible()
    expect(page.locator("dt", has_text="shared with")).to_be_visible()
    expect(page.get_by_text("/srv/codesmith/home/cs-shop")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    assert stopped.wait(5)


def test_limits_are_removed_and_a_repo_is_made_and_deleted(site, visit):
    agent = site.nodes["web1"]
    agent.sandbox_create("shop", {"tasks": 7}, "none")
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    limits = page.locator("section[aria-labelledby=limits]")
    expect(limits.get_by_text("Set limits", exact=True)).to_be_hidden()
    limits.get_by_text("Remove the limits").first.click()
    limits.get_by_role("button", name="Remove the limits").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("all limits of the workspace")
    confirm(page, "shop", "Delete")
    expect(limits).to_contain_text("No limits of its own")
    repos = page.locator("section[aria-labelledby=repos]")
    repos.get_by_text("Make an empty repo").click()
    repos.get_by_label("name", exact=True).last.fill("fresh")
    repos.get_by_role("button", name="Make it").click()
    expect(repos.get_by_role("rowheader", name="fresh")).to_be_visible()
    repos.get_by_role("row", name=re.compile("^app")).get_by_text("Delete", exact=True).click()
    repos.get_by_role("button", name="Delete app").click()
    expect(dialog).to_contain_text("there may be no other copy")
    assert "repo.list" not in agent.calls, "it would start the runtime"
    confirm(page, "app", "Delete")
    expect(repos.get_by_role("rowheader", name="app")).to_have_count(0)
    assert agent.workspaces["shop"]["repos"] == ["fresh"]
    expect(repos.get_by_role("row", name="fresh")).to_contain_text("not looked at")
    repos.get_by_role("button", name="Look at branches and commits").click()
    expect(repos.get_by_role("row", name="fresh")).to_contain_text("main")


def test_several_nodes_are_planned_and_prepared_together(serve, visit, monkeypatch):
    """What prepare itself does is looked at on real nodes."""
    steps = [{"kind": "user", "name": "codesmith", "text": HOSTILE, "before": "missing", "after": "there"}]
    done = {"result": "planned", "steps": steps, "agent_version": "0.1.0"}
    prepared: list[str] = []

    def prepare(node, say):
        say({"text": f"step on {node.name}", "seconds": 0.1, "ok": True, "message": "", "then": "next"})
        prepared.append(node.name)
        return {**done, "result": "prepared"}

    monkeypatch.setitem(actions.KINDS, "plan", lambda node, say: done)
    monkeypatch.setitem(actions.KINDS, "prepare", prepare)
    page = visit(serve("web1", "db1", "other"))
    for name in ("web1", "db1"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.get_by_role("button", name="Plan to prepare").click()
    expect(page.get_by_role("group", name="Plan for db1")).to_contain_text(SHOWN)
    assert prepared == []
    page.get_by_role("button", name="Do all this on 2 nodes: db1, web1").click()
    for name in ("web1", "db1"):
        expect(page.get_by_text(re.compile(f"^prepare on {name} done"))).to_be_visible()
    assert sorted(prepared) == ["db1", "web1"]
    expect(page.get_by_role("button", name=re.compile("Do all this on 2"))).to_have_count(0)


def test_labels_that_somebody_else_set_meanwhile_stay(site, visit):
    agent = site.nodes["web1"]
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_text("Change the labels").click()
    field(page, "labels").fill("stage=live")
    agent.workspace_update(name="shop", labels={"ci": "done"})
    expect(page.locator(".badge", has_text="ci=done")).to_be_visible()
    page.reload()
    page.get_by_text("Change the labels").click()
    expect(field(page, "labels")).to_have_value("stage=live")
    page.get_by_role("button", name="Save the labels").click()
    expect(page.locator(".badge", has_text="stage=live")).to_be_visible()
    assert agent.workspaces["shop"]["labels"] == {"stage": "live", "ci": "done"}
