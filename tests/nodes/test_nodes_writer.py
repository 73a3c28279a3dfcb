"""node.add and node.remove change their own lines of nodes.yaml and no other byte."""

from __future__ import annotations

import threading

import pytest

from codesmith.errors import BadRegistry, CodeSmithError, UnknownNode
from codesmith.nodes import writer
from codesmith.nodes.registry import Registry

FILE = """\
# Ours. Ask Ada before you touch web1.
default:   web1     # the old one

nodes:
    # Rack 7,   bottom.
    web1:
        host: web1.example.org
        tags: [ eu,   "x y" ]   # odd spacing stays

    # The second
    # has two lines of comment.
    web2: {host: '10.0.0.2'}

    # web3:
    #    host: not yet
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text(FILE)
    return path


def test_a_new_node_stands_behind_the_last_one_and_every_other_line_stays(file):
    writer.add(
        file, "db1", {"host": "db1", "port": 2222, "ssh": "openssh", "tags": ("eu", "x y"), "labels": {"rack": "7"}}
    )
    lines = ["host: db1", "port: 2222", "ssh: openssh", 'tags: [eu, "x y"]', 'labels: {rack: "7"}']
    added = "    db1:\n" + "".join(f"      {line}\n" for line in lines)
    marker = "    web2: {host: '10.0.0.2'}\n"
    assert file.read_text() == FILE.replace(marker, marker + added)
    assert Registry.load(file).get("db1").tags == ("eu", "x y")


def test_a_removed_node_takes_the_comment_right_above_it_along_and_nothing_else(file):
    assert writer.remove(file, "web2") is False
    gone = "    # The second\n    # has two lines of comment.\n    web2: {host: '10.0.0.2'}\n\n"
    assert file.read_text() == FILE.replace(gone, "")


@pytest.mark.parametrize("style", [">-", "|-"])
@pytest.mark.parametrize("after", ["  # about b\n  b: {host: y}\n", "  b: {host: y}\n  # the end\n", ""])
def test_a_removed_node_whose_last_value_is_a_block_takes_nothing_after_it_along(file, style, after):
    before = "nodes:\n  z: {host: z}\n"
    file.write_text(f"{before}  a:\n    host: x\n    identity: {style}\n      key\n{after}")
    text = file.read_text()
    writer.add(file, "c", {"host": "c"})
    writer.remove(file, "c")
    assert file.read_text() == text
    writer.remove(file, "a")
    assert file.read_text() == before + after


def test_a_removed_default_takes_its_line_along(file):
    assert writer.remove(file, "web1") is True
    text = file.read_text()
    assert "default" not in text
    assert "Rack 7" not in text
    assert text.startswith("# Ours. Ask Ada before you touch web1.\n")
    assert list(Registry.load(file).nodes) == ["web2"]


def test_the_last_node_can_go_and_another_can_come(file):
    writer.remove(file, "web1")
    writer.remove(file, "web2")
    assert Registry.load(file).nodes == {}
    writer.add(file, "new", {"lab": "trixie"})
    assert list(Registry.load(file).nodes) == ["new"]
    assert "#    host: not yet" in file.read_text()


@pytest.mark.parametrize(
    "text", ["nodes: {}\n", "nodes:\n", "nodes: ~  # none yet\n", "# only this\nnodes: null\n", "nodes: {}"]
)
def test_the_first_node_comes_into_an_empty_registry(file, text):
    file.write_text(text)
    writer.add(file, "a", {"host": "x"})
    assert Registry.load(file).get("a").host == "x"
    assert ("none yet" in text) == ("none yet" in file.read_text())


def test_a_file_that_is_not_there_is_made(tmp_path):
    writer.add(tmp_path / "new.yaml", "a", {"host": "x"})
    assert list(Registry.load(tmp_path / "new.yaml").nodes) == ["a"]


@pytest.mark.parametrize(
    "value", ["on", "123", "1.5", "~", "a: b", "x # y", "!t", "*a", "[x", "0x1F", "2026-11-23", "null"]
)
def test_a_value_that_yaml_would_read_otherwise_is_quoted(file, value):
    writer.add(file, "a", {"host": "x", "identity": value, "tags": (value,), "labels": {"k": value}})
    node = Registry.load(file).get("a")
    assert (node.identity, node.tags, node.labels) == (value, (value,), (("k", value),))


def test_a_name_that_is_taken_is_refused_with_its_line(file):
    with pytest.raises(CodeSmithError, match=r":12: there is a node 'web2' already"):
        writer.add(file, "web2", {"host": "x"})
    assert file.read_text() == FILE


def test_bad_settings_change_nothing(file):
    with pytest.raises(BadRegistry, match=r"^error: node 'a' cannot be added: nodes.a.port: '70000'") as caught:
        writer.add(file, "a", {"host": "x", "port": 70000})
    assert caught.value.hint == "inv node.add --help"  # there is no line of the file to correct
    with pytest.raises(BadRegistry, match="'' is not a node's name"):
        writer.add(file, "", {"host": "x"})
    with pytest.raises(BadRegistry, match="neither `host` nor `lab`"):
        writer.add(file, "a", {"user": "x"})
    assert file.read_text() == FILE
    assert [path.name for path in file.parent.iterdir()] == ["nodes.yaml"]


def test_a_bad_file_is_not_touched(file):
    file.write_text("nodes:\n  a: {hots: x}\n")
    for change in (lambda: writer.add(file, "b", {"host": "x"}), lambda: writer.remove(file, "a")):
        with pytest.raises(BadRegistry, match="no such key"):
            change()
    assert file.read_text() == "nodes:\n  a: {hots: x}\n"


def test_a_file_in_flow_style_is_refused_with_the_text_to_add(file):
    file.write_text("nodes: {a: {host: x}}\n")
    with pytest.raises(BadRegistry) as caught:
        writer.add(file, "b", {"host": "other"})
    assert caught.value.hint == "add it by hand: b: {host: other}"
    with pytest.raises(BadRegistry, match="on shared lines"):
        writer.remove(file, "a")


def test_a_node_that_others_refer_to_is_not_taken_from_under_them(file):
    text = "nodes:\n  a: &a\n    host: x\n  b: *a\n"
    file.write_text(text)
    with pytest.raises(BadRegistry):
        writer.remove(file, "a")
    assert file.read_text() == text
    writer.remove(file, "b")
    assert list(Registry.load(file).nodes) == ["a"]


def test_an_unknown_node_cannot_be_removed(file):
    with pytest.raises(UnknownNode):
        writer.remove(file, "web9")


def test_a_link_stays_a_link_and_the_mode_stays(file, tmp_path):
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    writer.add(link, "a", {"host": "x"})
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert "a" in Registry.load(file).nodes


def test_nodes_added_at_the_same_time_are_all_there(file):
    threads = [threading.Thread(target=writer.add, args=(file, f"n{number}", {"host": "x"})) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Registry.load(file).nodes) == 14


def test_a_change_that_would_not_come_out_as_asked_is_refused(file):
    text = "nodes:\n  a: {host: x\n    }\n  b: {host: y}\n  c: {host: z}\n"
    file.write_text(text)
    with pytest.raises(BadRegistry, match="too unusual to be changed safely"):
        writer.remove(file, "a")
    assert file.read_text() == text


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no mark", "a byte order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("last", [b"", b"\n# the end"], ids=["a last line end", "no last line end"])
def test_whatever_ends_lines_every_other_byte_stays(file, mark, end, last):
    before = mark + b"# Ours.\nnodes:\n  a: {host: x}  # ours\n".replace(b"\n", end) + last.replace(b"\n", end)
    file.write_bytes(before)
    writer.add(file, "b", {"host": "box"})
    added = end.join([b"  b:", b"    host: box", b""])
    assert file.read_bytes() == before.replace(b"# ours" + end, b"# ours" + end + added)
    writer.remove(file, "b")
    assert file.read_bytes() == before
