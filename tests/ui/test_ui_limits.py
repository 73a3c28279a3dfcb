"""Limits and networks on the page of a workspace: refused hosts are allowed, limits change in place."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.page import is_for_everybody, settled
from tests.ui.stand_in import AT

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>"


def boxed(site):
    agent = site.nodes["web1"]
    agent.sandbox_create("shop", {"tasks": 7}, {"allow": ["pypi.org"], "deny": []})
    return agent


def test_a_refused_host_is_shown_and_allowed_with_one_button(site, visit):
    agent = boxed(site)
    agent.denied[:] = [
        {"host": "git.example.org", "port": 22, "count": 3, "last_at": AT},
        {"host": "2001:db8::1", "port": 8080, "count": 1, "last_at": AT},
        {"host": HOSTILE, "port": 443, "count": 1, "last_at": AT},
    ]
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    limits = page.locator("section[aria-labelledby=limits]")
    expect(limits.get_by_role("rowheader", name="git.example.org:22")).to_be_visible()
    expect(limits.get_by_text("[2001:db8::1]:8080")).to_be_visible()
    expect(limits.get_by_text(HOSTILE)).to_be_visible()
    is_for_everybody(page)
    limits.get_by_role("button", name="Allow git.example.org:22").focus()
    page.keyboard.press("Enter")
    expect(limits.locator("dl").first).to_contain_text("git.example.org:22")
    assert agent.workspaces["shop"]["sandbox"]["network"]["allow"] == ["pypi.org", "git.example.org:22"]


def test_limits_change_in_place_and_none_takes_one_away(site, visit):
    agent = boxed(site)
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    limits = page.locator("section[aria-labelledby=limits]")
    limits.get_by_text("Change limits", exact=True).click()
    form = limits.get_by_role("form", name="Change the limits")
    form.get_by_label("memory bytes").fill("512M")
    form.get_by_label("tasks").fill("none")
    form.get_by_role("button", name="Change the limits").click()
    expect(limits.locator("dl").first).to_contain_text("512 MiB")
    assert agent.workspaces["shop"]["sandbox"]["limits"] == {"memory_bytes": 512 << 20}


def test_what_is_wrong_with_a_limit_stands_at_its_field(site, visit):
    agent = boxed(site)
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    limits = page.locator("section[aria-labelledby=limits]")
    limits.get_by_text("Change limits", exact=True).click()
    form = limits.get_by_role("form", name="Change the limits")
    form.get_by_label("tasks").fill("many")
    form.get_by_role("button", name="Change the limits").click()
    expect(form.locator("[aria-invalid]")).to_have_count(1)
    assert agent.workspaces["shop"]["sandbox"]["limits"] == {"tasks": 7}


def test_a_network_is_a_word_or_the_lists_of_its_hosts(site, visit):
    agent = boxed(site)
    page = settled(visit(site, "/nodes/web1/workspaces/shop"))
    limits = page.locator("section[aria-labelledby=limits]")
    limits.get_by_text("Change limits", exact=True).click()
    form = limits.get_by_role("form", name="Change the limits")
    hosts = form.locator("fieldset", has_text="list").get_by_label("allow")
    expect(hosts).to_be_hidden()
    form.get_by_label("network").select_option("list")
    hosts.fill("github.com\n*.example.org:443")
    is_for_everybody(page)
    form.get_by_role("button", name="Change the limits").click()
    expect(limits.locator("dl").first).to_contain_text("*.example.org:443")
    assert agent.workspaces["shop"]["sandbox"]["network"] == {"allow": ["github.com", "*.example.org:443"]}
    expect(hosts).to_be_hidden()
    form.get_by_label("network").select_option("none")
    form.get_by_role("button", name="Change the limits").click()
    expect(limits.locator("dl").first).to_contain_text("none")
    page.wait_for_function("document.querySelector('form [aria-invalid]') === null")
    assert agent.workspaces["shop"]["sandbox"]["network"] == "none"
