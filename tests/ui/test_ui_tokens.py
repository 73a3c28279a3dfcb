"""Tokens of a workspace on its page: made with a secret that is shown once, used, and revoked."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from codesmith.errors import AgentRefused, CodeSmithError
from codesmith.tunnel import local_endpoint
from codesmith.workspace import forwards
from tests.ui.page import HOSTILE, SHOWN, confirm, field, is_for_everybody, settled, tab_to

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

SHOP = "/nodes/web1/workspaces/shop"
SOCKET = "/run/user/1000/codesmith/a b.scoped.sock"


@pytest.fixture(autouse=True)
def endpoint(monkeypatch):
    """The socket that takes only tokens, as if the forwarder served it."""
    monkeypatch.setattr(local_endpoint, "ensure_scoped", lambda node: SOCKET)


def tokens_of(page):
    return page.locator("section[aria-labelledby=tokens]")


def secret_of(page):
    return tokens_of(page).get_by_role("textbox", name=re.compile("^Secret of"))


def create(page, **fields):
    tokens = tokens_of(page)
    if tokens.locator("details").first.get_attribute("open") is None:
        tokens.get_by_text("Create a token", exact=True).click()
    for name, value in fields.items():
        field(tokens, name.replace("_", " ")).fill(value)
    tokens.get_by_role("button", name="Create the token").click()


def test_a_token_is_made_its_secret_is_shown_once_and_it_is_revoked(site, visit):
    agent = site.nodes["web1"]
    page = settled(visit(site, SHOP))
    tokens = tokens_of(page)
    expect(tokens).to_contain_text("inv token.create shop")
    create(page, label="ci", expires_at="7d")
    secret = secret_of(page).input_value()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    (made,) = agent.token_records.values()
    assert (made["label"], made["preset"]) == ("ci", "work")
    ahead = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6) < ahead <= timedelta(days=7)
    assert agent.token_hashes[made["id"]] == hashlib.sha256(secret.encode()).hexdigest()
    for shown in (
        f"export CODESMITH_ENDPOINT='unix:{SOCKET}'",
        f"CODESMITH_TOKEN_FILE=$PWD/{made['id']}.token", "codesmith mcp.serve shop", "codesmith workspace.get shop",
    ):  # fmt: skip
        expect(tokens).to_contain_text(shown)
    with page.expect_download() as got:
        tokens.get_by_role("button", name="Save as a file").click()
    assert (got.value.suggested_filename, got.value.path().read_text()) == (f"{made['id']}.token", f"{secret}\n")
    is_for_everybody(page)
    tokens.get_by_role("button", name="Done: hide it").click()
    expect(secret_of(page)).to_have_count(0)
    row = tokens.get_by_role("row", name=re.compile("^ci"))
    expect(row).to_contain_text("never")
    made["last_used_at"] = "2026-11-30T07:03:00Z"
    agent.token_records[made["id"]] = dict(made)
    expect(row.locator("time[datetime='2026-11-30T07:03:00.000Z']")).to_be_visible()
    revoke = tokens.get_by_role("button", name="Revoke ci")
    revoke.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("streams that were opened with it, at once")
    expect(dialog.get_by_role("button", name="Revoke the token")).to_be_disabled()
    confirm(page, "ci", "Revoke the token")
    expect(revoke).to_have_count(0)
    assert agent.token_records == {}


def test_the_secret_is_written_down_nowhere_and_leaves_the_page_never(site, visit):
    agent = site.nodes["web1"]
    make = agent.token_create
    agent.token_create = lambda **given: agent.slow.wait(10) and make(**given)
    agent.slow.clear()
    page = visit(site, SHOP)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.url} {request.post_data}"))

    def written() -> str:
        stores = "JSON.stringify({...sessionStorage}) + JSON.stringify({...localStorage}) + document.cookie"
        return page.evaluate(stores)

    create(settled(page), label="ci")
    expect(page.locator("#notices")).to_contain_text("token.create shop on web1 is under way")
    # Done again after a reload it would be a token whose secret nobody has.
    assert "token_sha256" not in written()
    agent.slow.set()
    secret = secret_of(page).input_value()
    expect(tokens_of(page)).to_contain_text("CODESMITH_ENDPOINT")
    told = json.dumps(agent.requests)
    assert hashlib.sha256(secret.encode()).hexdigest() in told
    assert secret not in written() + told + "".join(sent) + page.content()
    page.reload()
    settled(page)
    expect(tokens_of(page).get_by_role("row", name=re.compile("^ci"))).to_be_visible()
    expect(secret_of(page)).to_have_count(0)


def test_a_token_of_single_methods_has_no_preset_and_what_is_wrong_stands_at_its_field(site, visit):
    agent = site.nodes["web1"]
    page = settled(visit(site, SHOP))
    create(page, expires_at="soon")
    problem = tokens_of(page).locator(".field", has=field(page, "expires at")).locator(".problem")
    expect(problem).to_contain_text("must be a time with its zone")
    expect(secret_of(page)).to_have_count(0)
    create(page, expires_at="", methods="file.read\nfile.stat")
    expect(secret_of(page)).to_have_count(1)
    (made,) = agent.token_records.values()
    assert (made["preset"], made["methods"], made["expires_at"]) == (None, ["file.read", "file.stat"], None)
    expect(tokens_of(page).get_by_role("row").last).to_contain_text("when it is revoked")
    expect(tokens_of(page)).to_contain_text("CODESMITH_ENDPOINT")
    expect(tokens_of(page)).not_to_contain_text("mcp.serve")
    expect(field(page, "expires at")).to_have_value("8h")


def test_a_token_that_reads_is_made_with_the_keyboard(site, visit):
    page = settled(visit(site, SHOP))
    tab_to(page, "Create a token")
    page.keyboard.press("Enter")
    tab_to(page, "", "preset")
    page.keyboard.type("read")
    tab_to(page, "", "label")
    page.keyboard.type("looker")
    page.keyboard.press("Enter")
    expect(tokens_of(page).get_by_role("heading", name="The secret of looker")).to_be_focused()
    expect(tokens_of(page)).to_contain_text("codesmith mcp.serve shop --read-only")
    tab_to(page, "Done: hide it")
    page.keyboard.press("Enter")
    expect(secret_of(page)).to_have_count(0)
    assert [one["preset"] for one in site.nodes["web1"].token_records.values()] == ["read"]


def test_a_token_without_its_endpoint_is_said_and_its_secret_is_there(site, visit, monkeypatch):
    def refuse(node):
        raise CodeSmithError("the forwarder is older", hint="inv node.disconnect web1")

    monkeypatch.setattr(local_endpoint, "ensure_scoped", refuse)
    page = settled(visit(site, SHOP, expects=("Failed to load resource",)))
    create(page)
    expect(tokens_of(page)).to_contain_text("the forwarder is older inv node.disconnect web1")
    assert len(secret_of(page).input_value()) == 64


def test_hostile_labels_stay_text_and_expired_tokens_are_said(site, visit):
    agent = site.nodes["web1"]
    made = agent.token_create("shop", "0" * 64, label=HOSTILE, expires_at="2020-01-01T00:00:00.000Z")
    agent.token_create("other", "1" * 64, label="of another")
    page = settled(visit(site, SHOP))
    row = tokens_of(page).get_by_role("row").last
    expect(row).to_contain_text(f"{SHOWN} {made['id']}")
    expect(row).to_contain_text("expired")
    assert "of another" not in tokens_of(page).inner_text()
    row.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text(f"Revoke {SHOWN} ({made['id']})")
    is_for_everybody(page)
    assert page.locator("img").count() == 0


def test_read_only_pages_show_tokens_and_users_and_change_neither(serve, visit):
    ui = serve("web1", read_only=True)
    agent = ui.nodes["web1"]
    agent.add("shop", shared_with=["shop2"])
    agent.add("shop2")
    agent.token_create("shop", "0" * 64, label="ci")
    ui.enter()
    page = settled(visit(ui, SHOP))
    expect(tokens_of(page).get_by_role("row", name=re.compile("^ci"))).to_be_visible()
    users = page.locator("section[aria-labelledby=users]")
    expect(users.get_by_role("row").filter(has_text="shared with")).to_be_visible()
    for part in (tokens_of(page), users):
        assert part.locator("form, button:not([aria-label^='Copy'])").count() == 0
    page.goto(f"{ui.access.origin}/nodes/web1/users/shop")
    expect(page.get_by_role("heading", name="SSH keys")).to_be_visible()
    assert page.locator("section[aria-labelledby=keys] form").count() == 0
    assert json.loads(ui.post("/nodes/web1/scoped", {})[2])["error"]["data"]["kind"] == "read_only_ui"
    assert ui.rpc("web1", "token.create", workspace="shop")["error"]["data"]["kind"] == "read_only_ui"


def test_what_the_agent_refuses_of_forwards_and_the_endpoint_is_said(site, visit, monkeypatch):
    def refuse(*_, **__):
        raise AgentRefused("the workspace is locked", code=1004)

    monkeypatch.setattr(local_endpoint, "ensure_scoped", refuse)
    monkeypatch.setattr(forwards, "start_forward", refuse)
    page = settled(visit(site, SHOP))
    create(page)
    expect(tokens_of(page)).to_contain_text("the endpoint is not: the workspace is locked")
    page.get_by_label("Port inside").fill("3000")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").get_by_text("the workspace is locked")).to_be_visible()
    expect(page.get_by_label("Port inside")).to_have_value("3000")
