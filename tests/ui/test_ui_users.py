"""Who may enter a workspace, and the keys of users, on their pages."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.ui.page import HOSTILE, SHOWN, confirm, field, is_for_everybody, settled, tab_to
from tests.ui.stand_in_users import key_of

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

LAPTOP, DESK = "ssh-ed25519 AAAA ada@laptop", "ssh-ed25519 BBBB ada@desk"
SHOP = "/nodes/web1/workspaces/shop"


@pytest.fixture
def agent(site):
    """The node with a user who has a key and is let into no workspace."""
    agent = site.nodes["web1"]
    agent.user_create("ada", [LAPTOP])
    return agent


def entry(page):
    return page.locator("section[aria-labelledby=users]")


def test_who_may_enter_is_shown_with_keys_and_changes_elsewhere(agent, site, visit):
    agent.user_set_keys("ada", [f"ssh-ed25519 AAAA {HOSTILE}"])
    page = settled(visit(site, SHOP))
    row = entry(page).get_by_role("row")
    expect(row.filter(has_text="owner")).to_contain_text("shop")
    expect(row.filter(has_text="owner")).to_contain_text("none")
    agent.workspace_share("shop", "ada")
    agent.note("workspace.share", {"name": "shop"})
    shared = row.filter(has_text="shared with")
    expect(shared).to_contain_text(agent.users["ada"]["ssh_keys"][0]["fingerprint"])
    expect(shared).to_contain_text(SHOWN)
    expect(shared).to_contain_text("cs-ada")
    is_for_everybody(page)
    entry(page).get_by_role("link", name="ada").click()
    expect(page.locator("dd", has=page.get_by_role("link", name="shop"))).to_be_visible()


def test_a_workspace_is_shared_and_the_end_of_sharing_says_what_ends(agent, site, visit):
    agent.workspaces["shop"]["runtime"] = {"state": "running", "since": None, "idle_stop_at": None}
    agent.programs["make"] = lambda program: program.stopped.wait(20)
    agent.job_start("shop", ["make", "all"])
    page = settled(visit(site, SHOP))
    tab_to(page, "Share it with a user")
    page.keyboard.press("Enter")
    tab_to(page, "", "user")
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    expect(entry(page)).to_contain_text("It is shared with ada.")
    end = entry(page).get_by_role("button", name="End sharing with ada")
    expect(end).to_have_count(1)
    assert agent.workspaces["shop"]["shared_with"] == ["ada"]
    end.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("that ada may enter it")
    expect(dialog).to_contain_text("all that runs in it now, whoever started it; 1 running job: make all")
    is_for_everybody(page)
    assert "workspace.unshare" not in agent.calls
    end.click()
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    expect(end).to_have_count(0)
    assert agent.workspaces["shop"]["shared_with"] == []
    expect(entry(page).locator("[tabindex='-1']")).to_be_focused()


def test_those_who_may_be_let_in_are_suggested(agent, site, visit):
    agent.user_create("bob")
    agent.user_disable("bob")
    page = settled(visit(site, SHOP))
    names = entry(page).locator("datalist option")
    assert sorted(one.get_attribute("value") for one in names.all()) == ["ada", "other"]
    form = entry(page).get_by_role("form", name="Share it", include_hidden=True)
    assert form.locator("input").get_attribute("list") == entry(page).locator("datalist").get_attribute("id")


def test_a_workspace_is_given_to_another_user_and_what_ends_is_said_before(agent, site, visit):
    agent.token_create("shop", "0" * 64, label="ci")
    page = settled(visit(site, SHOP))
    entry(page).get_by_text("Give it to another user").click()
    form = entry(page).get_by_role("form", name="Transfer the workspace")
    dialog = page.get_by_role("dialog")

    def transfer(user: str) -> None:
        form.get_by_role("combobox").fill(user)
        form.get_by_role("button").click()
        dialog.get_by_label("Type shop to go on").fill("shop")

    transfer("nobody")
    dialog.get_by_role("button", name="Transfer it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("no user 'nobody' on this node")
    dialog.get_by_role("button", name="Keep it").click()
    transfer("ada")
    for ends in (
        "that shop may enter it; ada owns it then",
        "all that runs in it now",
        "1 token of it: ci",
        "no running job",
    ):
        expect(dialog).to_contain_text(ends)
    dialog.get_by_role("button", name="Transfer it").click()
    expect(entry(page).get_by_role("row").filter(has_text="owner")).to_contain_text("ada")
    expect(entry(page)).to_contain_text("It belongs to ada.")
    expect(page.get_by_role("button", name="Revoke ci")).to_have_count(0)


def test_keys_of_a_user_are_added_and_removed_one_by_one(agent, site, visit):
    page = settled(visit(site, "/nodes/web1/users/ada"))
    keys = page.locator("section[aria-labelledby=keys]")
    keys.get_by_text("Add keys", exact=True).click()
    field(keys, "ssh keys").first.fill(DESK)
    keys.get_by_role("button", name="Add the keys").click()
    row = keys.get_by_role("row", name=re.compile("ada@desk"))
    expect(row).to_contain_text(key_of(DESK)["fingerprint"])
    remove = keys.get_by_role("button", name="Remove ada@laptop")
    remove.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(key_of(LAPTOP)["fingerprint"])
    expect(dialog).not_to_contain_text("the last key")
    is_for_everybody(page)
    remove.click()
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    expect(remove).to_have_count(0)
    assert [key["comment"] for key in agent.users["ada"]["ssh_keys"]] == ["ada@desk"]
    row.get_by_role("button").click()
    expect(dialog).to_contain_text("it is the last key")


def test_a_user_is_shown_and_its_account_that_others_changed(site, visit):
    site.nodes["web1"].user_get = lambda name: {**site.nodes["web1"].users[name], "drift": ["in the group docker"]}
    page = settled(visit(site, "/nodes/web1/users/shop"))
    expect(page.get_by_text("in the group docker")).to_be_visible()
    page.get_by_text("Replace all keys").first.click()
    page.get_by_text("Delete", exact=True).click()
    page.get_by_role("button", name="Delete the user").click()
    expect(page.get_by_role("dialog")).to_contain_text("it is refused while the user owns shop")


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
    for lost in ("the account cs-ada", "/srv/codesmith/home/cs-ada with all files", "its 2 keys"):
        expect(dialog).to_contain_text(lost)
    confirm(page, "ada", "Delete")
    expect(page.get_by_text("No user ada on web1 (any more).")).to_be_visible()


def test_what_is_refused_in_the_dialog_is_said_there(site, visit):
    page = settled(visit(site, "/nodes/web1/users/shop"))
    page.locator("summary", has_text="Delete").click()
    page.get_by_role("button", name="Delete the user").click()
    dialog = page.get_by_role("dialog")
    confirm(page, "shop", "Delete")
    expect(dialog.get_by_role("alert")).to_contain_text("user 'shop' owns shop")
