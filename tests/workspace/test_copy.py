"""workspace.copy without a node: places, command lines of rsync, what rsync says, and a tree copied by SFTP."""

from __future__ import annotations

import io
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesmith.cli.hints import completed
from codesmith.errors import BadArgument, Cancelled, CodeSmithError, Unreachable
from codesmith.nodes.registry import Node
from codesmith.sdk.ended import Ended
from codesmith.workspace import copy, copy_place, copy_rsync, rsync_shell
from codesmith.workspace.copy_place import Place
from codesmith.workspace.copy_progress import CopyProgress, clock, size
from codesmith.workspace.copy_result import Copied, NoSuchPath, part_of, sftp_failure
from codesmith.workspace.copy_sftp import Copy, Here
from codesmith.workspace.sftp import Sftp


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("demo:data/x", Place("demo", "data/x")),
        ("demo:", Place("demo", "")),
        ("demo:/tmp/a b", Place("demo", "/tmp/a b")),
        ("./demo:x", Place("", "./demo:x")),
        ("dir/demo:x", Place("", "dir/demo:x")),
        ("Demo:x", Place("", "Demo:x")),
        ("-x", Place("", "-x")),
    ],
)
def test_a_place_is_in_a_workspace_or_here(word: str, place: Place) -> None:
    assert copy_place.parse(word) == place


@pytest.mark.parametrize(
    ("path", "plain", "is_contents"),
    [("", "./", True), ("a", "./a", False), ("a/", "./a/", True), ("-rf", "./-rf", False), ("a:b", "./a:b", False),
     ("/a", "/a", False), (".", "./.", True), ("../x", "../x", False)],
)  # fmt: skip
def test_a_path_is_never_an_option_or_another_machine(path: str, plain: str, is_contents: bool) -> None:
    place = Place("demo", path)
    assert (place.plain, place.is_contents) == (plain, is_contents)


@pytest.mark.parametrize(("source", "destination"), [("a", "b"), ("x:a", "y:b"), ("", "x:a")])
def test_exactly_one_place_is_in_a_workspace(source: str, destination: str) -> None:
    with pytest.raises(BadArgument):
        copy_place.parse_pair(source, destination)


def test_a_refused_place_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "we:ird").write_text("")
    hints = []
    for pair in [("we:ird", "demo:data/"), ("a:x", "b:y z"), ("-", "demo:x"), ("a b", "x")]:
        with pytest.raises(BadArgument) as refused:
            copy_place.parse_pair(*pair)
        hints.append(refused.value.hint)
    assert hints[0] == "inv workspace.copy ./we:ird demo:data/"
    both = completed(hints[1], node="web1")
    assert both.count(" workspace.copy --node web1 ") == 2 and "'b:y z'" in both
    assert "file.read" in hints[2] and "file.write" in hints[2]
    assert hints[3] == "inv workspace.copy 'a b' NAME:x"


def test_what_is_copied_into_is_sent_neither_mode_nor_times(tmp_path: Path) -> None:
    """By the rsync of this machine: the children of the source, and what is to be deleted in a run of its own."""
    source, sink = tree(tmp_path / "source"), tmp_path / "sink"
    for name in ("#x", ";y", "-z"):
        (source / name).write_text(name)
    sink.mkdir(mode=0o700)
    (sink / "extra").write_text("")
    (sink / "d").mkdir()
    (sink / "d" / "extra").write_text("")
    source.chmod(0o755)
    os.utime(source, (1, 1))
    places = ((), "", Place("", f"{source}/"), Place("", str(sink)))
    argv = copy_rsync.command(*places, delete=True, watched=False, named=True)
    subprocess.run(argv, input=copy_rsync.names(sorted(os.listdir(os.fsencode(source)))), check=True)
    subprocess.run(copy_rsync.deletion(*places), check=True)
    subprocess.run(["diff", "-r", "--no-dereference", source, sink], check=True)
    status = sink.stat()
    assert status.st_mode & 0o777 == 0o700 and status.st_mtime > 1 and (sink / "d").stat().st_mode & 0o777 == 0o750


def test_the_command_of_rsync() -> None:
    ssh = ("ssh", "-F", "/a b/config", "-S", "/run/s")
    argv = copy_rsync.command(
        ssh, "demo.web1.codesmith", Place("", "-x"), Place("demo", "to/"), delete=True, watched=False, named=False
    )
    assert argv[-3:] == ["--", "./-x", "demo.web1.codesmith:./to/"]
    assert "--rsh=ssh -F '/a b/config' -S /run/s" in argv
    assert {"--links", "--perms", "--times", "--protect-args", "--delete-delay", "--chmod=u-s,g-s"} <= set(argv)
    assert not {"--owner", "--copy-links", "--info=progress2"} & set(argv)
    watched = copy_rsync.command(ssh, "d", Place("", "x"), Place("d", ""), delete=False, watched=True, named=False)
    assert "--info=progress2" in watched and "--delete-delay" not in watched


def test_what_rsync_says_of_itself() -> None:
    line = b"     32,768,000  10%   31.25MB/s    0:00:09 (xfr#1, to-chk=0/1)"
    assert copy_rsync.read_progress(line) == (32_768_000, 10, "31.25MB/s", "0:00:09")
    assert copy_rsync.read_progress(b"Number of files: 3") is None
    stats = "Number of deleted files: 1,002 (reg: 2)\nNumber of regular files transferred: 12\n"
    stats += "Total transferred file size: 3,000,004 bytes\n"
    assert copy_rsync.read_stats(stats) == Copied(12, 3_000_004, 1002)


@pytest.mark.parametrize(
    ("code", "stderr", "kind", "problem"),
    [
        (23, 'rsync: [sender] link_stat "/srv/x" failed: No such file or directory (2)\nrsync error: some', NoSuchPath,
         "/srv/x: No such file or directory"),
        (11, 'rsync: [receiver] write failed on "/srv/y": No space left on device (28)\n', CodeSmithError,
         'write failed on "/srv/y": No space left on device'),
        (12, "rsync: connection unexpectedly closed (8 bytes received so far) [sender]\n", Unreachable,
         "connection unexpectedly closed (8 bytes received so far) [sender]"),
        (255, "", Unreachable, "the connection to the workspace ended"),
    ],
)  # fmt: skip
def test_an_end_of_rsync_is_one_error(code: int, stderr: str, kind: type[CodeSmithError], problem: str) -> None:
    error, _ = copy_rsync.read_end(code, stderr, Place("", "here"), Place("demo", "there"))
    assert type(error) is kind and error.problem == problem


@pytest.mark.parametrize(
    ("source", "destination", "said", "problem", "hint"),
    [
        (Place("", "nope"), Place("demo", "code/"), '[sender] link_stat "/w/nope" failed', "/w/nope",
         "a place without NAME: is a path of this machine, relative to the current directory"),
        (Place("demo", "nope"), Place("", "x"), '[sender] link_stat "/srv/codesmith/workspaces/demo/nope" failed',
         "demo:nope", "a path in a workspace is relative to its directory: inv file.list demo"),
        (Place("", "a"), Place("demo", "nodir/x/"),
         '[Receiver] mkdir "/srv/codesmith/workspaces/demo/./nodir/x" failed',
         "demo:nodir/x", "inv file.make-directory demo nodir/x --parents"),
        (Place("", "a"), Place("demo", "no/x"), '[Receiver] mkstemp "/srv/codesmith/workspaces/demo/no/.x.a" failed',
         "demo:no/.x.a", "inv file.make-directory demo no --parents"),
        (Place("", "a"), Place("demo", "/tmp/no/x"), '[Receiver] mkstemp "/tmp/no/.x.a" failed', "demo:/tmp/no/.x.a",
         "inv workspace.exec demo -- mkdir -p /tmp/no"),
        (Place("demo", "a"), Place("", "no dir/x"), '[Receiver] mkstemp "/w/no dir/.x.a" failed', "/w/no dir/.x.a",
         "mkdir -p 'no dir'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_as_typed_with_what_helps_on_its_side(
    source: Place, destination: Place, said: str, problem: str, hint: str
) -> None:
    error, _ = copy_rsync.read_end(23, f"rsync: {said}: No such file or directory (2)\n", source, destination)
    assert error is not None
    assert (error.problem, error.hint) == (f"{problem}: No such file or directory", hint)


def test_a_directory_onto_a_file_has_a_hint() -> None:
    said = "ERROR: destination must be a directory when copying more than 1 file\n"
    error, _ = copy_rsync.read_end(3, said, Place("", "src/"), Place("demo", "AGENTS.md"))
    assert error is not None and error.problem == "demo:AGENTS.md is no directory"
    assert error.hint.endswith("inv workspace.copy src/ demo:")


def test_files_that_vanished_are_no_error() -> None:
    assert copy_rsync.read_end(24, 'file has vanished: "/x"\n', Place("", "a"), Place("demo", "b")) == (
        None,
        ['file has vanished: "/x"'],
    )


def tree(top: Path) -> Path:
    (top / "d").mkdir(parents=True)
    (top / "d" / "f").write_bytes(os.urandom(300_000))
    (top / "link").symlink_to("/etc/passwd")
    (top / "d").chmod(0o750)
    Path(os.fsdecode(os.fsencode(top) + b"/\xff")).write_text("x")
    return top


def run(source: Path, sink: Path, *, delete: bool = False, is_contents: bool = True, is_into: bool = False) -> Copied:
    """Copy a tree; both sides are this machine."""
    work = Copy(Here(), Here(), delete=delete, on_bytes=lambda _: None)
    return work.run(os.fsencode(source), os.fsencode(sink), is_contents=is_contents, is_into=is_into)


def test_a_tree_by_sftp_is_the_same_tree(tmp_path: Path) -> None:
    source, sink = tree(tmp_path / "source"), tmp_path / "sink"
    assert run(source, sink) == Copied(2, 300_001, 0)
    subprocess.run(["diff", "-r", "--no-dereference", source, sink], check=True)
    assert (sink / "d").stat().st_mode & 0o777 == 0o750
    assert run(source, sink) == Copied(0, 0, 0)
    (sink / "more").mkdir()
    (sink / "more" / "x").write_text("")
    assert run(source, sink).deleted == 0
    assert run(source, sink, delete=True).deleted == 2


def test_by_sftp_what_is_copied_into_keeps_its_mode_and_times(tmp_path: Path) -> None:
    source, sink = tree(tmp_path / "source"), tmp_path / "sink"
    sink.mkdir(mode=0o700)
    source.chmod(0o755)
    os.utime(source, (1, 1))
    run(source, sink)
    assert sink.stat().st_mode & 0o777 == 0o700 and sink.stat().st_mtime > 1
    run(source, tmp_path / "new")
    assert ((tmp_path / "new").stat().st_mode & 0o777, (tmp_path / "new").stat().st_mtime) == (0o755, 1)


def test_sftp_writes_whole_files_only_and_through_no_link(tmp_path: Path) -> None:
    source, sink, outside = tree(tmp_path / "source"), tmp_path / "sink", tmp_path / "outside"
    outside.mkdir()
    sink.mkdir()
    (sink / "d").symlink_to(outside)
    (sink / ".f.codesmith-partial").write_text("of an earlier one")
    run(source, sink)
    assert list(outside.iterdir()) == [] and (sink / "d" / "f").is_file() and not (sink / "d").is_symlink()
    assert not list(sink.rglob("*partial*"))


class Together(Here):
    """Files of this machine; two of them are written at the same time."""

    def __init__(self) -> None:
        self.written = threading.Barrier(2)

    def write(self, path: bytes, pieces: Iterator[bytes]) -> None:
        super().write(path, pieces)
        self.written.wait(10)


def test_files_whose_long_names_begin_alike_do_not_meet(tmp_path: Path) -> None:
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.mkdir()
    for end in ("one", "two"):
        (source / ("x" * 240 + end)).write_text(end)
    work = Copy(Here(), Together(), delete=False, on_bytes=lambda _: None)
    work.run(os.fsencode(source), os.fsencode(sink), is_contents=True, is_into=False)
    subprocess.run(["diff", "-r", source, sink], check=True)


def test_a_failed_write_names_the_file_and_not_its_part() -> None:
    error = OSError(28, "No space left on device", b"dir/" + part_of(b"file"))
    assert sftp_failure(error, Place("demo", "x"), Place("", "dir")).problem.startswith("dir/file: No space left")


def test_a_directory_goes_into_another_and_a_file_gets_a_name(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    run(source, tmp_path / "sink", is_contents=False)
    subprocess.run(["diff", "-r", "--no-dereference", source, tmp_path / "sink" / "source"], check=True)
    run(source / "d" / "f", tmp_path / "named", is_contents=False)
    run(source / "d" / "f", tmp_path / "into", is_contents=False, is_into=True)
    assert (tmp_path / "named").is_file() and (tmp_path / "into" / "f").is_file()
    with pytest.raises(OSError, match="No such file"):
        run(tmp_path / "nothing", tmp_path / "sink")


def test_a_program_that_is_no_sftp_server_is_an_error() -> None:
    with pytest.raises(Unreachable):
        Sftp(["true"])


def test_what_is_said_beside_the_answers_reaches_no_terminal_as_it_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Unreachable):
        Sftp(["sh", "-c", "yes x | head -n 99 >&2; printf '\\033]0;title\\007' >&2"])
    said = capfd.readouterr().err
    assert "\033" not in said and "title" in said
    assert said.count("x\n") < 20


def test_ctrl_c_before_anything_is_copied_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("codesmith.workspace.copy.has_rsync", interrupted)
    node = Node(name="web1", host="web1", registry=Path("nodes.yaml"))
    with pytest.raises(Cancelled, match="cancelled: nothing was copied"):
        copy.copy(node, "a", "demo:b")


@pytest.mark.parametrize(
    ("ended", "code"),
    [(Ended(0), 0), (Ended(23), 23), (Ended(127), 127), (Ended(None, state="lost"), 255),
     (Ended(137, "SIGKILL", "operator", state="killed"), 255)],
)  # fmt: skip
def test_a_shell_of_rsync_ends_as_its_command_does(ended: Ended, code: int) -> None:
    assert rsync_shell.code_of(ended) == code


def test_a_shell_without_a_workspace_ends_like_a_lost_ssh(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("nodes: {}\n")
    argv = rsync_shell.command(Node(name="gone", host="gone", registry=nodes), "demo", 0)
    done = subprocess.run([*argv, "demo", "rsync"], input="", capture_output=True, text=True, check=False)
    error, _ = copy_rsync.read_end(done.returncode, done.stderr, Place("", "a"), Place("demo", "b"))
    assert isinstance(error, Unreachable) and "gone" in error.problem


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    piped, shown = io.StringIO(), Terminal()
    for stream in (piped, shown):
        monkeypatch.setattr("codesmith.workspace.copy_progress.EVERY_S", 0)
        with CopyProgress(stream) as progress:
            progress.expect(4_000_000)
            progress.add(1_000_000)
    assert piped.getvalue() == "" and " 25 %  1.0 MB  " in shown.getvalue() and " left" in shown.getvalue()
    assert (size(1_500_000_000), clock(3725)) == ("1.5 GB", "1:02:05")
