"""The pages in Debian's Chromium, with a stand-in agent behind them: each page, each action, for everybody."""

from __future__ import annotations

import re
import threading
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from codesmith.ui import actions
from tests.ui.stand_in import CONTRACT

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

PAGES = {
    "fleet": "/",
    "node": "/nodes/web1",
    "create": "/nodes/web1/create",
    "workspace": "/nodes/web1/workspaces/shop",
    "user": "/nodes/web1/users/shop",
    "api": "/nodes/web1/api",
    "method": "/nodes/web1/api/sandbox.create",
    "nowhere": "/nowhere",
}
# Markup, a control sequence, text that turns the direction of what follows, and invisible characters.
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m\u202egnp.exe\u2066\u200b'\"&lt;"
SHOWN = "<img src=x onerror=alert(1)><script>alert(2)</script>\\x1b[31m\\u202egnp.exe\\u2066\\u200b'\"&lt;"
USAGE = {
    "name": "workspace.usage", "summary": "Return what a workspace uses.", "x-mutates": False, "errors": [],
    "params": [{"name": "name", "required": True, "schema": {"type": "string"}}],
}  # fmt: skip
STOP = {**USAGE, "name": "workspace.stop", "summary": "Stop a runtime.", "x-mutates": True}
LATER = {
    "name": "job.start", "summary": "Start a job.", "x-mutates": True, "errors": [], "description": "Start a job.",
    "params": [
        {"name": "workspace", "required": True, "schema": {"type": "string"}},
        {"name": "argv", "required": True, "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "detached", "required": False, "schema": {"type": "boolean", "default": False}},
        {"name": "request_id", "required": False, "schema": {"type": "string"}},
    ],
}  # fmt: skip


@pytest.fixture
def site(ui):
    """A node with two workspaces."""
    ui.nodes["web1"].add("shop", labels={"team": "red"}, repos=["app"])
    ui.nodes["web1"].add("other")
    return ui


def settled(page: Page) -> Page:
    """Wait until the page has drawn what it knows."""
    expect(page.get_by_text("Reading the contract")).to_have_count(0)
    page.wait_for_timeout(250)
    return page


def opened(page: Page) -> Page:
    """Open all that can be opened."""
    settled(page).evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    return settled(page)


def field(page: Page, name: str):
    return page.get_by_role("textbox", name=re.compile(f"^{name}( \\(required\\))?$"))


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_on_any_page_light_and_dark(site, visit, name):
    page = opened(visit(site, PAGES[name]))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_fits_a_phone(site, visit, name):
    page = opened(visit(site, PAGES[name], viewport={"width": 360, "height": 740}))
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


def test_dark_is_dark_and_motion_is_left_out_if_it_is_not_wanted(site, visit):
    page = visit(site, color_scheme="dark", reduced_motion="reduce")
    red, green, blue = (
        int(one) for one in re.findall("[0-9]+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    )
    assert max(red, green, blue) < 60
    page.evaluate(
        "let one = document.createElement('div'); one.className = 'notice'; one.id = 'probe'; document.body.append(one)"
    )
    names = page.evaluate("getComputedStyle(document.getElementById('probe')).animationName")
    assert names == "none"


def test_hostile_text_stays_text_on_every_page(ui, visit):
    agent = ui.nodes["web1"]
    agent.add(
        "shop",
        labels={"note": HOSTILE},
        path=HOSTILE,
        repos=["app"],
        sandbox={
            "workspace": "shop",
            "limits": {HOSTILE: 1},
            "network": HOSTILE,
            "enforced": {},
            "state": "ready",
            "created_at": HOSTILE,
        },
    )
    agent.users["shop"] = {
        **agent.users["shop"],
        "home": HOSTILE,
        "ssh_keys": [{"type": HOSTILE, "fingerprint": HOSTILE, "comment": HOSTILE}],
    }
    agent.note(HOSTILE, {"name": HOSTILE}, outcome=HOSTILE, login=HOSTILE)
    agent.node_health = lambda: {
        "status": "degraded",
        "checks": [{"name": HOSTILE, "status": "degraded", "detail": HOSTILE}],
    }
    page = visit(ui)
    page.on("dialog", lambda dialog: pytest.fail(f"a script of the node ran: {dialog.message}"))
    for path in ("/", "/nodes/web1", "/nodes/web1/workspaces/shop", "/nodes/web1/users/shop"):
        page.goto(ui.access.origin + path)
        settled(page)
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 1
        if path != "/":
            expect(page.get_by_text(SHOWN).first).to_be_visible()
        assert "\u202e" not in page.inner_text("body")


def test_hostile_output_of_a_command_stays_text_and_colours_are_colours(site, visit):
    agent = site.nodes["web1"]
    text = f"\x1b[31mred\x1b[0m plain {HOSTILE}\x1b]0;title\x07\r\nlast\n"
    agent.workspace_exec = lambda name, argv, **_: {
        "exit_code": 3, "signal": None, "stdout": text, "stdout_encoding": "text", "stderr": HOSTILE,
        "stderr_encoding": "text", "truncated": True, "omitted_bytes": 5000, "duration_s": 1.5, "killed_by": "timeout",
    }  # fmt: skip
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_label("Command", exact=True).fill("id")
    page.get_by_role("button", name="Run", exact=True).click()
    log = page.get_by_role("group", name="stdout of id")
    expect(log).to_contain_text("\\u202egnp.exe\\u2066")
    expect(log).to_contain_text("\\x1b]0;title\\x07")
    assert log.locator(".fg-red").first.inner_text() == "red"
    assert page.locator("img").count() == 0
    expect(page.get_by_role("log")).to_contain_text("exit 3")
    expect(page.get_by_role("log")).to_contain_text("ended by the timeout limit")
    page.get_by_label("Search in: stdout of id").fill("last")
    expect(log).not_to_contain_text("red")
    expect(log).to_contain_text("last")


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


def test_what_was_typed_survives_a_reload_and_secrets_do_not(site, visit):
    page = settled(visit(site, "/nodes/web1/create"))
    field(page, "name").first.fill("typed")
    page.get_by_label("url (required)").or_(page.get_by_label("url", exact=True)).fill("https://example.org/x.git")
    page.get_by_label("token", exact=True).fill("s3cret-token")
    stored = page.evaluate("JSON.stringify({...sessionStorage}) + JSON.stringify({...localStorage}) + document.cookie")
    assert "s3cret-token" not in stored
    page.reload()
    settled(page)
    expect(field(page, "name").first).to_have_value("typed")
    expect(page.get_by_label("url", exact=True)).to_have_value("https://example.org/x.git")
    expect(page.get_by_label("token", exact=True)).to_have_value("")


def test_what_is_under_way_survives_a_reload_and_is_done_once(site, visit):
    agent = site.nodes["web1"]
    agent.slow.clear()
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_label("Command", exact=True).fill("make all")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#notices")).to_contain_text("workspace.exec shop on web1 is under way")
    # The answer comes before the part of the page that shows it.
    agent.rpc_discover = lambda: time.sleep(1.0) or agent.contract
    page.reload()
    expect(page.locator("#notices")).to_contain_text("is still under way")
    agent.slow.set()
    expect(page.get_by_role("group", name="stdout of make")).to_have_text("make all\n")
    ids = {params["request_id"] for method, params in agent.requests if method == "workspace.exec"}
    assert len(ids) == 1


def test_a_change_made_elsewhere_is_on_the_page_within_a_second(site, visit):
    page = settled(visit(site, "/nodes/web1"))
    agent = site.nodes["web1"]
    begun = time.monotonic()
    agent.add("late", labels={"from": "elsewhere"})
    page.get_by_role("link", name="late").first.wait_for()
    assert time.monotonic() - begun < 1.2
    expect(page.get_by_text("from=elsewhere")).to_be_visible()
    page.goto(f"{site.access.origin}/nodes/web1/workspaces/late")
    settled(page)
    del agent.workspaces["late"]
    agent.note("workspace.delete", {"name": "late"})
    expect(page.get_by_text("No workspace late on web1 (any more).")).to_be_visible()


def test_a_dead_node_and_a_dead_server_are_said(serve, visit):
    ui = serve("web1", "gone", without=("gone",))
    ui.enter()
    page = visit(ui, expects=("ERR_", "Failed to load"))
    row = page.get_by_role("row", name=re.compile("gone"))
    expect(row).to_contain_text("refuses connections")
    expect(row).to_contain_text("since")
    expect(row.locator(".command").first).to_contain_text("ssh")
    ui.close()
    expect(page.locator("#live")).to_contain_text("does not answer since", timeout=15000)
    expect(page.get_by_role("row", name=re.compile("web1"))).to_be_visible()


def test_a_page_without_access_shows_nothing_and_says_what_to_do(site, browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.access.origin}/nodes/web1")
    expect(page.get_by_role("heading", name="No access")).to_be_visible()
    expect(page.get_by_text("inv ui.open")).to_be_visible()
    assert "shop" not in page.content()
    context.close()


def test_a_second_tab_gets_in_and_a_page_of_another_port_does_not(site, serve, visit):
    page = settled(visit(site, "/nodes/web1"))
    tab = page.context.new_page()
    tab.goto(f"{site.access.origin}/nodes/web1/workspaces/shop")
    expect(tab.get_by_role("heading", name="Run a command")).to_be_visible()
    other = serve("web1")
    stranger = page.context.new_page()
    stranger.goto(f"{other.access.origin}/")
    expect(stranger.get_by_role("heading", name="No access")).to_be_visible()
    # Its script can reach our port, and gets nothing from it.
    told = stranger.evaluate(
        f"fetch('{site.access.origin}/nodes/web1/rpc', {{method: 'POST', body: '{{}}'}}).then(() => 'in', () => 'out')"
    )
    assert told == "out"


def test_no_page_of_ours_stands_in_a_frame_or_runs_foreign_script(site, visit):
    page = settled(visit(site, "/", expects=("Content Security Policy", "TrustedHTML", "TrustedScript")))
    assert (
        page.evaluate(
            "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'set'; } catch { return 'refused'; } })()"
        )
        == "refused"
    )
    page.evaluate("(() => { try { setTimeout('window.ran = 1'); } catch { /* refused at once */ } })()")
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None
    page.evaluate(
        "const one = document.createElement('img'); one.src = 'http://127.0.0.1:9/x.png'; document.body.append(one);"
    )
    page.wait_for_timeout(200)
    assert page.locator("img").evaluate("one => one.naturalWidth") == 0


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
    expect(page.get_by_role("group", name="stdout of git")).to_have_text("git --version\n")
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


def tab_to(page: Page, text: str, id_of: str = "") -> None:
    script = "id => id ? document.activeElement.name ?? '' : document.activeElement.textContent"
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate(script, id_of) == (id_of or text):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{text} shows no focus"
            return
    raise AssertionError(f"{text or id_of} is not reached with Tab")


def test_labels_are_changed_and_removed(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_text("Change the labels").click()
    expect(field(page, "labels")).to_have_value("team=red")
    field(page, "labels").fill("stage=live")
    page.get_by_role("button", name="Save the labels").click()
    expect(page.get_by_text("stage=live").first).to_be_visible()
    expect(page.locator(".badge", has_text="team=red")).to_have_count(0)
    assert site.nodes["web1"].workspaces["shop"]["labels"] == {"stage": "live"}


def test_a_workspace_is_given_to_another_user_and_a_bad_name_is_told_there(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_text("Give it to another user").click()
    field(page, "user").first.fill("nobody")
    page.get_by_role("button", name="Transfer the workspace").click()
    expect(page.get_by_role("alert").get_by_text("no user 'nobody' on this node")).to_be_visible()
    field(page, "user").first.fill("other")
    page.get_by_role("button", name="Transfer the workspace").click()
    expect(page.locator(".owner")).to_have_text("other")


def test_a_wrong_limit_is_told_at_that_limit(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_text("Set limits").click()
    page.get_by_label("tasks", exact=True).fill("many")
    page.get_by_role("button", name="Set the limits").click()
    expect(page.locator(".field", has=page.get_by_label("tasks", exact=True)).locator(".problem")).to_have_text(
        "must be integer"
    )


def test_a_method_that_the_contract_gets_later_is_there_without_a_line_here(serve, visit):
    ui = serve("web1", extra={"job.start": (LATER, lambda **params: {"id": "j1", **params})})
    ui.nodes["web1"].add("shop")
    page = settled(visit(ui, "/nodes/web1/api"))
    page.get_by_role("link", name="job.start").click()
    settled(page)
    field(page, "workspace").fill("shop")
    field(page, "argv").fill("sleep\n60 s")
    page.get_by_label("detached").check()
    expect(
        page.get_by_text('print(node.job.start(workspace="shop", argv=["sleep", "60 s"], detached=True))')
    ).to_be_visible()
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading", name="Answer")).to_be_visible()
    (params,) = [params for method, params in ui.nodes["web1"].requests if method == "job.start"]
    assert params.pop("request_id")
    assert params == {"workspace": "shop", "argv": ["sleep", "60 s"], "detached": True}
    page.goto(f"{ui.access.origin}/nodes/web1/workspaces/shop")
    settled(page)
    page.locator("summary", has_text="job.start").click()
    expect(page.get_by_role("button", name="job.start")).to_be_visible()


def test_the_api_page_has_every_method_of_the_contract(site, visit):
    page = settled(visit(site, "/nodes/web1/api"))
    shown = page.locator(".methods a").all_inner_texts()
    assert sorted(shown) == sorted(entry["name"] for entry in CONTRACT["methods"])


def test_the_api_page_shows_request_answer_and_error(site, visit):
    page = settled(visit(site, "/nodes/web1/api/workspace.get"))
    field(page, "name").fill("shop")
    expect(page.get_by_text("curl --unix-socket")).to_contain_text('"params":{"name":"shop"}')
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("/srv/codesmith/workspaces/shop").first).to_be_visible()
    field(page, "name").fill("none")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("no workspace 'none' on this node")
    expect(page.get_by_text('"code": 1001')).to_be_visible()
    page.goto(f"{site.access.origin}/nodes/web1/api/workspace.delete")
    settled(page)
    field(page, "name").fill("shop")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert "workspace.delete" not in site.nodes["web1"].calls


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
    expect(page.get_by_text("shared with")).to_be_visible()
    expect(page.get_by_text("/srv/codesmith/home/cs-shop")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    assert stopped.wait(5)


def test_a_user_is_shown_and_its_account_that_others_changed(site, visit):
    site.nodes["web1"].user_get = lambda name: {**site.nodes["web1"].users[name], "drift": ["in the group docker"]}
    page = settled(visit(site, "/nodes/web1/users/shop"))
    expect(page.get_by_text("in the group docker")).to_be_visible()
    page.get_by_text("Replace all keys").first.click()
    page.get_by_text("Delete", exact=True).click()
    page.get_by_role("button", name="Delete the user").click()
    expect(page.get_by_role("dialog")).to_contain_text("it is refused while the user owns shop")


def test_the_audit_record_is_filtered_and_paged(site, visit):
    agent = site.nodes["web1"]
    for number in range(120):
        agent.note("workspace.exec", {"name": f"n{number}"}, outcome="ok" if number else "disabled")
    page = settled(visit(site, "/nodes/web1"))
    audit = page.get_by_role("group", name="Audit record").last
    expect(audit).to_contain_text("name=n119")
    page.get_by_role("button", name="Older").click()
    expect(audit).to_contain_text("name=n69")
    expect(audit).not_to_contain_text("name=n119")
    page.get_by_role("button", name="Newer").click()
    expect(audit).to_contain_text("name=n119")
    page.get_by_label("Only workspace").fill("shop")
    page.get_by_label("Only workspace").press("Enter")
    page.wait_for_timeout(300)
    assert [params.get("workspace") for method, params in agent.requests if method == "audit.list"][-20:].count(
        "shop"
    ) >= 1


def test_nodes_are_found_by_text_tag_and_the_names_of_their_workspaces(serve, visit):
    ui = serve("web1", "db1")
    ui.nodes["db1"].add("warehouse")
    ui.enter()
    page = visit(ui)
    expect(page.get_by_text("2 of 2 nodes, 1 workspaces")).to_be_visible()
    page.get_by_label("Filter").fill("wareh")
    expect(page.get_by_text("1 of 2 nodes")).to_be_visible()
    page.get_by_role("link", name="warehouse").click()
    page.wait_for_url("**/nodes/db1/workspaces/warehouse")
    page.go_back()
    page.get_by_label("Filter").fill("")
    page.get_by_label("Tag").select_option("tag-web1")
    expect(page.get_by_text("1 of 2 nodes")).to_be_visible()
    page.get_by_label("Filter").fill("nothing like that")
    expect(page.get_by_text("No node matches.")).to_be_visible()


def test_an_empty_place_says_the_next_command(serve, visit):
    ui = serve()
    page = visit(ui)
    expect(page.get_by_text("inv node.add web1 --host web1.example.org")).to_be_visible()
    ui = serve("web1")
    page = settled(visit(ui, "/nodes/web1"))
    expect(page.get_by_text("No workspaces here.")).to_be_visible()


def test_read_only_pages_offer_no_change(serve, visit):
    ui = serve("web1", read_only=True)
    ui.nodes["web1"].add("shop", repos=["app"])
    for name in ("fleet", "node", "create", "workspace", "user", "method"):
        page = settled(visit(ui, PAGES[name]))
        expect(page.get_by_text("read-only").first).to_be_visible()
        assert page.locator("button.primary, button.danger").count() == 0


def test_times_are_local_with_the_exact_one_beside(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop", timezone_id="Asia/Tokyo", locale="en-US"))
    made = page.locator("dd time").first
    assert "5:53:52" in made.inner_text()
    assert made.get_attribute("title") == "2026-11-29T20:53:52.973Z"


def test_a_thousand_workspaces_of_one_node_are_shown_a_part_at_a_time(ui, visit):
    for number in range(1000):
        ui.nodes["web1"].add(f"w{number:04d}")
    page = settled(visit(ui, "/nodes/web1"))
    table = page.get_by_role("group", name="Workspaces").last
    expect(table.get_by_role("row")).to_have_count(101)
    page.get_by_label("Filter").fill("w0777")
    expect(table.get_by_role("row")).to_have_count(2)


def test_a_page_whose_files_did_not_arrive_loads_itself_again(site, visit):
    """A browser gives up requests when the network changes under it."""
    page = settled(visit(site, expects=("Failed to load",)))
    failures = []

    def fail_once(route):
        if failures:
            route.continue_()
        else:
            failures.append(route.request.url)
            route.abort("failed")

    page.route("**/static/parts.js", fail_once)
    page.goto(f"{site.access.origin}/nodes/web1")
    expect(page.get_by_role("heading", name="Workspaces")).to_be_visible(timeout=15_000)
    assert failures


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
    dialog.get_by_label("Type shop to go on").fill("shop")
    dialog.get_by_role("button", name="Delete").click()
    expect(limits).to_contain_text("No limits of its own")
    repos = page.locator("section[aria-labelledby=repos]")
    repos.get_by_text("Make an empty repo").click()
    repos.get_by_label("name", exact=True).last.fill("fresh")
    repos.get_by_role("button", name="Make it").click()
    expect(repos.get_by_role("rowheader", name="fresh")).to_be_visible()
    repos.get_by_role("row", name=re.compile("^app")).get_by_text("Delete", exact=True).click()
    repos.get_by_role("button", name="Delete app").click()
    expect(dialog).to_contain_text("there may be no other copy")
    dialog.get_by_label("Type app to go on").fill("app")
    dialog.get_by_role("button", name="Delete").click()
    expect(repos.get_by_role("rowheader", name="app")).to_have_count(0)
    assert agent.workspaces["shop"]["repos"] == ["fresh"]


def test_a_user_is_made_gets_keys_is_disabled_and_deleted(site, visit):
    agent = site.nodes["web1"]
    page = settled(visit(site, "/nodes/web1"))
    page.get_by_text("Create a user", exact=True).click()
    field(page, "name").fill("ada")
    page.get_by_role("button", name="Create the user").click()
    page.get_by_role("link", name="ada").click()
    page.wait_for_url("**/users/ada")
    settled(page)
    page.locator("summary", has_text="Replace all keys").click()
    field(page, "ssh keys").fill("ssh-ed25519 AAAA ada@laptop\nssh-ed25519 BBBB ada@desk")
    page.get_by_role("button", name="Replace all keys").click()
    expect(page.get_by_text("ada@laptop").first).to_be_visible()
    assert len(next(params for method, params in agent.requests if method == "user.set_keys")["ssh_keys"]) == 2
    for word, state in (("Disable", "disabled"), ("Enable", "active")):
        page.locator("summary", has_text=word).click()
        page.get_by_role("button", name=f"{word} the user").click()
        expect(page.locator("dl .badge", has_text=state).first).to_be_visible()
    page.locator("summary", has_text="Delete").click()
    page.get_by_role("button", name="Delete the user").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("the account cs-ada")
    dialog.get_by_label("Type ada to go on").fill("ada")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No user ada on web1 (any more).")).to_be_visible()


def test_what_is_refused_in_the_dialog_is_said_there(site, visit):
    page = settled(visit(site, "/nodes/web1/users/shop"))
    page.locator("summary", has_text="Delete").click()
    page.get_by_role("button", name="Delete the user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type shop to go on").fill("shop")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("alert")).to_contain_text("user 'shop' owns shop")


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


def test_a_command_gets_its_directory_environment_and_input(site, visit):
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    page.get_by_label("Command", exact=True).fill("sh -c 'cat \"$0\"' x")
    page.get_by_text("Directory, environment, input, time limit").click()
    field(page, "cwd").fill("code")
    field(page, "env").fill("A=1\nB=two words")
    field(page, "stdin").fill("in")
    page.get_by_label("timeout s").first.fill("5")
    page.get_by_role("button", name="Run with these").click()
    expect(page.get_by_role("group", name="stdout of sh")).to_be_visible()
    (params,) = [params for method, params in site.nodes["web1"].requests if method == "workspace.exec"]
    del params["request_id"]
    assert params == {
        "name": "shop", "argv": ["sh", "-c", 'cat "$0"', "x"], "cwd": "code", "env": {"A": "1", "B": "two words"},
        "stdin": "in", "timeout_s": 5,
    }  # fmt: skip
    page.get_by_label("Command", exact=True).fill("echo 'open")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert").get_by_text("a quote is open")).to_be_visible()


def test_a_page_of_a_node_that_is_down_is_whole_when_the_node_is_back(serve, visit):
    ui = serve("web1")
    agent = ui.nodes["web1"]
    agent.add("shop")
    agent.stop()
    ui.enter()
    page = visit(ui, "/nodes/web1/workspaces/shop")
    expect(page.locator(".notice.bad").first).to_contain_text("refuses connections", timeout=20_000)
    expect(page.get_by_role("button", name="Try again")).to_be_visible(timeout=20_000)
    agent.start()
    expect(page.get_by_role("heading", name="Run a command")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
