"""The page of the API: every method of the contract, its request, answer and error."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.page import field, settled
from tests.ui.stand_in import CONTRACT

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

LATER = {
    "name": "flow.start", "summary": "Start a flow.", "x-mutates": True, "errors": [], "description": "Start a flow.",
    "params": [
        {"name": "workspace", "required": True, "schema": {"type": "string"}},
        {"name": "argv", "required": True, "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "detached", "required": False, "schema": {"type": "boolean", "default": False}},
        {"name": "request_id", "required": False, "schema": {"type": "string"}},
    ],
}  # fmt: skip


def test_a_method_that_the_contract_gets_later_is_there_without_a_line_here(serve, visit):
    ui = serve("web1", extra={"flow.start": (LATER, lambda **params: {"id": "j1", **params})})
    ui.nodes["web1"].add("shop")
    page = settled(visit(ui, "/nodes/web1/api"))
    page.get_by_role("link", name="flow.start").click()
    settled(page)
    field(page, "workspace").fill("shop")
    field(page, "argv").fill("sleep\n60 s")
    page.get_by_label("detached").check()
    expect(
        page.get_by_text('print(node.flow.start(workspace="shop", argv=["sleep", "60 s"], detached=True))')
    ).to_be_visible()
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading", name="Answer")).to_be_visible()
    (params,) = [params for method, params in ui.nodes["web1"].requests if method == "flow.start"]
    assert params.pop("request_id")
    assert params == {"workspace": "shop", "argv": ["sleep", "60 s"], "detached": True}
    page.goto(f"{ui.access.origin}/nodes/web1/workspaces/shop")
    settled(page)
    page.locator("summary", has_text="flow.start").click()
    expect(page.get_by_role("button", name="flow.start")).to_be_visible()


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
