"""The pages with real nodes behind them, opened as an operator opens them: `inv ui.open`, then Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.person import TOP
from tests.ui.page import field, settled

SHOTS = os.environ.get("CODESMITH_SCREENSHOTS", "")


@pytest.fixture(scope="module")
def ada(make_person, tmp_path_factory):
    """An operator with one prepared node and one that is not."""
    person = make_person({"web1": "bookworm", "db1": "trixie"})
    person.runs("inv node.prepare --node web1")
    key = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-C", "ada@laptop", "-f", key], check=True)
    person.key = key.with_suffix(".pub").read_text().strip()
    return person


@pytest.fixture(scope="module")
def origin(ada):
    """The pages, served by the command; the address that lets a browser in."""
    command = [sys.executable, "-m", "codesmith", "ui.open", "--print", "--json"]
    with subprocess.Popen(command, cwd=TOP, env=ada.environment, stdout=subprocess.PIPE, text=True) as process:
        said = ""
        while not said.rstrip().endswith("}"):
            said += process.stdout.readline()
        yield json.loads(said)
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def page(origin, browser):
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(Path(origin["file"]).as_uri())  # as a browser opens it
    expect(page.locator("#live")).to_have_text("live", timeout=30_000)
    yield page
    context.close()
    assert [one for one in page.problems if "ERR_NETWORK_CHANGED" not in one] == []


@pytest.fixture
def at(page, origin):
    """Go to a page: `at("/nodes/web1")`."""

    def go(path: str):
        page.goto(origin["url"].rstrip("/") + path)
        return settled(page)

    return go


def shoot(page, name: str) -> None:
    """Make a screenshot for the documents, if they are wanted."""
    if SHOTS:
        page.wait_for_timeout(300)
        page.screenshot(path=Path(SHOTS, f"ui-{name}.png"))


def test_a_node_is_prepared_with_its_plan_shown_first(at, ada):
    page = at("/")
    row = page.get_by_role("row", name=re.compile("db1"))
    expect(row).to_contain_text("down", timeout=30_000)
    expect(row).to_contain_text("inv node.prepare")
    page.get_by_role("checkbox", name="Choose db1").check()
    page.get_by_role("button", name="Plan to prepare").click()
    plan = page.get_by_role("group", name="Plan for db1")
    expect(plan).to_contain_text("create the user codesmith", timeout=60_000)
    assert ada.on("db1", "getent passwd codesmith", check=False).code != 0, "a plan changes nothing"
    page.get_by_role("button", name="Do all this on db1").click()
    expect(page.get_by_text(re.compile("^prepare on db1 running"))).to_be_visible()
    page.reload()
    expect(page.get_by_text(re.compile("^prepare on db1 done"))).to_be_visible(timeout=120_000)
    expect(row).to_contain_text("ready", timeout=30_000)
    page.get_by_text(re.compile("^[0-9]+ steps$")).first.click()
    expect(page.locator(".steps li").first).to_be_visible()


def test_a_workspace_is_made_worked_in_limited_and_given_away(at, page, ada):
    at("/nodes/web1/create")
    field(page, "name").first.fill("shop")
    field(page, "ssh keys").first.fill(ada.key)
    field(page, "labels").first.fill("team=red")
    page.get_by_role("button", name="Create the workspace").click()
    page.wait_for_url("**/workspaces/shop")
    settled(page)
    expect(page.get_by_text("/srv/codesmith/workspaces/shop").first).to_be_visible()
    assert ada.runs("inv workspace.get shop --node web1 --json").json["labels"] == {"team": "red"}

    page.get_by_label("through sh").check()
    page.get_by_label("Command", exact=True).fill(
        "id -un; pwd; printf '\\033[31mred\\033[0m \\342\\200\\256x\\n'; ls / >&2; exit 3"
    )
    page.get_by_role("button", name="Run", exact=True).click()
    log = page.get_by_role("group", name="stdout of sh")
    expect(log).to_contain_text("cs-shop")
    expect(log).to_contain_text("\\u202ex")
    expect(log.locator(".fg-red")).to_have_text("red")
    expect(page.get_by_role("group", name="stderr of sh")).to_contain_text("srv")
    expect(page.get_by_role("log")).to_contain_text("exit 3")

    page.get_by_role("heading", name="Enter").evaluate("one => one.scrollIntoView()")
    shoot(page, "workspace")

    page.get_by_text("Set limits", exact=True).click()
    page.get_by_label("memory bytes").first.fill("1")
    page.get_by_role("button", name="Set the limits").click()
    expect(page.locator(".problem:visible")).to_contain_text("16777216")
    page.get_by_label("memory bytes").first.fill("512M")
    page.get_by_role("button", name="Set the limits").click()
    expect(page.locator("section[aria-labelledby=limits]")).to_contain_text("512 MiB", timeout=60_000)

    page.get_by_text("Make an empty repo").click()
    page.locator("section[aria-labelledby=repos]").get_by_label("name", exact=True).last.fill("app")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("group", name="Repos")).to_contain_text("code/app", timeout=60_000)
    expect(page.get_by_role("group", name="Audit record").last).to_contain_text("repo.init")


def test_what_the_command_line_does_is_on_the_page_at_once(at, page, ada):
    at("/nodes/web1")
    shown = page.get_by_role("link", name="by-hand")
    ada.runs("inv workspace.create by-hand --node web1")
    begun = time.monotonic()
    expect(shown.first).to_be_visible()
    assert time.monotonic() - begun < 1.5
    ada.runs("inv workspace.delete by-hand --node web1")
    begun = time.monotonic()
    expect(shown).to_have_count(0)
    assert time.monotonic() - begun < 1.5


def test_a_user_gets_keys_is_disabled_and_enabled(at, page, ada):
    at("/nodes/web1/users/shop")
    expect(page.get_by_text("ada@laptop").first).to_be_visible()
    page.get_by_text("Replace all keys").first.click()
    field(page, "ssh keys").first.fill("no key at all")
    page.get_by_role("button", name="Replace all keys").click()
    expect(page.locator(".problem:visible").first).to_be_visible()
    page.locator("summary", has_text="Disable").click()
    page.get_by_role("button", name="Disable the user").click()
    expect(page.locator("dl .badge", has_text="disabled").first).to_be_visible(timeout=60_000)
    assert ada.runs("inv user.get shop --node web1 --json").json["state"] == "disabled"
    page.locator("summary", has_text="Enable").click()
    page.get_by_role("button", name="Enable the user").click()
    expect(page.locator("dl .badge", has_text="active").first).to_be_visible(timeout=60_000)


def test_the_node_is_examined_and_its_journal_followed(at, page, ada):
    at("/nodes/web1")
    expect(page.get_by_role("group", name="Checks")).to_contain_text("ok")
    page.get_by_role("button", name="Run all checks (doctor)").click()
    found = page.get_by_role("group", name="Doctor of web1")
    expect(found).to_contain_text("agent.answers", timeout=60_000)
    expect(found).to_contain_text("ssh.host-key")
    page.get_by_role("button", name="Follow the journal").click()
    journal = page.get_by_role("group", name="Journal of web1")
    expect(journal).to_contain_text("codesmith", timeout=60_000)
    ada.on("web1", "systemd-cat -t codesmith-agent true; systemctl restart codesmith-agent.service")
    expect(journal).to_contain_text("Stopp", timeout=30_000)
    page.get_by_role("button", name="Stop following").click()
    expect(page.get_by_role("button", name="Follow the journal")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Plan to prepare").click()
    expect(page.get_by_text("Nothing to do.")).to_be_visible(timeout=60_000)
    shoot(page, "node")


def test_the_contract_of_the_node_is_all_there(at, page, ada):
    at("/nodes/web1/api")
    shown = page.locator(".methods a").all_inner_texts()
    assert {"workspace.create", "rpc.discover", "audit.list"} <= set(shown)
    at("/nodes/web1/api/node.info")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("hostname").first).to_be_visible()
    curl = next(one for one in page.locator("pre.log").all_inner_texts() if one.startswith("curl "))
    done = subprocess.run(["bash", "-c", f"{curl} --silent"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["result"]["hostname"]
    shoot(page, "api")


def test_a_node_that_is_cut_off_is_said_with_its_reason_and_comes_back(at, page, ada):
    at("/")
    row = page.get_by_role("row", name=re.compile("db1"))
    expect(row).to_contain_text("ready")
    ada.lab_node("db1").cut_network()
    try:
        expect(row).to_contain_text("down", timeout=60_000)
        expect(row).to_contain_text("since")
        assert len(row.locator("td").nth(1).inner_text()) > 20
        expect(page.get_by_role("row", name=re.compile("web1"))).to_contain_text("ready")
        shoot(page, "fleet")
    finally:
        ada.lab_node("db1").restore_network()
    expect(row).to_contain_text("ready", timeout=60_000)


def test_a_forwarder_that_is_killed_is_started_again(at, page, ada):
    at("/nodes/web1/workspaces/shop")
    pid = int((ada.home / "run" / "forwarder.lock").read_text())
    os.kill(pid, signal.SIGKILL)
    page.get_by_label("Command", exact=True).fill("echo again")
    page.get_by_label("through sh").uncheck()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("group", name="stdout of echo")).to_have_text("again\n", timeout=60_000)
    at("/")
    expect(page.get_by_role("row", name=re.compile("web1"))).to_contain_text("ready", timeout=30_000)


def test_a_workspace_is_deleted_with_all_that_would_be_lost_named(at, page, ada):
    at("/nodes/web1/workspaces/shop")
    page.get_by_role("button", name="Delete the workspace").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("the repos app")
    shoot(page, "delete")
    dialog.get_by_label("Type shop to go on").fill("shop")
    dialog.get_by_role("button", name="Delete the workspace").click()
    page.wait_for_url("**/nodes/web1")
    expect(page.get_by_text("No workspaces here.")).to_be_visible()
    assert ada.runs("inv workspace.list --node web1 --json").json == []
