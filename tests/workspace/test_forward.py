"""workspace.forward without a node: ports, the command of ssh, the command line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from invoke.context import Context

from codesmith.errors import BadArgument, CodeSmithError
from codesmith.nodes.registry import Registry
from codesmith.tasks import root
from codesmith.workspace import forward
from codesmith.workspace.forward import Port


def test_a_port_may_have_another_number_here() -> None:
    assert forward.parse(["3000", "8000:18000"]) == [Port(3000, 3000), Port(8000, 18000)]


@pytest.mark.parametrize("words", [["0"], ["65536"], ["http"], ["1:2:3"], [":1"], ["1:"], ["²"], ["1", "2:1"]])
def test_what_is_no_port_is_refused(words: list[str]) -> None:
    with pytest.raises(BadArgument):
        forward.parse(words)


def test_a_taken_port_is_named_or_replaced(place: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(CodeSmithError, match=rf"127\.0\.0\.1:{number} is taken by "):
            forward.place("demo", Port(3000, number), any_port=False)
        placed = forward.place("demo", Port(3000, number), any_port=True, avoid={number + 1})
        assert placed.inside == 3000 and placed.local > number + 1
        assert forward.place("demo", Port(3000, number), any_port=False, ours={Port(3000, number)}).local == number


def test_ssh_listens_on_loopback_alone_and_ends_if_it_cannot(place: object) -> None:
    node = Registry.load(Path(os.environ["CODESMITH_NODES"])).get("web1")
    argv = forward.command(node, "demo", [Port(3000, 3001), Port(5, 6006)])
    assert argv[0] == "ssh" and argv[-1] == "demo.web1.codesmith" and "-N" in argv
    assert [argv[at + 1] for at, word in enumerate(argv) if word == "-L"] == [
        "127.0.0.1:3001:localhost:3000", "127.0.0.1:6006:localhost:5",
    ]  # fmt: skip
    assert "ExitOnForwardFailure=yes" in argv


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "workspace.forward needs a port"),
        (("node.list",), "not 'node.list'"),
        (("first", "--background", "3000"), "not 'first'"),
        (("3000", "--background", "last"), "not 'last'"),
        (("3000", "--list", "--stop"), "takes --list or --stop alone"),
        (("3000", "--bogus"), "--bogus"),
    ],
)
def test_a_command_line_that_is_none_is_an_error(place, words: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    done = place.inv("workspace.forward", "demo", *words)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_options_and_ports_may_be_mixed(place) -> None:  # type: ignore[no-untyped-def]
    done = place.inv("workspace.forward", "demo", "3000", "--node", "nowhere", "8000:18000", "--background")
    assert done.returncode == 3 and "nowhere" in done.stderr


def test_from_python_one_word_is_enough(place) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadArgument, match="not 'x'"):
        root()["workspace.forward"](Context(), name="demo", ports="x")
