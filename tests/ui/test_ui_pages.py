"""The pages in Debian's Chromium, with a stand-in agent behind them: for everybody, live, and closed to strangers."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.kinds import some_names_of
from tests.ui.page import HOSTILE, SHOWN, field, is_for_everybody, opened, settled

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


@pytest.mark.parametrize("name", some_names_of(PAGES, "fleet", "node", "workspace", "create"))
def test_every_page_is_for_everybody(site, visit, name):
    is_for_everybody(opened(visit(site, PAGES[name])))


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


def test_a_change_made_elsewhere_is_on_the_page_by_itself(site, visit):
    page = settled(visit(site, "/nodes/web1"))
    agent = site.nodes["web1"]
    agent.add("late", labels={"from": "elsewhere"})
    page.get_by_role("link", name="late").first.wait_for()
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
    expect(page.locator("#live")).to_contain_text("the server of these pages does not answer since", timeout=15000)
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
    page = visit(ui)
    for name in ("fleet", "node", "create", "workspace", "user", "method"):
        page.goto(ui.access.origin + PAGES[name])
        settled(page)
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
