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
from codesmith.tunnel.state import ForwardState
from codesmith.workspace import forward, forwarding, listening
from codesmith.workspace.forward import Port
from tests.sdk.stream_doubles import stand_in
from tests.tasks.test_deletes import WORKSPACE


def test_a_port_may_have_another_number_here() -> None:
    assert forward.parse(["3000", "18000:8000"]) == [Port(inside=3000, local=3000), Port(inside=8000, local=18000)]


@pytest.mark.parametrize("words", [["0"], ["65536"], ["http"], ["1:2:3"], [":1"], ["1:"], ["²"], ["1", "1:2"]])
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


def test_a_port_that_a_forward_of_ours_has_is_said_with_how_to_end_it(
    place: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        mine = ForwardState("web2", "nodes.yaml", "shop", 8000, number, "ready", "", 0.0)
        monkeypatch.setattr(forward.control, "forwards", lambda: [mine])
        with pytest.raises(CodeSmithError, match="our own forward of port 8000 of shop on web2") as refused:
            forward.place("demo", Port(3000, number), any_port=False)
    assert refused.value.hint.startswith(
        "inv workspace.forward shop 8000 --stop --node web2; or inv workspace.forward "
    )
    assert refused.value.hint.endswith(":3000")


def test_what_listens_inside_is_read_from_its_tables() -> None:
    table = """  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F40 0100007F:0BB8 01 00000000:00000000
  sl  local_address                         remote_address
   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0
"""
    assert listening.read(table) == {3000, 22}
    assert listening.note("demo", [8000]) == "nothing listens at port 8000 of demo yet; the forward stays"


def test_a_time_in_a_list_is_rfc_3339() -> None:
    state = ForwardState("web1", "nodes.yaml", "demo", 1, 2, "ready", "", 1_577_836_800.5)
    assert forwarding.row(state)["since"] == "2020-01-01T00:00:00Z"


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


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "workspace.forward needs a port: demo has no label `ports`"),
        ({"ports": " "}, "workspace.forward needs a port: demo has no label `ports`"),
        ({"ports": "web"}, "the label `ports` of demo is 'web': a port is 3000, or 18000:8000"),
    ],
)
def test_without_ports_those_of_the_label_are_needed(place, labels: dict[str, str], message: str) -> None:  # type: ignore[no-untyped-def]
    with stand_in(place.endpoint(), workspace_get={**WORKSPACE, "labels": labels}):
        done = place.inv("workspace.forward", "demo")
    assert done.returncode == 1 and message in done.stderr and "inv workspace.forward demo 3000" in done.stderr


def test_without_ports_those_of_the_label_are_taken(place) -> None:  # type: ignore[no-untyped-def]
    node = Registry.load(Path(os.environ["CODESMITH_NODES"])).get("web1")
    with stand_in(place.endpoint(), workspace_get={**WORKSPACE, "labels": {"ports": "3000,18000:8000"}}) as server:
        assert forwarding.ports_of(node, "demo", []) == [Port(3000, 3000), Port(8000, 18000)]
        asked = len(server.calls)
        assert forwarding.ports_of(node, "demo", ["5"]) == [Port(5, 5)] and len(server.calls) == asked


@pytest.mark.slow
def test_a_list_needs_no_workspace(place) -> None:  # type: ignore[no-untyped-def]
    done = place.inv("workspace.forward", "--list", "--json")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    for words in ((), ("--stop",), ("--background",)):
        done = place.inv("workspace.forward", *words)
        assert done.returncode == 1 and "workspace.forward needs NAME" in done.stderr


def test_options_and_ports_may_be_mixed(place) -> None:  # type: ignore[no-untyped-def]
    done = place.inv("workspace.forward", "demo", "3000", "--node", "nowhere", "18000:8000", "--background")
    assert done.returncode == 3 and "nowhere" in done.stderr


def test_from_python_one_word_is_enough(place) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadArgument, match="not 'x'"):
        root()["workspace.forward"](Context(), name="demo", ports="x")
