"""How tests read a page in the browser, and what they do there as a person does."""

from __future__ import annotations

import os
import re
from pathlib import Path

from axe_playwright_python.sync_playwright import DEFAULT_OPTIONS, Axe
from playwright.sync_api import Error, Locator, Page

# Where screenshots for the documents go, if they are wanted.
SHOTS = os.environ.get("CODESMITH_SCREENSHOTS", "")
# Markup, a control sequence, text that turns the direction of what follows, and invisible characters.
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m\u202egnp.exe\u2066\u200b'\"&lt;"
SHOWN = "<img src=x onerror=alert(1)><script>alert(2)</script>\\x1b[31m\\u202egnp.exe\\u2066\\u200b'\"&lt;"


# What another colour scheme can break.
COLOURS = {"resultTypes": ["violations"], "runOnly": ["color-contrast", "link-in-text-block"]}
# As often as a page loads itself again.
LOADS_MAX = 6
# The page hears from the server; and if it is to be whole, it knows the state of what it shows and has drawn that.
WAIT = """async (isToBeWhole) => {
    const until = async (isSo) => {
        for (let at = 0; at < 2000 && !isSo(); at += 1) await new Promise((resolve) => setTimeout(resolve, 10));
        return Boolean(isSo());
    };
    if (!await until(() => document.getElementById("live")?.textContent === "live")) return false;
    if (!isToBeWhole) return true;
    const live = await import("/static/live.js");
    await live.pageId();
    const node = /^\\/nodes\\/([^/]+)/.exec(location.pathname)?.[1];
    const states = () => (node ? [node] : live.nodeNames()).map((name) => live.get(name, "node")?.state);
    const isOpen = (state) => ["connecting", "unknown", undefined].includes(state);
    const isKnown = () => live.get("", "registry") && !states().some(isOpen);
    const isRead = () => states().includes("down") || !document.getElementById("audit")
        || document.querySelector("[aria-labelledby=audit] :is(.pager, .notice)");
    const isWhole = () => !document.body.textContent.includes("Reading the contract");
    const done = await until(isWhole) && await until(isKnown) && await until(isRead);
    await new Promise((resolve) => setTimeout(resolve, 20)); // a change is drawn 16 ms after it came
    return done;
}"""


def is_accessible(page: Page) -> None:
    """axe finds nothing, light and dark."""
    for scheme, options in (("light", DEFAULT_OPTIONS), ("dark", COLOURS)):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options=options)
        assert found.violations_count == 0, found.generate_report()


def is_for_everybody(page: Page) -> None:
    """axe finds nothing, light and dark, with a dialogue and without it, and all of it fits a phone."""
    is_accessible(page)
    if page.get_by_role("dialog").count():
        page.keyboard.press("Escape")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


def is_live(page: Page, *, is_to_be_whole: bool = False) -> bool:
    """Wait until the page hears from its server."""
    for _ in range(LOADS_MAX):
        try:
            return bool(page.evaluate(WAIT, is_to_be_whole))
        except Error as error:
            # A node of another test came or went: Chromium gave up requests, and the page loads itself again.
            if "Execution context was destroyed" not in error.message:
                raise
            page.wait_for_load_state()
    return False


def settled(page: Page) -> Page:
    """Wait until the page has drawn what it knows."""
    assert is_live(page, is_to_be_whole=True), "the page does not know the state of its node"
    return page


def opened(page: Page) -> Page:
    """Open all that can be opened."""
    settled(page).evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    return page


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


def shoot(page: Page, name: str) -> None:
    """Make a screenshot for the documents, if they are wanted."""
    if SHOTS:
        page.wait_for_timeout(300)
        page.screenshot(path=Path(SHOTS, f"ui-{name}.png"))


def run_command(page: Page, command: str, *, through_sh: bool = True) -> None:
    """Run a command on the page of a workspace."""
    page.get_by_label("through sh").first.set_checked(through_sh)
    page.get_by_label("Command", exact=True).fill(command)
    page.get_by_role("button", name="Run", exact=True).click()


def start_job(page: Page, command: str, *, through_sh: bool = True) -> None:
    """Start a job on the page of a workspace."""
    page.get_by_label("through sh").nth(1).set_checked(through_sh)
    page.get_by_label("Command of the job").fill(command)
    page.get_by_role("button", name="Start the job", exact=True).click()


def confirm(page: Page, word: str, button: str) -> None:
    """Type the word that a dialogue asks for, and go on."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(f"Type {word} to go on").fill(word)
    dialog.get_by_role("button", name=button).click()
