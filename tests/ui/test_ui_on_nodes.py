"""The pages with real nodes behind them, opened as an operator opens them: `inv ui.open`, then Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time

import pytest
from playwright.sync_api import expect

from tests.ui.page import confirm, field, run_command, settled, shoot, start_job
from tests.waiting import eventually


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

    run_command(page, "id -un; pwd; printf '\\033[31mred\\033[0m \\342\\200\\256x\\n'; ls / >&2; exit 3")
    log = page.get_by_role("group", name="Output of sh")
    expect(page.get_by_role("log")).to_contain_text("exit 3", timeout=60_000)
    expect(log).to_contain_text("cs-shop")
    expect(log).to_contain_text("\\u202ex")
    expect(log.locator(".fg-red")).to_have_text("red")
    expect(log.locator(".stderr", has_text="srv")).to_have_text("srv\n")

    page.get_by_role("heading", name="Enter", exact=True).evaluate("one => one.scrollIntoView()")
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


def test_a_command_is_stopped_and_one_whose_page_is_left_ends_with_all_it_started(at, page, ada):
    at("/nodes/web1/workspaces/shop")
    run_command(page, "echo begun; sleep 4441 & sleep 4441")
    expect(page.get_by_role("group", name="Output of sh")).to_have_text("begun\n", timeout=30_000)
    page.get_by_role("log").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("log")).to_contain_text("stopped", timeout=30_000)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("group", name="Output of sh").first).to_have_text("begun\n")
    assert len(ada.on("web1", "pgrep --full '^sleep 4441$'").out.split()) == 2
    page.get_by_role("navigation").get_by_role("link", name="web1").click()
    eventually(lambda: ada.on("web1", "pgrep --full '^sleep 4441$'", check=False).out == "", within_s=10)


def test_a_job_is_followed_from_the_page_and_survives_it(at, page, ada):
    at("/nodes/web1/workspaces/shop")
    page.get_by_text("Name, directory, environment, time limit").click()
    field(page, "name").first.fill("build")
    work = "until test -e go; do sleep 0.1; done; printf '\\033[32mdone\\033[0m\\n'"
    start_job(page, f"echo compiling; echo careful >&2; {work}")
    jobs = page.get_by_role("group", name="Jobs")
    row = jobs.get_by_role("row", name="build")
    expect(row).to_contain_text("running", timeout=30_000)
    log = page.get_by_role("group", name="Output of build")
    expect(log).to_have_text("compiling\ncareful\n", timeout=30_000)
    expect(log.locator(".stderr")).to_have_text("careful\n")
    jobs.evaluate("one => one.scrollIntoView()")
    shoot(page, "jobs")
    at("/nodes/web1")
    at("/nodes/web1/workspaces/shop")
    expect(row).to_contain_text("running")
    ada.runs("inv workspace.exec shop --node web1 -- touch go")
    expect(row).to_contain_text("exit 0", timeout=30_000)
    row.get_by_role("button", name="Output: build").click()
    expect(log).to_have_text("compiling\ncareful\ndone\n")
    expect(log.locator(".fg-green")).to_have_text("done")
    with page.expect_download() as got:
        page.get_by_role("button", name="Download", exact=True).click()
    assert got.value.path().read_bytes() == b"compiling\ncareful\n\x1b[32mdone\x1b[0m\n"
    begun = time.monotonic()
    ada.runs("inv job.start shop --node web1 --name elsewhere -- sleep 4442")
    expect(jobs.get_by_role("row", name="elsewhere")).to_contain_text("running", timeout=1_500)
    jobs.get_by_role("button", name="Stop: elsewhere").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop the job").click()
    expect(jobs.get_by_role("row", name="elsewhere")).to_contain_text("stopped", timeout=30_000)
    assert time.monotonic() - begun < 30


def test_files_go_to_a_workspace_and_back_and_are_edited_there(at, page, ada):
    at("/nodes/web1/workspaces/shop")
    page.get_by_role("button", name="Look at the files").click()
    files = page.get_by_role("group", name="Files")
    expect(files.get_by_role("button", name="Open code", exact=True)).to_be_visible(timeout=30_000)
    whole = os.urandom(700_000)
    page.locator("#files-upload").set_input_files({"name": "up.bin", "mimeType": "", "buffer": whole})
    expect(page.get_by_text("up.bin is there whole")).to_be_visible(timeout=30_000)
    with page.expect_download() as got:
        page.get_by_role("button", name="Download up.bin").click()
    assert got.value.path().read_bytes() == whole
    page.get_by_role("button", name="New text file").click()
    page.get_by_role("dialog").get_by_label("Name in the workspace").fill("notes.txt")
    page.get_by_role("dialog").get_by_role("button", name="Go on").click()
    page.get_by_label("Text of notes.txt").fill("gr\u00fc\u00dfe\n")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(files.get_by_role("row", name="notes.txt")).to_contain_text("8 B", timeout=30_000)
    page.get_by_role("button", name="Edit notes.txt").click()
    text = page.get_by_label("Text of notes.txt")
    text.fill("mine\n")
    ada.runs("inv workspace.exec shop --node web1 -- sh -c 'echo theirs > notes.txt'")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("What you typed is still here.")).to_be_visible(timeout=30_000)
    page.get_by_role("heading", name="Files").evaluate("one => one.scrollIntoView()")
    shoot(page, "files")
    page.get_by_role("button", name="Show what is there now").click()
    expect(page.get_by_label("What is in notes.txt now")).to_have_value("theirs\n")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(text).to_have_count(0, timeout=30_000)
    assert ada.runs("inv workspace.exec shop --node web1 -- cat notes.txt").out == "mine\n"
    files.get_by_role("button", name="Remove up.bin").click()
    confirm(page, "up.bin", "Remove it")
    expect(files.get_by_role("row", name="up.bin")).to_have_count(0)


@pytest.mark.long
def test_a_workspace_is_shared_until_what_runs_in_it_is_ended(at, page, ada):
    ada.runs("inv user.create bea --node web1")
    at("/nodes/web1/workspaces/shop")
    users = page.locator("section[aria-labelledby=users]")
    expect(users.get_by_role("row").filter(has_text="owner")).to_contain_text("ada@laptop")
    users.get_by_text("Share it with a user").click()
    users.get_by_role("combobox").first.fill("bea")
    users.get_by_role("button", name="Share it", exact=True).click()
    end = users.get_by_role("button", name="End sharing with bea")
    expect(end).to_be_visible(timeout=30_000)
    assert ada.runs("inv workspace.get shop --node web1 --json").json["shared_with"] == ["bea"]
    job = ada.runs("inv job.start shop --node web1 --name shared --json -- sleep 4444").json
    expect(page.get_by_role("group", name="Jobs").get_by_role("row", name="shared")).to_contain_text("running")
    end.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 running job: shared")
    confirm(page, "bea", "End sharing")
    expect(end).to_have_count(0, timeout=30_000)
    assert ada.runs("inv workspace.get shop --node web1 --json").json["shared_with"] == []
    assert ada.runs(f"inv job.get shop {job['id']} --node web1 --json").json["state"] != "running"
    ada.runs("inv user.delete bea --yes --node web1")


@pytest.mark.long
def test_a_token_is_made_and_used_as_the_page_says_and_revoked(at, page, ada, tmp_path):
    at("/nodes/web1/workspaces/shop")
    tokens = page.locator("section[aria-labelledby=tokens]")
    tokens.get_by_text("Create a token", exact=True).click()
    field(tokens, "label").fill("ci")
    tokens.get_by_role("button", name="Create the token").click()
    use = tokens.locator("code", has_text="export CODESMITH_ENDPOINT=")
    expect(use).to_be_visible(timeout=30_000)
    tokens.evaluate("one => one.scrollIntoView()")
    shoot(page, "token")
    with page.expect_download() as got:
        tokens.get_by_role("button", name="Save as a file").click()
    file = tmp_path / got.value.suggested_filename
    got.value.save_as(file)
    commands = [one for one in tokens.locator(".output code").all_inner_texts() if file.name in one]
    (restrict,) = [one for one in commands if one.startswith("chmod ")]
    begin = f"{restrict} && {use.inner_text()}"
    known = {key: value for key, value in ada.environment.items() if not key.startswith("CODESMITH_")}
    environment = {**known, "CODESMITH_HOME": str(tmp_path / "home")}

    def holder_runs(command: str) -> subprocess.CompletedProcess[str]:
        argv = ["bash", "-c", f"{begin} && {command}"]
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    (look,) = tokens.locator("code", has_text="codesmith workspace.get").all_inner_texts()
    done = holder_runs(f"{look} && codesmith workspace.exec shop -- id -un")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("cs-shop\n")
    assert "does not reach user.list" in holder_runs("codesmith user.list").stderr
    row = tokens.get_by_role("row", name=re.compile("^ci"))
    expect(row).not_to_contain_text("never", timeout=30_000)
    tokens.get_by_role("button", name="Done: hide it").click()
    tokens.get_by_role("button", name="Revoke ci").click()
    confirm(page, "ci", "Revoke the token")
    expect(row).to_have_count(0, timeout=30_000)
    assert holder_runs(look).returncode == 4


def test_a_page_starts_no_runtime_and_a_click_does(at, page, ada):
    ada.runs("inv workspace.stop shop --node web1")
    at("/nodes/web1/workspaces/shop")
    jobs = page.get_by_role("group", name="Jobs")
    expect(jobs.get_by_role("row", name="build")).to_contain_text("exit 0")
    page.wait_for_timeout(1500)
    assert ada.runs("inv workspace.get shop --node web1 --json").json["runtime"]["state"] == "stopped"
    jobs.get_by_role("button", name="Output: build").click()
    expect(page.get_by_role("group", name="Output of build")).to_contain_text("compiling", timeout=30_000)
    assert ada.runs("inv workspace.get shop --node web1 --json").json["runtime"]["state"] == "running"


@pytest.mark.long
def test_a_port_is_forwarded_from_the_page(at, page, ada):
    at("/nodes/web1/workspaces/shop")
    start_job(page, "python3 -m http.server --directory code 8123", through_sh=False)
    page.get_by_label("Port inside").fill("8123")
    page.get_by_role("button", name="Forward it").click()
    link = page.get_by_role("group", name="Forwarded ports").get_by_role("link")
    expect(link).to_be_visible(timeout=30_000)
    address = link.get_attribute("href")

    def listing():
        done = subprocess.run(["curl", "--silent", "--fail", address], capture_output=True, text=True, check=False)
        return "Directory listing" in done.stdout

    eventually(listing, within_s=20)
    ada.runs("inv workspace.forward shop 8123 --stop --node web1")
    expect(link).to_have_count(0)


def test_what_the_command_line_does_is_on_the_page_at_once(at, page, ada):
    at("/nodes/web1")
    shown = page.get_by_role("link", name="by-hand")
    ada.runs("inv workspace.create by-hand --node web1")
    expect(shown.first).to_be_visible()
    ada.runs("inv workspace.delete by-hand --yes --node web1")
    expect(shown).to_have_count(0)


@pytest.mark.long
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
    expect(page.get_by_role("link", name="rpc.discover")).to_be_visible()
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
    page.get_by_label("Command", exact=True).wait_for()
    pid = int((ada.home / "run" / "forwarder.lock").read_text())
    os.kill(pid, signal.SIGKILL)
    run_command(page, "echo again", through_sh=False)
    expect(page.get_by_role("group", name="Output of echo")).to_have_text("again\n", timeout=60_000)
    at("/")
    expect(page.get_by_role("row", name=re.compile("web1"))).to_contain_text("ready", timeout=30_000)


def test_a_workspace_is_deleted_with_all_that_would_be_lost_named(at, page, ada):
    script = (
        "cd code/app && echo 1 > one && git add one && git -c user.name=a -c user.email=a@b commit -qm one && touch two"
    )
    ada.runs(f"inv workspace.exec shop --node web1 -- sh -c '{script}'")
    ada.runs("inv job.start shop --node web1 -- sleep 4443")
    at("/nodes/web1/workspaces/shop")
    expect(page.get_by_role("group", name="Jobs")).to_contain_text("sleep 4443")
    page.get_by_role("button", name="Delete the workspace").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("code/app: 1 commit that no remote has and 1 changed file; it has no remote")
    expect(dialog).to_contain_text("1 running job: sleep 4443")
    expect(dialog).to_contain_text(re.compile("in [0-9]+ files"))
    shoot(page, "delete")
    confirm(page, "shop", "Delete the workspace")
    page.wait_for_url("**/nodes/web1")
    expect(page.get_by_text("No workspaces here.")).to_be_visible()
    assert ada.runs("inv workspace.list --node web1 --json").json == []
