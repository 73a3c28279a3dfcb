"""Files of a workspace on its page, in Debian's Chromium with a stand-in agent behind it."""

from __future__ import annotations

import re
import threading

import pytest
from playwright.sync_api import expect

from tests.ui.page import HOSTILE, SHOWN, confirm, is_for_everybody, settled, tab_to
from tests.ui.stand_in_work import Refusal

# They need Chromium, which `make test` installs.
pytestmark = pytest.mark.slow

# A name that is no UTF-8 is told with half surrogates; what a disk of this machine must not get is in the other.
STRANGE = "caf\udce9.txt"


@pytest.fixture
def agent(ui):
    agent = ui.nodes["web1"]
    agent.add("shop")
    agent.put("code", kind="directory")
    agent.put("code/app.py", b"print(1)\n")
    agent.put("notes.txt", b"one\n")
    agent.put("now", kind="link", target="code")
    return agent


@pytest.fixture
def page(ui, agent, visit):
    page = settled(visit(ui, "/nodes/web1/workspaces/shop"))
    page.on("dialog", lambda dialog: pytest.fail(f"a script of the node ran: {dialog.message}"))
    return page


def look(page):
    page.get_by_role("button", name="Look at the files").click()
    return page.get_by_role("group", name="Files")


def test_nothing_is_read_before_somebody_asks(page, agent):
    expect(page.get_by_text("starts the runtime if it is stopped").first).to_be_visible()
    page.wait_for_timeout(700)
    assert not [method for method in agent.calls if method.startswith("file.")]
    files = look(page)
    row = files.get_by_role("row", name="notes.txt")
    for shown in ("file", "4 B", "0644"):
        expect(row).to_contain_text(shown)
    expect(files.get_by_role("row", name="now")).to_contain_text("link to code")
    files.get_by_role("button", name="Open code").click()
    expect(files.get_by_role("row", name="app.py")).to_be_visible()
    page.get_by_role("button", name="workspace", exact=True).click()
    expect(row).to_be_visible()  # its table, and with it the filter, is made anew
    page.get_by_label("Filter").fill("not")
    expect(files.get_by_role("row")).to_have_count(2)


def test_a_file_of_any_size_is_downloaded_whole(page, agent):
    whole = bytes(range(256)) * 5000  # three pieces
    agent.put("big.bin", whole)
    look(page)
    with page.expect_download() as got:
        page.get_by_role("button", name="Download big.bin").click()
    assert got.value.path().read_bytes() == whole
    assert got.value.suggested_filename == "big.bin"
    expect(page.get_by_text("big.bin was read whole")).to_be_visible()
    # One that changes meanwhile is no file that ever was.
    read, agent.file_read = agent.file_read, lambda **given: {**read(**given), "etag": f"e{given.get('offset')}"}
    page.get_by_role("button", name="Download big.bin").click()
    expect(page.get_by_text("it changed while it was read: nothing was saved")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("page.html", "page.html"), (STRANGE, "caf_.txt"), ("\u202egnp.exe", "_gnp.exe"), ("..\\..\\x", "_._.._x"),
        ('a"; filename="b', "a_; filename=_b"), ("con\ntrol\x1b", "con_trol_"),
    ],
)  # fmt: skip
def test_a_hostile_name_is_shown_and_saved_as_what_it_is(page, agent, name, saved):
    agent.put(name, b"<script>alert(1)</script>")
    files = look(page)
    row = files.get_by_role("row").nth(1 + sorted(agent.file_list("shop"), key=lambda one: one["path"]).index(
        next(one for one in agent.file_list("shop") if one["path"] == name)
    ))  # fmt: skip
    with page.expect_download() as got:
        row.get_by_role("button", name="Download").click()
    assert got.value.suggested_filename.lstrip("._") == saved.lstrip("._")
    assert got.value.path().read_bytes() == b"<script>alert(1)</script>"
    assert "\u202e" not in page.inner_text("body")
    assert page.locator("main script").count() == 0


def test_hostile_names_and_targets_stay_text_and_can_be_removed(page, agent):
    name = HOSTILE.replace("/", "")
    agent.put(name, b"x", kind="link", target=HOSTILE)
    agent.put(f"{name}dir", kind="directory")
    files = look(page)
    shown = SHOWN.replace("/", "")
    expect(files.get_by_text(f"{shown}dir")).to_be_visible()
    expect(files.get_by_text(SHOWN, exact=True)).to_be_visible()
    assert page.locator("main img, main script").count() == 0
    files.get_by_role("button", name=f"Remove {shown}dir").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(re.compile("^Type")).fill(f"{shown}dir")
    dialog.get_by_role("button", name="Remove it").click()
    expect(files.get_by_text(f"{shown}dir")).to_have_count(0)
    assert f"{name}dir" not in agent.files


def test_an_upload_is_there_whole_or_not_at_all(page, agent):
    look(page)
    whole = bytes(range(256)) * 1500  # three pieces
    page.locator("#files-upload").set_input_files({"name": "up.bin", "mimeType": "text/html", "buffer": whole})
    expect(page.get_by_text("up.bin is there whole")).to_be_visible()
    assert agent.files["up.bin"]["data"] == whole
    pieces = [params for method, params in agent.requests if method == "file.write"]
    assert len(pieces) == 3
    assert all(params["path"].startswith(".codesmith-upload-") for params in pieces)
    assert len({params["request_id"] for params in pieces}) == 3
    # One that fails leaves nothing.
    write, seen = agent.file_write, []

    def fail(**given):
        seen.append(given)
        if len(seen) == 2:
            raise Refusal(1008, "the disk is full", kind="limit")
        return write(**given)

    agent.file_write = fail
    page.locator("#files-upload").set_input_files({"name": "no.bin", "mimeType": "", "buffer": whole})
    expect(page.get_by_text("no.bin: the disk is full")).to_be_visible()
    assert "no.bin" not in agent.files
    assert not [path for path in agent.files if "upload" in path]


def test_an_upload_replaces_a_file_only_after_its_name_was_typed(page, agent):
    agent.files["notes.txt"]["mode"] = "0600"
    look(page)
    chooser = page.locator("#files-upload")
    chooser.set_input_files({"name": "notes.txt", "mimeType": "", "buffer": b""})
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("what is in notes.txt now: 4 B")
    dialog.get_by_role("button", name="Keep it").click()
    assert agent.files["notes.txt"]["data"] == b"one\n"
    chooser.set_input_files({"name": "notes.txt", "mimeType": "", "buffer": b""})
    confirm(page, "notes.txt", "Replace it")
    expect(page.get_by_text("notes.txt is there whole: 0 B")).to_be_visible()
    assert (agent.files["notes.txt"]["data"], agent.files["notes.txt"]["mode"]) == (b"", "0600")


def test_a_text_is_edited_and_a_conflict_keeps_what_was_typed(page, agent):
    agent.put("dos.txt", b"one\r\ntwo\r\n")
    look(page)
    page.get_by_role("button", name="Edit dos.txt").click()
    text = page.get_by_label("Text of dos.txt")
    expect(text).to_be_focused()
    text.fill("one\nthree\n")
    agent.put("dos.txt", b"theirs\r\n")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("What you typed is still here.")).to_be_visible()
    expect(text).to_have_value("one\nthree\n")
    assert agent.files["dos.txt"]["data"] == b"theirs\r\n"
    page.get_by_role("button", name="Show what is there now").click()
    expect(page.get_by_label("What is in dos.txt now")).to_have_value("theirs\n")
    write, hold = agent.file_write, threading.Event()
    agent.file_write = lambda **given: hold.wait(8) and write(**given)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#notices")).to_contain_text("file.write shop on web1 is under way")
    stored = page.evaluate("JSON.stringify({...sessionStorage}) + JSON.stringify({...localStorage})")
    assert "three" not in stored, "a text may be a secret"
    hold.set()
    expect(text).to_have_count(0)
    assert agent.files["dos.txt"]["data"] == b"one\r\nthree\r\n"


def test_a_changed_text_is_not_left_without_a_question(ui, agent, visit):
    page = settled(visit(ui, "/nodes/web1"))
    page.get_by_role("link", name="shop").first.click()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    look(page)
    page.get_by_role("button", name="Edit notes.txt").click()
    text = page.get_by_label("Text of notes.txt")
    text.fill("changed")
    page.get_by_role("navigation").get_by_role("link", name="web1").click()
    expect(text).to_have_value("changed")
    page.evaluate("history.back()")
    for _ in range(100):
        if len(asked) < 2:
            page.wait_for_timeout(50)
    page.wait_for_url("**/workspaces/shop")
    expect(text).to_have_value("changed")
    assert asked == ["confirm", "confirm"]
    text.fill("one\n")
    page.get_by_role("navigation").get_by_role("link", name="web1").click()
    expect(page.get_by_role("heading", name="Workspaces")).to_be_visible()
    assert len(asked) == 2


def test_what_would_not_stay_as_it_is_is_not_edited(page, agent):
    agent.put("mixed.txt", b"one\r\ntwo\nthree\r")
    agent.put("image.png", b"\x89PNG\xff\xfe")
    agent.put("long.txt", b"x" * 200_000)
    agent.put("turned.txt", "a\u202eb\n".encode())
    look(page)
    page.get_by_role("button", name="Edit mixed.txt").click()
    expect(page.get_by_text("Its line ends are of several kinds")).to_be_visible()
    expect(page.get_by_role("button", name="Save", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Edit image.png").click()
    expect(page.get_by_text("image.png is no text")).to_be_visible()
    page.get_by_role("button", name="Edit long.txt").click()
    expect(page.get_by_text("can be edited here; download it")).to_be_visible()
    page.get_by_role("button", name="Edit turned.txt").click()
    expect(page.get_by_text("1 characters of it are invisible")).to_be_visible()


def test_directories_and_files_are_made_renamed_and_removed(page, agent):
    files = look(page)
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="New directory").click()
    dialog.get_by_label("Name in the workspace").fill("code")
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("code exists")
    dialog.get_by_label("Name in the workspace").fill("build")
    dialog.get_by_role("button", name="Make it").click()
    expect(files.get_by_role("row", name="build")).to_contain_text("directory")
    page.get_by_role("button", name="New text file").click()
    dialog.get_by_label("Name in the workspace").fill("new.txt")
    dialog.get_by_role("button", name="Go on").click()
    page.get_by_label("Text of new.txt").fill("fresh\n")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(files.get_by_role("row", name="new.txt")).to_contain_text("6 B")
    files.get_by_role("button", name="Rename new.txt").click()
    dialog.get_by_label("Name in the workspace").fill("notes.txt")
    dialog.get_by_role("button", name="Rename it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("notes.txt exists")
    dialog.get_by_label("Name in the workspace").fill("old.txt")
    dialog.get_by_role("button", name="Rename it").click()
    expect(files.get_by_role("row", name="old.txt")).to_be_visible()
    files.get_by_role("button", name="Remove code").click()
    expect(dialog).to_contain_text("the directory code with everything in it")
    expect(dialog.get_by_role("button", name="Remove it")).to_be_disabled()
    confirm(page, "code", "Remove it")
    expect(files.get_by_role("row", name="code")).to_have_count(1)  # the link, whose target says so
    assert "code/app.py" not in agent.files
    assert agent.files["old.txt"]["data"] == b"fresh\n"


def test_files_can_be_used_with_the_keyboard(page, agent):
    page.get_by_role("button", name="Look at the files").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Files")).to_be_visible()
    tab_to(page, "code/")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="app.py")).to_be_visible()
    tab_to(page, "Edit")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Text of code/app.py")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("print(2)")
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Text of code/app.py")).to_have_count(0)
    assert agent.files["code/app.py"]["data"] == b"print(2)"


def test_read_only_pages_show_files_and_change_none(serve, visit):
    ui = serve("web1", read_only=True)
    ui.nodes["web1"].add("shop")
    ui.nodes["web1"].put("notes.txt", b"one\n")
    page = settled(visit(ui, "/nodes/web1/workspaces/shop"))
    look(page)
    page.get_by_role("button", name="Show notes.txt").click()
    expect(page.get_by_label("Text of notes.txt")).to_have_value("one\n")
    for name in ("Save", "Upload", "New directory", "Rename notes.txt", "Remove notes.txt"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)


def test_files_are_for_everybody(page, agent):
    """axe finds nothing, light and dark, and all of it fits a phone."""
    agent.put("long" * 60 + ".txt", b"x" * 300 + b"\n")
    look(page)
    page.get_by_role("button", name="Edit longlong").click()
    expect(page.locator("textarea.editor")).to_be_visible()
    page.get_by_role("button", name="Remove notes.txt").click()
    is_for_everybody(page)


def test_an_upload_of_several_files_goes_where_it_was_begun(page, agent):
    agent.put("away", kind="directory")
    write, begun, goes = agent.file_write, threading.Event(), threading.Event()
    agent.file_write = lambda **given: begun.set() or (goes.wait(20) and write(**given))
    look(page)
    files = [{"name": name, "mimeType": "", "buffer": b"x"} for name in ("one.bin", "two.bin")]
    page.locator("#files-upload").set_input_files(files)
    assert begun.wait(20)
    page.get_by_role("button", name="Open away").click()
    expect(page.get_by_text("An empty directory.")).to_be_visible()
    goes.set()
    expect(page.get_by_text("two.bin is there whole")).to_be_visible()
    assert {"one.bin", "two.bin"} <= set(agent.files)
