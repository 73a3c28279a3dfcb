"""Commands that stream and jobs on the page of a workspace, in Debian's Chromium with a stand-in agent behind it."""

from __future__ import annotations

import threading
import time

import pytest
from playwright.sync_api import expect

from tests.ui.page import HOSTILE, SHOWN, confirm, field, is_for_everybody, settled, tab_to
from tests.ui.stand_in_work import STDERR, Refusal

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

ESCAPES = (
    b"\x1b[31mred\x1b[0m plain \x1b]0;title\x07after\x1b[2J\x1b[10;10Hmoved \x1b]8;;http://evil.example\x1b\\link"
    b"\x1b]8;;\x1b\\ \x1bPq#0;2\x1b\\done\n"
)


@pytest.fixture
def shop(ui):
    """A workspace that runs."""
    runtime = {"state": "running", "since": "2026-11-29T20:00:00.000Z", "idle_stop_at": None}
    ui.nodes["web1"].add("shop", runtime=runtime)
    return ui


@pytest.fixture
def page(shop, visit):
    return settled(visit(shop, "/nodes/web1/workspaces/shop"))


def run(page, command: str):
    page.get_by_label("Command", exact=True).fill(command)
    page.get_by_role("button", name="Run", exact=True).click()


def start(page, command: str):
    page.get_by_label("Command of the job").fill(command)
    page.get_by_role("button", name="Start the job", exact=True).click()


def until(is_so):
    deadline = time.monotonic() + 8
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_shows_what_it_writes_as_it_comes_and_how_it_ended(shop, page):
    agent = shop.nodes["web1"]

    def build(program):
        program.write(b"one\n")
        program.stopped.wait(8)  # until the page has shown that
        program.write(b"trouble\n", STDERR)
        program.write("gr\u00fc\u00dfe\n".encode()[:3])
        program.write("gr\u00fc\u00dfe\n".encode()[3:])
        program.end(3)

    agent.programs["make"] = build
    run(page, "make 'all of it'")
    log = page.get_by_role("group", name="Output of make")
    expect(log).to_have_text("one\n")
    expect(page.get_by_role("log")).to_contain_text("running")
    next(iter(agent.jobs.values())).stopped.set()
    expect(page.get_by_role("log")).to_contain_text("exit 3")
    expect(log).to_have_text("one\ntrouble\ngr\u00fc\u00dfe\n")
    expect(log.locator(".stderr")).to_have_text("trouble\n")
    page.get_by_label("Streams of: Output of make").select_option("stderr")
    expect(log).to_have_text("trouble\n")
    (params,) = [params for method, params in agent.requests if method == "job.start"]
    assert params["argv"] == ["make", "all of it"]
    assert (params["ends_with_stream"], params["stdin"]) == (True, "none")
    assert "workspace.exec" not in agent.calls


def test_hostile_output_stays_text_and_colours_are_colours(shop, page):
    def hostile(program):
        program.write(ESCAPES)
        program.write(b"\x1b[3")  # a colour in two pieces
        program.write(b"2mgreen\x1b[m")
        program.write(f"\n{HOSTILE}\n".encode())
        program.write(b"10%\r50%\r100%\r\n\xff\xfe\n\x1b]0;never ended")
        program.end()

    shop.nodes["web1"].programs["cat"] = hostile
    page.on("dialog", lambda dialog: pytest.fail(f"a script of the node ran: {dialog.message}"))
    run(page, "cat x")
    expect(page.get_by_role("log")).to_contain_text("exit 0")
    log = page.get_by_role("group", name="Output of cat")
    expect(log).to_contain_text("red plain after")
    expect(log).to_contain_text("moved link done")
    assert log.locator(".fg-red").first.inner_text() == "red"
    assert log.locator(".fg-green").inner_text() == "green"
    text = log.inner_text()
    for dropped in ("title", "[2J", "evil.example", "#0;2"):
        assert dropped not in text
    # What it shows of the rest is what it is: its colour sequence is one, and the marks are visible.
    expect(log).to_contain_text(SHOWN.replace("\\x1b[31m", ""))
    expect(log).to_contain_text("100%")
    assert "50%" not in text
    assert page.locator("img, main script").count() == 0
    assert page.title() == "shop · CodeSmith"
    page.get_by_label("Search in: Output of cat").fill("moved")
    expect(log).not_to_contain_text("green")
    expect(log).to_contain_text("moved")


def test_a_command_is_stopped_and_the_page_says_by_whom(shop, page):
    shop.nodes["web1"].programs["sleep"] = lambda program: program.stopped.wait(20)
    run(page, "sleep 1000")
    page.get_by_role("log").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("log")).to_contain_text("signal SIGTERM")
    expect(page.get_by_role("log")).to_contain_text("stopped")
    expect(page.get_by_role("log").get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("how", ["another page of ours", "reload", "close"])
def test_a_command_ends_when_its_page_is_left(shop, page, how):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    run(page, "sleep 1000")
    expect(page.get_by_role("log")).to_contain_text("running")
    until(lambda: agent.streams == 1)
    if how == "reload":
        page.reload()
    elif how == "close":
        page.close()
    else:
        page.get_by_role("navigation").get_by_role("link", name="web1").click()
    until(lambda: agent.streams == 0)
    (job,) = agent.jobs.values()
    assert job.record["killed_by"] == "disconnect"


def test_a_command_that_does_not_start_says_why_and_keeps_what_was_typed(shop, page):
    run(page, "echo 'open")
    expect(page.get_by_role("alert").get_by_text("a quote is open")).to_be_visible()
    page.get_by_text("Directory, environment, time limit", exact=True).click()
    field(page, "cwd").first.fill("code")
    field(page, "env").first.fill("A=1\nB=two words")
    page.get_by_label("timeout s").first.fill("many")
    run(page, "sh -c 'cat \"$0\"' x")
    expect(page.get_by_role("alert").get_by_text("timeout_s must be number")).to_be_visible()
    page.get_by_label("timeout s").first.fill("5")
    page.get_by_role("button", name="Run with these").click()
    expect(page.get_by_role("group", name="Output of sh")).to_be_visible()
    asked = shop.nodes["web1"].requests
    until(lambda: [params["timeout_s"] for method, params in asked if method == "job.start"][-1] == 5)
    params = [params for method, params in asked if method == "job.start"][-1]
    assert (params["cwd"], params["env"]) == ("code", {"A": "1", "B": "two words"})
    assert params["argv"] == ["sh", "-c", 'cat "$0"', "x"]
    page.reload()
    settled(page)
    expect(page.get_by_label("Command", exact=True)).to_have_value("sh -c 'cat \"$0\"' x")


def test_a_job_is_started_listed_read_stopped_and_deleted(shop, page):
    agent = shop.nodes["web1"]

    def build(program):
        program.write(b"begun\n")
        program.stopped.wait(20)

    agent.programs["make"] = build
    page.get_by_text("Name, directory, environment, time limit", exact=True).click()
    field(page, "name").first.fill("nightly")
    start(page, "make all")
    row = page.get_by_role("group", name="Jobs").get_by_role("row", name="nightly")
    expect(row).to_contain_text("running")
    expect(row).to_contain_text("make all")
    expect(page.locator("section[aria-labelledby=jobs] input[name=name]")).to_have_value("")  # it is for one job
    log = page.get_by_role("group", name="Output of nightly")
    expect(log).to_have_text("begun\n")
    (job,) = agent.jobs.values()
    job.write(b"more\n")
    expect(log).to_contain_text("more")
    row.get_by_role("button", name="Stop: nightly").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("signal").fill("SIGINT")
    dialog.get_by_label("grace s").fill("2")
    dialog.get_by_role("button", name="Stop the job").click()
    expect(row).to_contain_text("signal SIGINT")
    expect(row).to_contain_text("stopped")
    expect(page.get_by_text("this is its end")).to_be_visible()
    (params,) = [params for method, params in agent.requests if method == "job.stop"]
    assert (params["signal"], params["grace_s"]) == ("SIGINT", 2)
    row.get_by_role("button", name="Delete: nightly").click()
    confirm(page, "nightly", "Delete the job")
    expect(row).to_have_count(0)
    assert agent.jobs == {}


def test_a_job_of_somebody_else_is_on_the_page_by_itself_and_nothing_is_started(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["make"] = lambda program: program.stopped.wait(20)
    job = agent.jobs[agent.job_start("shop", ["make", HOSTILE], name=f"n{HOSTILE}")["id"]]
    row = page.get_by_role("group", name="Jobs").get_by_role("row", name="n<img")
    row.wait_for()
    expect(row).to_contain_text(SHOWN)
    job.end(137, "SIGKILL", "memory")
    expect(row).to_contain_text("out of memory")
    assert not {"job.logs", "job.attach", "job.start", "file.list", "workspace.exec"} & set(agent.calls)


def test_a_log_reads_on_where_it_stopped_after_a_lost_connection(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["make"] = lambda program: program.stopped.wait(20)
    start(page, "make")
    until(lambda: agent.jobs)
    (job,) = agent.jobs.values()
    job.write(b"one\n")
    log = page.get_by_role("group", name=f"Output of {job.record['id']}")
    expect(log).to_have_text("one\n")
    until(lambda: agent.streams == 1)
    agent.stop()
    job.write("zw\u00f6lf\n".encode())
    agent.start()
    expect(log).to_have_text("one\nzw\u00f6lf\n", timeout=15_000)
    offsets = [params.get("offset") for method, params in agent.requests if method == "job.attach"]
    assert offsets[0] == 0
    assert offsets[-1] == 4
    # The log has dropped its middle: the page says how much is missing.
    until(lambda: agent.streams == 1)
    agent.stop()
    job.write(b"x" * 5000 + b"last\n")
    job.begins, job.log = 4 + 6 + 5000, [(1, b"last\n")]
    agent.start()
    expect(log).to_contain_text("[4.9 KiB left out of the log here]\nlast", timeout=15_000)


def test_a_huge_output_costs_the_browser_little(shop, page):
    size = 16 << 20

    def flood(program):
        line = b"0123456789abcde\n" * 4096
        for _ in range(size // len(line)):
            program.write(line)
        program.write(b"y" * 100_000)  # one line
        program.write(b"\nthe end\n")
        program.end()

    shop.nodes["web1"].programs["yes"] = flood
    run(page, "yes")
    log = page.get_by_role("group", name="Output of yes")
    expect(log).to_contain_text("the end", timeout=30_000)
    assert log.locator(".line").count() <= 5000
    assert page.evaluate("document.querySelector('.log').textContent.length") < 3 << 20
    expect(page.get_by_role("log")).to_contain_text("earlier ones are not shown")


def test_a_log_is_downloaded_whole(shop, page):
    agent = shop.nodes["web1"]

    def build(program):
        program.write(b"\x00\xffbytes\n" * 500)
        program.end()

    agent.programs["make"] = build
    start(page, "make")
    expect(page.get_by_text("this is its end")).to_be_visible()
    (job,) = agent.jobs.values()
    with page.expect_download() as got:
        page.get_by_role("button", name="Download", exact=True).click()
    assert got.value.suggested_filename == f"{job.record['id']}.log"
    assert got.value.path().read_bytes() == b"\x00\xffbytes\n" * 500


def test_commands_and_jobs_can_be_used_with_the_keyboard(shop, page):
    shop.nodes["web1"].programs["make"] = lambda program: program.stopped.wait(20)
    page.get_by_label("Command of the job").focus()
    page.keyboard.type("make")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Output of")).to_be_focused()
    (job,) = shop.nodes["web1"].jobs.values()
    expect(page.get_by_role("row", name=job.record["id"])).to_be_visible()  # the list is live, and may come later
    tab_to(page, "Close")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Output of")).to_have_count(0)
    expect(page.locator(":focus")).to_have_text("Output")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    tab_to(page, "Stop the job")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("row", name=job.record["id"])).to_contain_text("stopped")


def test_a_job_whose_runtime_is_too_old_is_said_with_the_next_command(shop, page):
    def refuse(**_):
        raise Refusal(1006, "the runtime is older than the agent", kind="unsupported", hint="inv workspace.stop shop")

    shop.nodes["web1"].job_list = refuse
    expect(page.get_by_text("the runtime is older than the agent")).to_be_visible()
    expect(page.get_by_text("inv workspace.stop shop")).to_be_visible()


def test_commands_and_jobs_are_for_everybody(shop, page):
    """axe finds nothing, light and dark, and all of it fits a phone."""
    agent = shop.nodes["web1"]
    agent.programs["make"] = lambda program: (program.write(b"x" * 500 + b"\n", STDERR), program.stopped.wait(20))
    run(page, "echo " + "long" * 100)
    start(page, "make " + "longer" * 50)
    expect(page.locator(".log .stderr")).to_be_visible()
    page.get_by_role("button", name="Stop:").click()
    is_for_everybody(page)


def test_a_command_that_is_stopped_before_it_began_is_stopped_as_it_begins(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    start, begins = agent.job_start, threading.Event()
    agent.job_start = lambda **given: begins.wait(20) and start(**given)
    run(page, "sleep 1000")
    log = page.get_by_role("log")
    log.get_by_role("button", name="Stop").click()
    expect(log).to_contain_text("to be stopped as it begins")
    begins.set()
    expect(log).to_contain_text("signal SIGTERM")
    assert "" not in [params["id"] for method, params in agent.requests if method == "job.stop"]


def test_a_skip_to_the_content_leaves_the_page_as_it_is(shop, page):
    agent = shop.nodes["web1"]
    agent.programs["sleep"] = lambda program: program.stopped.wait(20)
    run(page, "sleep 1000")
    until(lambda: agent.streams == 1)
    page.locator("a.skip").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**#main")
    expect(page.get_by_role("log")).to_contain_text("running")
    page.get_by_role("log").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("log")).to_contain_text("signal SIGTERM")
