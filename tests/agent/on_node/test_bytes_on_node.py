"""Input and output of a command are bytes: none is lost, replaced or added, and omitted ones are counted."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab
MIB = 1 << 20
ECHO = "tee data/in; cat data/in >&2"
ALL = bytes(range(256)) * 4


def test_random_bytes_come_back_as_they_are(web1: Web1) -> None:
    web1.client.workspace.create(name="bytes")
    run = web1.client.workspace.exec
    blob = random.Random(1).randbytes(150_000)
    done = run(name="bytes", argv=["sh", "-c", ECHO], stdin=base64.b64encode(blob).decode(), encoding="base64")
    assert (done.stdout_encoding, done.stderr_encoding, done.truncated, done.omitted_bytes) == (
        *["base64"] * 2,
        False,
        0,
    )
    assert base64.b64decode(done.stdout) == base64.b64decode(done.stderr) == blob
    done = run(name="bytes", argv=["sh", "-c", "head -c 1000 /dev/urandom | tee data/random; echo ok >&2"])
    assert (done.stdout_encoding, done.stderr, done.stderr_encoding) == ("base64", "ok\n", "text")
    read = web1.on("base64 -w0 /srv/codesmith/workspaces/bytes/data/random").out
    assert (done.stdout, len(base64.b64decode(read))) == (read, 1000)


def test_text_stays_text_and_base64_is_asked_for(web1: Web1) -> None:
    web1.client.workspace.create(name="text")
    run = web1.client.workspace.exec
    done = run(name="text", argv=["printf", "Gr\\303\\274\\303\\237e\\r\\n\\0\\033[0m"])
    assert (done.stdout, done.stdout_encoding) == ("Grüße\r\n\0\x1b[0m", "text")
    assert run(name="text", argv=["printf", "Gr\\303"]).stdout == base64.b64encode(b"Gr\xc3").decode()
    done = run(name="text", argv=["cat"], stdin="Z3LDvMOf", encoding="base64")
    assert (base64.b64decode(done.stdout).decode(), done.stdout_encoding, done.stderr_encoding) == (
        "grüß", "base64", "base64"
    )  # fmt: skip
    refusal = web1.refuses(run, "invalid_params", name="text", argv=["cat"], stdin="no base64", encoding="base64")
    assert "stdin: must be base64" in str(refusal)
    web1.refuses(run, "invalid_params", name="text", argv=["cat"], encoding="latin-1")


def test_of_a_long_output_both_ends_are_kept(web1: Web1) -> None:
    web1.client.workspace.create(name="much")
    run = web1.client.workspace.exec
    print_all = "import sys; [print(f'{n:07}', file=(sys.stdout, sys.stderr)[n % 2]) for n in range(600_000)]"
    done = run(name="much", argv=["python3", "-c", print_all])
    for text, first, last in ((done.stdout, 0, 599_998), (done.stderr, 1, 599_999)):
        lines = text.splitlines()
        assert (len(text), lines[0], lines[-1], lines[65535]) == (
            MIB,
            f"{first:07}",
            f"{last:07}",
            f"{131070 + first:07}",
        )
    assert (done.truncated, done.omitted_bytes) == (True, 600_000 * 8 - 2 * MIB)
    cut = run(name="much", argv=["python3", "-c", "print('x' + 'ü' * 1_000_000)"])
    assert (cut.stdout.strip("xü\n"), cut.stdout_encoding) == ("", "text")
    assert len(cut.stdout.encode()) + cut.omitted_bytes == 2_000_002
    binary = run(name="much", argv=["head", "-c", str(2 * MIB), "/dev/urandom"])
    assert (len(base64.b64decode(binary.stdout)), binary.omitted_bytes) == (MIB, MIB)


def test_a_persons_pipe_gets_bytes(web1: Web1, tmp_path: Path) -> None:
    web1.client.workspace.create(name="pipe")
    (tmp_path / "blob").write_bytes(ALL)
    command = f"inv workspace.exec pipe --stdin {tmp_path}/blob --node web1 -- sh -c '{ECHO}'"
    web1.person.runs(f"{command} > {tmp_path}/out 2> {tmp_path}/err")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "err").read_bytes() == ALL
    web1.person.runs(f"{command} 2> /dev/null | cat > {tmp_path}/piped; exit ${{PIPESTATUS[0]}}")
    assert (tmp_path / "piped").read_bytes() == ALL
    web1.person.runs(f"cat {tmp_path}/blob | inv workspace.exec pipe --stdin - --node web1 -- cat > {tmp_path}/out")
    assert (tmp_path / "out").read_bytes() == ALL
    assert base64.b64decode(web1.on("base64 -w0 /srv/codesmith/workspaces/pipe/data/in").out) == ALL
    shown = web1.person.runs("inv workspace.exec pipe --node web1 --json -- head -c 9 data/in").json
    assert (shown["stdout"], shown["stdout_encoding"]) == ("\0\1\2\3\4\5\6\7\x08", "text")
    shown = web1.person.runs("inv workspace.exec pipe --node web1 --json -- tail -c 9 data/in").json
    assert (base64.b64decode(shown["stdout"]), shown["stdout_encoding"]) == (ALL[-9:], "base64")
    said = web1.person.runs("inv workspace.exec pipe --node web1 -- head -c 2097152 /dev/zero | wc -c")
    assert (said.out, said.err) == ("2097152\n", "")
