"""How tests read a page in the browser."""

from __future__ import annotations

import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

# Markup, a control sequence, text that turns the direction of what follows, and invisible characters.
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m\u202egnp.exe\u2066\u200b'\"&lt;"
SHOWN = "<img src=x onerror=alert(1)><script>alert(2)</script>\\x1b[31m\\u202egnp.exe\\u2066\\u200b'\"&lt;"


def is_for_everybody(page: Page) -> None:
    """axe finds nothing, light and dark, with a dialogue and without it, and all of it fits a phone."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    page.keyboard.press("Escape")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


def settled(page: Page) -> Page:
    """Wait until the page has drawn what it knows."""
    expect(page.get_by_text("Reading the contract")).to_have_count(0)
    page.wait_for_timeout(250)
    return page


def opened(page: Page) -> Page:
    """Open all that can be opened."""
    settled(page).evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    return settled(page)


def field(page: Page, name: str) -> Locator:
    """Return the field of this name, required or not."""
    return page.get_by_role("textbox", name=re.compile(f"^{name}( \\(required\\))?$"))


def tab_to(page: Page, text: str, id_of: str = "") -> None:
    script = "id => id ? document.activeElement.name ?? '' : document.activeElement.textContent"
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate(script, id_of) == (id_of or text):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{text} shows no focus"
            return
    raise AssertionError(f"{text or id_of} is not reached with Tab")
